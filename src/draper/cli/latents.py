"""``draper map``: a t-SNE map of latents, for any model that encodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.markup import escape

from draper.cli.model import gathered, opened
from draper.cli.output import require_figure, require_outputs, results, say, say_json
from draper.cli.parameters import Hints, Json, Number, Output, Overwrite
from draper.cli.progress import progress
from draper.configs.read import ReadConfig


def map_(
    artifact: Path,
    *data: Path,
    out: Output,
    labels: tuple[str, ...] = (),
    with_spectra: Annotated[bool, Parameter(name="--spectra")] = True,
    number: Number = 3000,
    perplexity: float = 30.0,
    seed: int = 0,
    into: Path | None = None,
    hints: Hints = ReadConfig(),  # noqa: B008
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw a t-SNE map of latents, and one of the spectra beside it, coloured by labels.

    The map of the latents is kept beside the figure (.npz); --into places the latents of other spectra in it.

    Example: draper map model/ test.h5 -o map.png --labels teff fe_h

    Parameters
    ----------
    artifact
        Folder of the model, or builtin:NAME.
    data
        Files of spectra.
    out
        Figure to write (.png, .pdf or .svg).
    labels
        Columns to colour by; the model's labels unless given.
    with_spectra
        Whether a map of the spectra is drawn, too; --spectra=false leaves it out.
    number
        Maximum number of spectra in the map, chosen at random.
    perplexity
        Effective number of neighbours of each point.
    seed
        Random seed of the choice of spectra and of the map.
    into
        Map of an earlier run (.npz) in which the latents are placed; a new map is made unless given.
    hints
        How files of spectra are read, where they do not say it themselves.
    json
        Print the result as JSON.
    """
    import numpy as np

    from draper.data.arrays import has_good_pixel
    from draper.data.labels import columns as label_columns
    from draper.latents.map import Map, embed, neighbour_r2
    from draper.plots.latent import plot_maps

    kept = out.with_suffix(".npz")
    require_figure(out, overwrite=overwrite)
    require_outputs(kept if into is None else None, overwrite=overwrite)
    model = opened(artifact, "encode")
    spectra = gathered(data, hints, f"draper map {artifact} DATA... -o MAP.png")
    spectra = spectra[has_good_pixel(spectra.ivar)] if model.needs_pixels else spectra
    if len(spectra) > number:
        spectra = spectra[np.sort(np.random.default_rng(seed).permutation(len(spectra))[:number])]
    names = labels or tuple(name for name in model.labels.names if name in spectra.table)
    columns = {name: label_columns(spectra.table, [name])[:, 0] for name in names}
    with progress("encoding") as done:
        latents = model.encode(spectra, progress=done)
    drawn: dict[str, Any] = {}
    with progress("mapping"):
        if with_spectra:
            flux = np.where(spectra.ivar > 0, spectra.flux, np.nan)
            flux = flux[:, np.isfinite(flux).any(axis=0)]
            flux = np.where(np.isfinite(flux), flux, np.nanmean(flux, axis=0))
            drawn["spectra"] = embed(flux, perplexity=perplexity, seed=seed).coordinates
        new = None
        if into is None:
            new = embed(latents, perplexity=perplexity, seed=seed)
            drawn["latents"] = new.coordinates
        else:
            drawn["latents"] = Map.load(into).place(latents)
    with results(overwrite) as files:
        if new is not None:
            files.write(new.save, kept)
        files.save(plot_maps(drawn, columns), out)
    fractions = {
        title: {name: neighbour_r2(places, values) for name, values in columns.items()}
        for title, places in drawn.items()
    }
    if json:
        say_json({"path": out, "map": into or kept, "spectra": len(spectra), "neighbour_r2": fractions})
        return
    say(escape(f"{len(spectra):,} spectra drawn in {out}" + ("" if into else f"; the map is kept in {kept}")))
