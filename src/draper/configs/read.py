"""What a reader may be told about files that do not say it themselves, and what to do with their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from draper.config import Config
from draper.configs.windows import in_pairs


class ReadConfig(Config):
    """Hints for reading files, and the steps from files to one set of spectra."""

    format: str | None = None
    """Name of the file format, one that `draper formats` lists; recognised from the content unless given."""
    unit: str | None = None
    """Unit of the wavelengths (angstrom, nm, um), for files that do not say it or say it wrongly."""
    medium: Literal["air", "vacuum"] | None = None
    """Whether the wavelengths are in air or vacuum, for files that do not say it or say it wrongly."""
    quantity: Literal["flux", "normalised flux", "transit depth"] | None = None
    """What the values are, for files that do not say it."""
    resolving_power: float | None = None
    """lambda / FWHM of the spectrograph, recorded with the grid."""
    wavelength_column: str | None = None
    """Name (or number, from 0) of the wavelength column of a table, where draper does not know it."""
    flux_column: str | None = None
    """Name (or number) of the flux column."""
    error_column: str | None = None
    """Name (or number) of the column of 1-sigma errors."""
    wavelengths: Path | None = None
    """File (npz, npy, text) that holds the wavelengths, where the data file has none."""
    columns: tuple[str, ...] = ()
    """Names of the label columns, in order, for files that do not name them."""
    labels: tuple[Path, ...] = ()
    """Tables (CSV, ECSV, FITS, VOTable) with one row for each spectrum, joined by file name or id."""
    key: str | None = None
    """Column of the label tables that names the file or id; found by itself unless given."""
    rename: dict[str, str] = {}
    """Columns to rename (--rename.OLD NEW). Names of other codes (feh) get draper's names without it."""
    formula: tuple[str, ...] = ()
    """New columns, such as 'A_Li = li_fe + 1.05 + fe_h'."""
    repeated: Literal["refuse", "mean"] = "refuse"
    """What to do with pixels of a text file that share a wavelength."""
    cut: tuple[tuple[float, float], ...] = ()
    """Keep only these ranges (low, high) of vacuum wavelength in Angstrom."""
    reject: tuple[Literal["nan", "negative", "empty"], ...] = ()
    """Drop spectra with any bad pixel (nan), any negative good pixel (negative), or no good pixel (empty)."""
    select: tuple[str, ...] = ()
    """Keep only spectra with a column in a range, or of a value: teff=4000,7000 survey=galah."""
    grid: str | None = None
    """Resample onto the grid of this FILE, or onto the 'common' range of all files."""
    fill: bool = False
    """Fill the table columns that some files lack with NaN, instead of stopping."""

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
        """What ``select`` says, as arguments of :meth:`draper.data.spectra.Spectra.select`."""
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
