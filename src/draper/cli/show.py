"""``draper show``: a summary of a trained model."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from draper.cli.output import require_figure, say, say_json, two_columns
from draper.cli.parameters import Json, Overwrite


def show(
    artifact: Path, *, plot: Path | None = None, overwrite: Overwrite = False, json: Json = False
) -> None:
    """Summarise a trained model as its card does: data, options, held-out figures, and what it measured.

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
    from draper.models.artifact import CARD, HISTORY, describe, located
    from draper.models.card import facts, own_sections

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
        **facts(description),
        "labels": ", ".join(label["name"] for label in description["labels"]) or "none",
        "checksum": description.get("sha256", "none: the model was written before draper kept one"),
        **{f"option {name}": value for name, value in description["config"].items()},
        **{name: f"{value:.5g}" for name, value in training.get("valid", {}).items()},
        **{
            f"held-out {name}": f"rms error {of['rms']:.4g}, of the mean {of['mean']:.4g}"
            for name, of in training.get("held_out_errors", {}).items()
        },
    }
    say(two_columns(rows), *(escape(f"Warning: {text}.") for text in training.get("warnings", ())))
    card = located(artifact) / CARD
    for title, text in own_sections(card.read_text() if card.is_file() else "").items():
        say("", f"[bold]{escape(title)}[/bold]", escape(text))
