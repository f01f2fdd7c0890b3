"""``draper demo``: a complete example on built-in data."""

from __future__ import annotations

from pathlib import Path

from draper.cli.output import require_figure, say, say_json
from draper.cli.parameters import Json, Output, Overwrite
from draper.cli.progress import progress

SED, RECOVERY, STAR = "sed-grid.png", "recovery.png", "star.png"
"""Names of the plots."""

STARS = 200
"""Number of simulated stars."""


def demo(
    *,
    out: Output = Path("demo"),
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Plot a built-in sample, simulate a survey of stars, and fit their labels.

    Example: draper demo -o demo

    Parameters
    ----------
    out
        Folder for the plots and the table of labels.
    json
        Print the result as JSON.
    """
    import numpy as np

    from draper.data.samples import load
    from draper.models.base import load as load_model
    from draper.plots.overlay import plot_overlay, quality_of_fit, title_of_estimates
    from draper.plots.recovery import plot_recovery
    from draper.plots.spectrum import plot_spectra
    from draper.plots.style import save
    from draper.simulate.survey import Survey

    for name in (SED, RECOVERY, STAR):
        require_figure(out / name, overwrite=overwrite)
    spectra = load("sed-grid")
    by_teff = np.argsort(spectra.table["teff"])
    chosen = spectra[by_teff[np.linspace(0, len(spectra) - 1, 5).astype(int)]]
    named = chosen.with_columns(id=[f"{teff:.0f} K" for teff in chosen.table["teff"]])
    ax = plot_spectra(named)
    ax.set_yscale("log")
    ax.set_title("Five of the stars of the built-in SED grid")
    plots = [save(ax, out / SED)]

    stars = Survey("gaia-rvs").simulate(STARS, seed=1)
    emulator = load_model("builtin:rvs-emulator")
    with progress("fitting") as done:
        labels, models = emulator.explain(stars, continuum=2, priors="population", progress=done)
    assert models is not None
    # Published labels have errors; compare with the true ones.
    truth = {name: stars.table.get(f"{name}_true", stars.table[name]) for name in emulator.labels.names}
    plots.append(save(plot_recovery(labels, truth), out / RECOVERY))
    row = int(np.argmax(stars.table["snr"]))
    title = f"A simulated star of S/N {stars.table['snr'][row]:.0f}: {title_of_estimates(labels, row)}"
    rv = float(labels["rv"][row])
    fit = quality_of_fit(labels, row)
    figure = plot_overlay(stars[row : row + 1], models[row : row + 1], title=title, rv=rv, fit=fit)
    plots.append(save(figure, out / STAR))
    table = labels.write(out / "labels.ecsv", overwrite=overwrite)
    if json:
        say_json({"plot": plots[0], "plots": plots, "labels": table, **spectra.describe()})
    else:
        say(
            spectra,
            stars,
            repr(labels),
            "Labels are fitted with what is known of stars of the Galaxy: priors='population'.",
            "written: " + ", ".join(str(path) for path in (*plots, table)),
        )
