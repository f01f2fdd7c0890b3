"""What latents tell, and how they lie: ``draper leakage``, ``draper swap`` and ``draper map``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators
from rich.markup import escape

from draper.cli.model import Hints, Json, Output, gathered, opened
from draper.cli.output import say, say_json
from draper.configs.fit import FitConfig
from draper.configs.read import ReadConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.data.spectra import Spectra
    from draper.models.base import Model


def leakage(
    artifact: Path,
    *data: Path,
    out: Output,
    truth: str = "",
    probes: tuple[str, ...] = ("ridge", "boosting", "mlp"),
    seeds: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 3,
    seed: int = 0,
    hints: Hints = ReadConfig(),  # noqa: B008
    plot: Path | None = None,
    json: Json = False,
) -> None:
    """Measure what latents still tell of removed labels, and of kept ones, by fresh probes.

    Example: draper leakage model/ test.h5 -o leakage.json --plot leakage.png

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra with labels, which the model has not seen. Probes learn from 60 % of the stars and
        are judged on the others.
    out
        All figures as .json, or the table as .csv, .ecsv or .fits.
    truth
        End of the names of the columns with true labels: _true in a simulated survey.
    probes
        Which: ridge, boosting, mlp.
    seeds
        How often each probe learns, with other random numbers.
    seed
        The first seed; it also divides the stars.
    hints
        What the files do not say themselves, and what becomes of their rows.
    plot
        Draw floor, ceiling and what each probe reads, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    from draper.results.table import writable

    writable(out, also=(".json",))
    if plot is not None:
        from draper.plots.style import drawable

        drawable(plot)
    model = disentangling(artifact)
    spectra = gathered(data, hints, f"draper leakage {artifact} DATA... -o REPORT.json")
    train, test = spectra.split(0.6, seed=seed)
    numbers = tuple(range(seed, seed + seeds))
    report = model.leakage(train, test, truth=truth, probes=probes, seeds=numbers)  # type: ignore[attr-defined]
    report.write(out)
    if plot is not None:
        from draper.plots.leakage import plot_leakage
        from draper.plots.style import save

        save(plot_leakage(report), plot)
    if json:
        say_json({"path": out, **report.to_json()})
        return
    sys.stdout.write(f"{report!r}\n")
    say(escape(f"written to {', '.join(str(path) for path in (out, plot) if path is not None)}"))


def swap(
    artifact: Path,
    *data: Path,
    out: Output,
    emulator: Path = Path("builtin:rvs-emulator"),
    number: Annotated[int, Parameter(name=["--number", "-n"])] = 400,
    truth: str = "",
    seed: int = 0,
    fit: FitConfig = FitConfig(),  # noqa: B008
    hints: Hints = ReadConfig(),  # noqa: B008
    plot: Path | None = None,
    json: Json = False,
) -> None:
    """Give stars labels of others like them, and read the changes back by an emulator's fit.

    Example: draper swap model/ test.h5 -o swap.json --plot swap.png --truth _true

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra with labels, which the model has not seen.
    out
        The figures as .json, or single changes as .csv, .ecsv or .fits.
    emulator
        An emulator of such spectra.
    number
        Spectra that are relabelled, at most; all of them may give labels.
    truth
        End of the names of the columns with true labels: _true in a simulated survey.
    seed
        Of the choice of stars and of who gives.
    fit
        How labels are fitted.
    hints
        What the files do not say themselves, and what becomes of their rows.
    plot
        Draw the changes read back against those asked for, as .png, .pdf or .svg.
    json
        Print JSON.
    """
    import numpy as np

    from draper.results.table import writable

    writable(out, also=(".json",))
    if plot is not None:
        from draper.plots.style import drawable

        drawable(plot)
    model = disentangling(artifact)
    reader = opened(emulator, "predict")
    if not hasattr(reader, "information"):
        raise DraperError(
            f"a model of the kind '{reader.name}' fits no labels", given=emulator, expected="an emulator"
        )
    spectra = gathered(data, hints, f"draper swap {artifact} DATA... -o SWAP.json")
    some = np.sort(np.random.default_rng(seed).permutation(len(spectra))[:number])
    options = fit.model_dump(exclude_unset=True)
    found = model.swap(spectra[some], spectra, reader, truth=truth, seed=seed, **options)  # type: ignore[attr-defined]
    found.write(out)
    if plot is not None:
        from draper.latents.swap import as_columns
        from draper.plots.relabelled import plot_swap
        from draper.plots.style import save

        save(plot_swap(*as_columns(found)), plot)
    if json:
        say_json({"path": out, **found.to_json()})
        return
    sys.stdout.write(f"{found!r}\n")
    say(escape(f"written to {', '.join(str(path) for path in (out, plot) if path is not None)}"))


