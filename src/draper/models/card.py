"""The model card: what a stranger must know before trusting a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draper.data.grid import Grid
from draper.registry import config_class


def card(description: dict[str, Any], citation: str, sections: Mapping[str, str]) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    description
        The content of ``model.json``.
    citation
        BibTeX.
    sections
        Further sections of the model, by title.
    """
    training, made = description["training"], description["made"]
    config = config_class(description["model"])
    lines = [f"# {config.model.partition(':')[2]} ({description['model']})", "", config.summary, ""]
    lines += ["| | |", "|---|---|", *_data(training), f"| grid | {Grid.from_json(description['grid'])!r} |"]
    lines += _run(training)
    lines += [f"| made | {made['date']} with draper {made['draper']}, torch {made['torch']} |", ""]
    if description["labels"]:
        lines += ["## Labels", "", "| label | unit | training range |", "|---|---|---|"]
        lines += [
            f"| {label['name']} | {label['unit']} | {label['low']:g} to {label['high']:g} |"
            for label in description["labels"]
        ]
        lines.append("")
    if training.get("valid"):
        lines += ["## Held-out losses", "", "| term | value |", "|---|---|"]
        lines += [f"| {name} | {value:.5g} |" for name, value in training["valid"].items()]
        patience = training.get("config", {}).get("patience")
        chose = (
            "chose when training stopped, and which weights were kept"
            if patience
            else "influenced no weights"
        )
        used = [name for name, facts in training.get("inputs", {}).items() if facts.get("all_used")]
        but = f", but for those of the input {', '.join(used)}, which were all used" if used else ""
        lines += ["", f"Held-out data {chose}{but}.", ""]
    else:
        lines += ["No data were held out: errors of predictions are unknown (NaN).", ""]
    if training.get("held_out_errors"):
        lines += [
            "## Held-out errors",
            "",
            "| what | objects | rms error | of the mean |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {of['number']:,} | {of['rms']:.4g} | {of['mean']:.4g} |"
            for name, of in training["held_out_errors"].items()
        ]
        lines += ["", *(f"Warning: {text}." for text in training["warnings"]), ""]
    for title, text in sections.items():
        lines += [f"## {title}", "", text, ""]
    lines += ["## Options", "", "| option | value |", "|---|---|"]
    lines += [f"| {name} | `{value}` |" for name, value in description["config"].items()]
    limits = "Spectra and labels outside the training range are flagged, not corrected."
    lines += ["", "## Limits", "", limits, "", "## Citation", "", "```bibtex", citation, "```", ""]
    return "\n".join(lines)


def _data(training: Mapping[str, Any]) -> list[str]:
    """Return rows about the data, one for each input."""
    if "spectra" not in training:
        return []
    rows = []
    for name, facts in training.get("inputs", {"data": training}).items():
        counts = f"{facts['spectra']:,} for training, {facts['held_out']:,} held out"
        rows += [f"| {name} | {counts}; {facts['source']}, fingerprint `{facts['fingerprint']}` |"]
    return rows


def _run(training: Mapping[str, Any]) -> list[str]:
    """Return rows about the training run."""
    if "steps" in training:
        duration = f"{training['steps']:,} in {training['seconds']:.0f} s on {training['on']}"
        return [f"| steps | {duration} |", f"| seed | {training['config']['seed']} |"]
    if "spectra" in training:
        return ["| training | not complete |"]
    return [f"| training | elsewhere: {training.get('source', 'unknown')} |"]
