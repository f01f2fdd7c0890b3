"""Networks that other codes have trained: The Payne, one_payne, binspec and Cargile's Payne, in and out."""

from draper.models.emulator.foreign.adopt import adopt
from draper.models.emulator.foreign.export import export
from draper.models.emulator.foreign.formats import formats

__all__ = ["adopt", "export", "formats"]
