"""Built-in samples: small, physically computed, with their provenance."""

from __future__ import annotations

from importlib.resources import as_file, files

from draper.data.spectra import Spectra
from draper.errors import DraperError, did_you_mean

SAMPLES = {
    "sed-grid": "462 stellar spectra in flux units, 3250-10600 A in 20-A bins, 4 labels (Turbospectrum)",
}
"""Name and one line about each; ``scripts/pack_samples.py`` makes the files."""


def descriptions() -> dict[str, str]:
    """Return the name of each sample with one line about it."""
    return dict(SAMPLES)


def load(name: str) -> Spectra:
    """Return a built-in sample.

    Examples
    --------
    >>> load("sed-grid")
    Spectra(462 x 367 px, flux, 3260.940-10582.899 A vacuum, columns: id, teff, logg, fe_h, alpha_fe)
    """
    from draper.data.io import read

    if name not in SAMPLES:
        raise DraperError("there is no such sample", given=name, hint=did_you_mean(name, SAMPLES))
    with as_file(files("draper.data").joinpath("packed", f"{name}.npz")) as path:
        return read(path)
