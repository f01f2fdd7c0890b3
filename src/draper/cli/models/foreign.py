"""``draper import`` and ``draper export``: networks of other codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from draper.cli.model import opened
from draper.cli.output import say, say_json, two_columns
from draper.cli.parameters import Json, Output, Overwrite
from draper.errors import DraperError

if TYPE_CHECKING:
    import numpy as np


def import_(
    weights: Path,
    *,
    out: Output,
    labels: tuple[str, ...] = (),
    wavelength: str | None = None,
    unit: str | None = None,
    medium: Literal["air", "vacuum"] | None = None,
    resolving_power: float | None = None,
    quantity: Literal["flux", "normalised flux"] | None = None,
    format: str | None = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Import a network of The Payne, one_payne, binspec or Cargile's Payne as a model.

    Example: draper import one_payne.npz -o model/ --medium air

    Example: draper import payne.npz -o model/ --labels teff,logg,feh --wavelength pixels.txt --medium vacuum

    Parameters
    ----------
    weights
        The file (npz, HDF5). Nothing in it is executed.
    out
        Folder of the model, new or empty; --overwrite replaces a model in it.
    labels
        Names of the labels, in order, if the file does not have them.
    wavelength
        FILE of the wavelengths (npz, npy, text), or LOW,HIGH,NUMBER of equal steps, if the file has none.
    unit
        Unit of the wavelengths (angstrom, nm, um); angstrom by default.
    medium
        Medium (air or vacuum) of the wavelengths, if the file does not state it.
    resolving_power
        lambda / FWHM of the training spectra; unknown by default.
    quantity
        Quantity that the network predicts; that of the format by default, mostly normalised flux.
    format
        binspec, yst, smlp, one-payne or the-payne; recognised from the content by default.
    json
        Print JSON.
    """
    from draper.models.emulator.foreign import adopt

    model = adopt(
        weights,
        labels=[name for names in labels for name in names.split(",") if name],
        wavelength=None if wavelength is None else _wavelengths(wavelength),
        unit=unit,
        medium=medium,
        resolving_power=resolving_power,
        quantity=quantity,
        format=format,
    )
    model.save(out, overwrite=overwrite)
    ranges = {label.name: [label.low, label.high] for label in model.labels}
    if json:
        say_json({"path": out, "labels": ranges, "pixels": len(model.own_grid), **model.training})
        return
    rows = {
        "model": f"{out}/",
        "source": model.training["source"],
        "grid": repr(model.grid),
        **{name: f"{low:g} to {high:g} {model.labels[name].unit}" for name, (low, high) in ranges.items()},
    }
    say(two_columns(rows), "Such files hold no errors: all pixels have the same weight in a fit.")


def export(
    model: Path,
    *,
    out: Output,
    medium: Literal["air", "vacuum"] = "air",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export an emulator with bounded output as the npz file of one_payne.

    Example: draper export model/ -o one_payne.npz

    Parameters
    ----------
    model
        The folder of the model.
    out
        The file to write (.npz).
    medium
        Medium of the wavelengths in the file (air or vacuum); the line lists of one_payne are in air.
    json
        Print JSON.
    """
    emulator = opened(model, "export")
    emulator.export(out, medium=medium, overwrite=overwrite)
    if json:
        say_json({"path": out, "medium": medium, "labels": emulator.labels.names})
    else:
        say(two_columns({"written": out, "wavelengths": medium, "labels": ", ".join(emulator.labels.names)}))


def _wavelengths(text: str) -> str | np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the wavelengths of LOW,HIGH,NUMBER, or the name of a file."""
    import numpy as np

    parts = text.split(",")
    try:
        low, high, number = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        return text
    if len(parts) != 3 or not 1 < number < 10**8:
        raise DraperError(
            "cannot read --wavelength",
            given=text,
            expected="LOW,HIGH,NUMBER or a file",
            hint="--wavelength 4000,5000,10001",
        )
    return np.linspace(low, high, number)
