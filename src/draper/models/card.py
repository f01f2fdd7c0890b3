"""The model card: what a stranger must know before trusting a model."""

from __future__ import annotations

from typing import Any

from draper.data.grid import Grid
from draper.registry import config_class


def card(description: dict[str, Any], citation: str) -> str:
    """Return the card as Markdown, from what ``model.json`` says."""
    training, made = description["training"], description["made"]
    config = config_class(description["model"])
    grid = Grid.from_json(description["grid"])
    lines = [
        f"# {config.model.partition(':')[2]} ({description['model']})",
        "",
        config.summary,
        "",
        "| | |",
        "|---|---|",
        *(
            [
                f"| spectra | {training['spectra']:,} for training, {training['held_out']:,} held out |",
                f"| data | {training['source']}, fingerprint `{training['fingerprint']}` |",
            ]
            if "spectra" in training
            else []
        ),
        f"| grid | {grid!r} |",
        *(
            [
                f"| steps | {training['steps']:,} in {training['seconds']:.0f} s on {training['on']} |",
                f"| seed | {training['config']['seed']} |",
            ]
            if "steps" in training
            else ["| training | not to the end |"]
            if "spectra" in training
            else [f"| training | elsewhere: {training.get('source', 'not said')} |"]
        ),
        f"| made | {made['date']} with draper {made['draper']}, torch {made['torch']} |",
        "",
    ]
    if description["labels"]:
        lines += ["## Labels", "", "| label | unit | learnt range |", "|---|---|---|"]
        lines += [
            f"| {label['name']} | {label['unit']} | {label['low']:g} to {label['high']:g} |"
            for label in description["labels"]
        ]
        lines.append("")
    if training.get("valid"):
        lines += ["## On held-out spectra", "", "| term | value |", "|---|---|"]
        lines += [f"| {name} | {value:.5g} |" for name, value in training["valid"].items()]
        lines += ["", "Held-out spectra chose no weights unless early stopping was on (`patience`).", ""]
    else:
        lines += ["No spectra were held out: errors of predictions are unknown (NaN).", ""]
    if training.get("leakage"):
        lines += ["## What the latents tell", "", training["leakage"]["summary"], ""]
        lines += ["A leak of 0 is what kept labels alone tell of a removed one, 1 what the spectra tell.", ""]
    lines += ["## Options", "", "| option | value |", "|---|---|"]
    lines += [f"| {name} | `{value}` |" for name, value in description["config"].items()]
    lines += [
        "",
        "## Limits",
        "",
        "Spectra and labels outside the learnt range are flagged, not corrected.",
        "",
    ]
    lines += ["## Citation", "", "```bibtex", citation, "```", ""]
    return "\n".join(lines)
