"""What a model learns from: which spectra, which are held out, and how to recognise them again."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from draper.data.arrays import blocks_of, has_good_pixel
from draper.data.io import read
from draper.data.spectra import Spectra, Subset
from draper.errors import DraperError

HELD_OUT = 0.1
"""Fraction of the objects that are held out when nothing else is said."""

SAMPLED = 64
"""Spectra that a fingerprint looks at."""

Data = Spectra | str | Path


@dataclass(frozen=True)
class Material:
    """What is learnt from, and what is held out."""

    learnt: Subset
    held_out: Subset

    @cached_property
    def mark(self) -> str:
        """A fingerprint of both parts."""
        return f"{fingerprint(self.learnt)}-{fingerprint(self.held_out)}"

    @property
    def facts(self) -> dict[str, object]:
        """What an artifact says about them."""
        return {
            "source": str(self.learnt.spectra.meta.get("source", "memory")),
            "fingerprint": self.mark,
            "spectra": len(self.learnt),
            "held_out": len(self.held_out),
            "quantity": self.learnt.spectra.quantity,
            "unit": self.learnt.spectra.unit,
        }


def gather(data: Data, valid: Data | float | None, seed: int) -> Material:
    """Divide data by object, or take held-out spectra as they are; spectra without a good pixel are left out.

    Parameters
    ----------
    data
        Spectra, or the path of a file that holds them.
    valid
        Held-out spectra, or which fraction of the objects to hold out; a tenth if None.
    seed
        Decides which.
    """
    spectra = as_spectra(data)
    if len(spectra) == 0:
        raise DraperError("there are no spectra to learn from", given=repr(spectra))
    if isinstance(valid, (Spectra, str, Path)):
        learnt, held_out = Subset.whole(spectra), Subset.whole(as_spectra(valid))
    else:
        learnt, held_out = divide(spectra, HELD_OUT if valid is None else valid, seed)
    learnt, held_out = filled(learnt), filled(held_out)
    if len(learnt) == 0:
        raise DraperError(
            "there is no good pixel to learn from", given=repr(spectra), hint="check the inverse variance"
        )
    return Material(learnt, held_out)


def as_spectra(data: Data) -> Spectra:
    """Return spectra as they are, or those of a file."""
    return data if isinstance(data, Spectra) else read(data)


def divide(spectra: Spectra, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Hold out a fraction of the objects."""
    if not 0 <= fraction < 1:
        raise DraperError("the held-out fraction is below 1", given=fraction, expected="0 <= fraction < 1")
    if fraction == 0:
        return Subset.whole(spectra), Subset.whole(spectra[:0])
    learnt, held_out = (Subset(spectra, rows) for rows in spectra.split_rows(1 - fraction, seed=seed))
    if not (len(learnt) and len(held_out)):
        raise DraperError(
            "too few objects to hold some out",
            given=f"{len(spectra)} spectra",
            hint="pass valid=0 (--valid 0) to hold out none, or give more spectra",
        )
    return learnt, held_out


def filled(subset: Subset) -> Subset:
    """Return the rows that have a good pixel."""
    ivar = subset.spectra.ivar
    good = np.empty(len(ivar), dtype=bool)
    for rows in blocks_of(ivar):
        good[rows] = has_good_pixel(ivar[rows])
    return Subset(subset.spectra, subset.rows[good[subset.rows]])


def fingerprint(subset: Subset) -> str:
    """Return a short hash of the grid, the number of spectra and a sample of them."""
    digest = hashlib.sha256(f"{subset.grid.fingerprint} {len(subset)}".encode())
    chosen = np.linspace(0, len(subset) - 1, min(SAMPLED, len(subset))).astype(int)
    sample = subset.spectra[subset.rows[chosen]]
    for values in (sample.flux, sample.ivar):
        digest.update(np.ascontiguousarray(values).tobytes())
    for name, column in sample.table.items():
        digest.update(f"{name} {column.tolist()}".encode())
    return digest.hexdigest()[:16]


def free_memory(device: torch.device) -> float:
    """Return the bytes that this process may take on a device, of those that are free."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    # Not every system says what is free; a group of processes may be given less than the machine has.
    pages = next(name for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES") if name in os.sysconf_names)
    free = float(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (given := limit.read_text().strip()).isdigit():
        free = min(free, float(given))
    return free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
