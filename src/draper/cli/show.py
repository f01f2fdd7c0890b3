"""``draper show``: a summary of a trained model."""

from __future__ import annotations

from pathlib import Path

from draper.cli.output import require_figure, say, say_json, two_columns
from draper.cli.parameters import Json, Overwrite


def show(
    artifact: Path, *, plot: Path | None = None, overwrite: Overwrite = False, json: Json = False
) -> None:
    """Summarise a trained model: its data, options and held-out losses.

    Example: draper show model/ --plot history.png

    Parameters
    ----------
    artifact
        Folder of the model, or builtin:NAME.
    plot
        File (.png, .pdf, .svg) for a plot of the training history.
    json
        Print the summary as JSON.
    """
    from draper.data.grid import Grid
    from draper.models.artifact import HISTORY, describe, located

    require_figure(plot, overwrite=overwrite)
    description = describe(artifact)
    if plot is not None:
        from draper.plots.style import save
        from draper.plots.training import plot_history
        from draper.train.tracking import read_history

        save(plot_history(read_history(located(artifact) / HISTORY)), plot)
    if json:
        say_json(description)
        return
    training = description["training"]
    rows = {
        "model": description["model"],
        "state": "complete" if description["complete"] else "in training; --resume goes on",
        "grid": repr(Grid.from_json(description["grid"])),
        "labels": ", ".join(label["name"] for label in description["labels"]) or "none",
        "spectra": f"{training['spectra']:,} for training, {training['held_out']:,} held out"
        if "spectra" in training
        else f"unknown; {training.get('source', 'trained elsewhere')}",
        "checksum": description.get("sha256", "none: the model was written before draper kept one"),
        "made": f"{description['made']['date']}, draper {description['made']['draper']}",
        **{f"option {name}": value for name, value in description["config"].items()},
        **{name: f"{value:.6g}" for name, value in training.get("valid", {}).items()},
    }
    say(two_columns(rows))
