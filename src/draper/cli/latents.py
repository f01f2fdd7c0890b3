"""``draper map``: latents in two dimensions, for any model that encodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.markup import escape

from draper.cli.model import gathered, opened
from draper.cli.output import say, say_json
from draper.cli.parameters import Hints, Json, Output
from draper.configs.read import ReadConfig


def map_(
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
    from draper.data.labels import columns as label_columns
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
    columns = {name: label_columns(spectra.table, [name])[:, 0] for name in names}
    latents = model.encode(spectra)
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