def map_latents(
    artifact: Path,
    *data: Path,
    out: Output,
    labels: tuple[str, ...] = (),
    spectra_too: Annotated[bool, Parameter(name="--spectra")] = True,
    number: Annotated[int, Parameter(name=["--number", "-n"])] = 3000,
    perplexity: float = 30.0,
    seed: int = 0,
    old: Annotated[Path | None, Parameter(name="--into")] = None,
    hints: Hints = ReadConfig(),  # noqa: B008
    json: Json = False,
) -> None:
    """Draw latents, and the spectra beside them, in two dimensions (t-SNE), coloured by labels.

    The map of the latents is kept beside the figure (.npz), so that others can be drawn into it (--into).

    Example: draper map model/ test.h5 -o map.png --labels teff fe_h

    Parameters
    ----------
    artifact
        The folder of the model.
    data
        Files of spectra.
    out
        The figure: .png, .pdf or .svg.
    labels
        Columns to colour by; the model's labels unless given.
    spectra_too
        Whether spectra are drawn, too; --spectra=false leaves them out.
    number
        Spectra to draw at most, the same for the same seed.
    perplexity
        How many neighbours a point looks at.
    seed
        Of the choice and of the map.
    old
        A map that this command has kept: the latents are placed into it.
    hints
        What the files do not say themselves, and what becomes of their rows.
    json
        Print JSON.
    """
    import numpy as np

    from draper.data.arrays import has_good_pixel
    from draper.latents.map import Map, embed, neighbours_tell
    from draper.plots.latent import plot_maps
    from draper.plots.style import drawable, save

    drawable(out)
    model = opened(artifact, "encode")
    spectra = gathered(data, hints, f"draper map {artifact} DATA... -o MAP.png")
    spectra = spectra[has_good_pixel(spectra.ivar)]
    if len(spectra) > number:
        spectra = spectra[np.sort(np.random.default_rng(seed).permutation(len(spectra))[:number])]
    names = labels or tuple(name for name in model.labels.names if name in spectra.table)
    columns = {name: column_of(spectra, name) for name in names}
    latents = model.encode(spectra)  # type: ignore[attr-defined]
    drawn: dict[str, Any] = {}
    if spectra_too:
        flux = np.where(spectra.ivar > 0, spectra.flux, np.nan)
        flux = flux[:, np.isfinite(flux).any(axis=0)]
        flux = np.where(np.isfinite(flux), flux, np.nanmean(flux, axis=0))
        drawn["spectra"] = embed(flux, perplexity=perplexity, seed=seed).coordinates
    kept = out.with_suffix(".npz")
    if old is None:
        found = embed(latents, perplexity=perplexity, seed=seed)
        found.save(kept)
        drawn["latents"] = found.coordinates
    else:
        drawn["latents"] = Map.load(old).place(latents)
    save(plot_maps(drawn, columns), out)
    told = {
        title: {name: neighbours_tell(places, values) for name, values in columns.items()}
        for title, places in drawn.items()
    }
    if json:
        say_json({"path": out, "map": old or kept, "spectra": len(spectra), "neighbours_tell": told})
        return
    say(escape(f"{len(spectra):,} spectra drawn in {out}" + ("" if old else f"; the map is kept in {kept}")))


def disentangling(artifact: Path) -> Model:
    """Return the model in a folder; refuse one that removes no labels."""
    model = opened(artifact, "encode")
    if not hasattr(model, "leakage"):
        raise DraperError(
            f"a model of the kind '{model.name}' removes no labels", given=artifact, expected="a disentangler"
        )
    return model


def column_of(spectra: Spectra, name: str) -> Any:
    """Return a column of numbers, by its name."""
    from draper.data.labels import columns

    return columns(spectra.table, [name])[:, 0]
