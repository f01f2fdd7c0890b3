"""The work of a worker process; nothing here may import torch."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np

from draper.atomic_write import replacing
from draper.errors import DraperError
from draper.simulate.adapters.adapter import Adapter

_active: list[tuple[Adapter, int]] = []
"""The adapter of this process, and the number of pixels of its spectra."""


def begin(adapter: Adapter, pixels: int) -> None:
    """Set the adapter of this process."""
    _active[:] = [(adapter, pixels)]


def begin_process(adapter: Adapter, pixels: int) -> None:
    """Begin as a process of a pool: ignore Ctrl-C, which reaches all processes; the parent handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    begin(adapter, pixels)


def compute_row(labels: dict[str, float], file: Path) -> str:
    """Compute a spectrum and write it to a file, atomically; return an error message, or "" on success."""
    adapter, pixels = _active[0]
    missing = [name for name, value in labels.items() if not np.isfinite(value)]
    if missing:
        return f"no value for {', '.join(missing)}"
    try:
        flux = np.asarray(adapter.spectrum(labels), dtype=np.float64)
    except Exception as error:  # noqa: BLE001 - a foreign code raises anything, and other rows go on
        kind = "" if isinstance(error, DraperError) else f"{type(error).__name__}: "
        return " ".join(f"{kind}{error}".split())
    if flux.shape != (pixels,):
        return f"the spectrum has shape {flux.shape} and not ({pixels},)"
    if not np.isfinite(flux).all():
        return f"{np.count_nonzero(~np.isfinite(flux))} pixels are not finite"
    with replacing(file) as part:
        np.save(part, flux.astype(np.float32))
    return ""
