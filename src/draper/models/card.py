"""The model card: what a stranger must know before trusting a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draper.data.grid import Grid
from draper.registry import config_class

COMMON = ("Labels", "Held-out losses", "Held-out errors", "Options", "Limits", "Citation")
"""Titles of the sections that every card may have."""


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
    training = description["training"]
    config = config_class(description["model"])
    lines = [f"# {config.model.partition(':')[2]} ({description['model']})", "", config.summary, ""]
    lines += [
        "| | |",
        "|---|---|",
        *(f"| {name} | {text} |" for name, text in facts(description).items()),
        "",
    ]
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


def facts(description: dict[str, Any]) -> dict[str, str]:
    """Return what a model was made of and how, by name: the head of the card, and of ``draper show``."""
    training, made = description["training"], description["made"]
    inputs = training.get("inputs", {"data": training}) if "spectra" in training else {}
    return {
        **{name: _data(of) for name, of in inputs.items()},
        "grid": repr(Grid.from_json(description["grid"])),
        **run_facts(training),
        "made": f"{made['date']} with draper {made['draper']}, torch {made['torch']}",
    }


def own_sections(text: str) -> dict[str, str]:
    r"""Return the sections of a card, by title, that only cards of its family of models have.

    Examples
    --------
    >>> own_sections("# Model\n\n## Labels\n\nteff\n\n## Leakage\n\n0.03\n")
    {'Leakage': '0.03'}
    """
    parts = (part.partition("\n") for part in text.split("\n## ")[1:])
    return {title: body.strip() for title, _, body in parts if title not in COMMON}


def _data(of: Mapping[str, Any]) -> str:
    """Return what is said of the data of one input."""
    counts = f"{of['spectra']:,} for training, {of['held_out']:,} held out"
    return f"{counts}; {of['source']}, fingerprint {of['fingerprint']}"


def run_facts(training: Mapping[str, Any]) -> dict[str, str]:
    """Return what is said of the training run."""
    if "steps" in training:
        config = training["config"]
        most, patience = config.get("steps"), config.get("patience")
        limit = f" of at most {most:,}" if patience and most else ""
        watched = f"{patience} validations without improvement of {config.get('metric')}"
        stop = f", early stopping after {watched}" if patience else ""
        duration = f"{training['steps']:,}{limit} in {training['seconds']:.0f} s on {training['on']}{stop}"
        return {"steps": duration, "seed": str(config["seed"])}
    if "spectra" in training:
        return {"training": "not complete"}
    return {"training": f"elsewhere: {training.get('source', 'unknown')}"}
