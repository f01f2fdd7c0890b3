"""Built-in samples: small sets of synthetic spectra with their provenance."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from draper.data.spectra import Spectra
from draper.errors import DraperError, did_you_mean

SAMPLES = {
    "sed-grid": "462 stellar spectra in flux units, 3250-10600 A in 20-A bins, 4 labels (Turbospectrum)",
    "rvs-grid": "1847 normalised stellar spectra, 8450-8712 A in 0.05-A steps, 10 labels (Turbospectrum)",
    "optical-grid": "1440 normalised stellar spectra, R = 40,000, 5160-5730 A, 10 labels (Turbospectrum)",
}
"""Name and description of each; ``scripts/pack_samples.py`` makes the files.

``sed-grid`` is kept exactly. ``rvs-grid`` is kept as 600 principal components, which differ from what was
computed by 5e-5 of the normalised flux (rms; the worst spectrum by 7e-5, the worst pixel by 5e-4);
``optical-grid`` as 500 (6e-5, 8e-5, 1e-3).
"""

COMPONENTS = ("mean", "scores", "score_step", "basis", "basis_step")
"""Arrays of a sample kept as principal components: mean (p,), the integers scores (k, n) and basis (k, p),
and the values score_step () and basis_step (k,) of a step of 1 in them."""


def descriptions() -> dict[str, str]:
    """Return the name of each sample with a description of one line."""
    return dict(SAMPLES)


def load(name: str) -> Spectra:
    """Return a built-in sample.

    Examples
    --------
    >>> load("sed-grid")
    Spectra(462 x 367 px, flux, 3260.940-10582.899 A vacuum, columns: id, teff, logg, fe_h, alpha_fe)
    """
    if name not in SAMPLES:
        raise DraperError("there is no such sample", given=name, hint=did_you_mean(name, SAMPLES))
    with as_file(files("draper.data").joinpath("packed", f"{name}.npz")) as path:
        return unpacked(path)


def unpacked(path: Path) -> Spectra:
    """Return the spectra of a packed file: draper's npz, or one whose flux is kept as components."""
    from draper.data.io import read
    from draper.data.parsing.numpy_files import Archive
    from draper.data.readers.draper_npz import spectra_from

    arrays = Archive(path)
    if not set(COMPONENTS) <= set(arrays):
        return read(path)
    flux = decoded(*(arrays[name] for name in COMPONENTS))
    weight = np.broadcast_to(np.float32(1), flux.shape)
    return spectra_from({**arrays, "flux": flux, "ivar": weight})


def decoded(
    mean: NDArray[np.float32],
    scores: NDArray[np.int32],
    score_step: NDArray[np.float32],
    basis: NDArray[np.int32],
    basis_step: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the spectra (n, p) that ``COMPONENTS`` describe."""
    weights = scores.astype(np.float32) * (score_step * basis_step[:, None])
    flux: NDArray[np.float32] = mean + weights.T @ basis.astype(np.float32)
    return flux
