"""Options for reading files: properties that files do not declare, and what to do with their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from draper.config import Config
from draper.configs.windows import in_pairs

UNPACKED_LIMIT = 4.0
"""Default of the size [GB] to which a compressed file may unpack."""


class ReadConfig(Config):
    """Options for reading files: properties that they do not declare, and how their spectra are combined."""

    format: str | None = None
    """Name of the file format (`draper formats` lists them); recognised from the content by default."""
    unit: str | None = None
    """Unit of the wavelengths: angstrom, nm or um. Needed where a file declares none, or a wrong one."""
    medium: Literal["air", "vacuum"] | None = None
    """Medium of the wavelengths. Needed where a file declares none, or a wrong one."""
    quantity: Literal["flux", "normalised flux", "transit depth"] | None = None
    """Quantity of the spectra, where a file declares none, or a wrong one."""
    flux_unit: str | None = None
    """Unit of fluxes, such as 'erg / (s cm2 Angstrom)', 'W / (m2 um)' or Jy, where a file declares none."""
    resolving_power: float | None = None
    """Resolving power lambda / FWHM of the spectrograph, above 0; stored with the grid."""
    wavelength_column: str | None = None
    """Name (or number, from 0) of the wavelength column; recognised by its name by default."""
    flux_column: str | None = None
    """Name (or number, from 0) of the flux column; recognised by its name by default."""
    error_column: str | None = None
    """Name (or number, from 0) of the column of 1-sigma errors; recognised by its name by default."""
    wavelengths: Path | None = None
    """File (npz, npy, text) with the wavelengths, for data files that contain none."""
    columns: tuple[str, ...] = ()
    """Names of the label columns, in order, for files that contain no names."""
    labels: tuple[Path, ...] = ()
    """Tables (CSV, ECSV, FITS, VOTable, Parquet) with a row for each spectrum, joined by file name or id."""
    key: str | None = None
    """Column of the label tables that holds the file name or id; recognised by its values by default."""
    rename: dict[str, str] = {}
    """Columns to rename (--rename.OLD NEW); names of other codes, such as feh, are translated without it."""
    formula: tuple[str, ...] = ()
    """New columns computed from others, such as 'A_Li = li_fe + 1.05 + fe_h'."""
    repeated: Literal["refuse", "mean"] = "refuse"
    """Pixels of a text file that share a wavelength: refuse the file, or take their mean."""
    cut: tuple[tuple[float, float], ...] = ()
    """Keep only these wavelength ranges LOW HIGH [vacuum Angstrom]."""
    reject: tuple[Literal["nan", "negative", "empty"], ...] = ()
    """Drop spectra with any bad pixel (nan), any negative good pixel (negative), or no good pixel (empty)."""
    select: tuple[str, ...] = ()
    """Keep only spectra whose column lies in a range or has a value: teff=4000,7000 survey=galah."""
    grid: str | None = None
    """Resample onto the grid of this FILE, or onto the 'common' range of all files."""
    together: bool = False
    """Join files of one spectrum each, on whatever pixels, as the data sets of one object."""
    fill: bool = False
    """Fill table columns that some files lack with NaN, instead of stopping with an error."""
    unpacked_limit: float = Field(UNPACKED_LIMIT, gt=0)
    """Largest size [GB] to which a compressed file (npz, HDF5, gzip, Parquet) may unpack, above 0."""

    @field_validator("cut", mode="before")
    @classmethod
    def _in_pairs(cls, cut: Any) -> Any:
        return in_pairs(cut)

    @field_validator("select")
    @classmethod
    def _is_a_condition(cls, select: tuple[str, ...]) -> tuple[str, ...]:
        for condition in select:
            name, _, value = condition.partition("=")
            if not (name.strip() and value.strip() and value.count(",") <= 1):
                raise ValueError("COLUMN=LOW,HIGH or COLUMN=VALUE")
        return select

    @property
    def selected(self) -> dict[str, Any]:
        """The conditions of ``select`` as arguments of :meth:`draper.data.spectra.Spectra.select`."""
        pairs = (condition.partition("=")[::2] for condition in self.select)
        return {name.strip(): _value(value) for name, value in pairs}


def _value(text: str) -> Any:
    """Return the range, number or text that a condition names."""
    parts = [part.strip() for part in text.split(",")]
    try:
        values: list[Any] = [float(part) for part in parts]
    except ValueError:
        values = list(parts)
    return tuple(values) if len(values) > 1 else values[0]
