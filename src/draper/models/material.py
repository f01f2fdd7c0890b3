"""What a model learns from: which spectra, which are held out, and how to recognise them again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch

from draper.data.io import read
from draper.data.spectra import Spectra, Subset
from draper.errors import DraperError

HELD_OUT = 0.1
"""Fraction of the objects that are held out when nothing else is said."""

Data = Spectra | str | Path


def as_spectra(data: Data) -> Spectra:
    """Return spectra as they are, or those of a file."""
    return data if isinstance(data, Spectra) else read(data)


def divide(spectra: Spectra, valid: Data | float | None, seed: int) -> tuple[Subset, Subset]:
    """Return what is learnt from and what is held out; ``valid`` is as in :meth:`Model.fit`."""
    if isinstance(valid, (Spectra, str, Path)):
        return Subset.whole(spectra), Subset.whole(as_spectra(valid))
    fraction = HELD_OUT if valid is None else valid
    if not 0 <= fraction < 1:
        raise DraperError("the held-out fraction is below 1", given=fraction, expected="0 <= fraction < 1")
    if fraction == 0:
        return Subset.whole(spectra), Subset.whole(spectra[:0])
    learnt, held_out = (Subset(spectra, rows) for rows in spectra.split_rows(1 - fraction, seed=seed))
    if len(learnt) == 0:
        raise DraperError(
            "too few objects to hold some out",
            given=f"{len(spectra)} spectra",
            hint="pass valid=0, or more spectra",
        )
    return learnt, held_out


def fingerprint(subset: Subset) -> str:
    """Return a short hash of the grid, the number of spectra and a sample of them."""
    digest = hashlib.sha256(f"{subset.grid.fingerprint} {len(subset)}".encode())
    sample = subset.spectra[subset.rows[np.linspace(0, len(subset) - 1, min(64, len(subset))).astype(int)]]
    for values in (sample.flux, sample.ivar):
        digest.update(np.ascontiguousarray(values).tobytes())
    for name, column in sample.table.items():
        digest.update(f"{name} {column.tolist()}".encode())
    return digest.hexdigest()[:16]


def free_memory(device: torch.device) -> float:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
