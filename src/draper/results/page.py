"""A report as one HTML page: no scripts, no other files, readable on a telephone and on paper."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem;
  margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #ddd; }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
.facts td { white-space: normal; text-align: left; }
.notes { border-left: 4px solid #D55E00; background: #fff6f0; padding: .5rem 1rem; }
.notes p { margin: .4rem 0; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
figcaption, .small { color: #555; font-size: .85rem; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } figure, table { break-inside: avoid; }
  h2 { break-after: avoid; } img { max-height: 24cm; } .wide { overflow: visible; } }
"""

COLUMNS = {
    "number": "stars",
    "bias": "bias",
    "scatter": "scatter",
    "robust_scatter": "robust scatter",
    "mae": "mean |error|",
    "r2": "R2",
    "baseline": "rms of the mean",
    "pull_mean": "mean pull",
    "pull_std": "pull scatter",
    "width_68": "half-width of 68 %",
    "coverage_50": "in 50 %",
    "coverage_68": "in 68 %",
    "coverage_90": "in 90 %",
}
"""Figures of merit of a label, and the heads of their columns."""

LABELS = """Bias and scatter are mean and standard deviation of estimate minus truth; the robust scatter is by
medians. "rms of the mean" is the error of giving every star the mean of these true labels: a useful model is
far below it. The pull is the error over the quoted error: mean 0 and scatter 1 where quoted errors are
honest. The last columns are the fractions of true values inside the central intervals that were quoted."""

SPECTRA = {
    "number": "spectra",
    "rms": "rms over all pixels",
    "median_rms": "median rms of a spectrum",
    "rms_99": "99 % of spectra are below",
    "worst_rms": "worst spectrum",
    "median_pixel_rms": "median rms of a pixel",
    "worst_pixel_rms": "worst pixel",
    "median_reduced_chi2": "median chi2 per pixel",
}
"""Figures of merit of spectra, and what they are."""


@dataclass(frozen=True)
class Picture:
    """A plot: its name, what it shows, and the PNG."""

    name: str
    text: str
    png: bytes


def page(content: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """Return a whole page.

    Parameters
    ----------
    content
        The figures of merit and facts: the result of ``Report.to_json``.
    pictures
        The plots.
    """
    title = escape(f"{content['model']}: evaluation")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{fragment(content, pictures)}\n</body>\n</html>\n"
    )


def fragment(content: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """Return the body of the page, as a notebook shows it."""
    drawn = {picture.name: picture for picture in pictures}
    parts = [f"<h1>{escape(content['model'])}: evaluation</h1>"]
    if content["notes"]:
        lines = "".join(f"<p>{escape(note)}</p>" for note in content["notes"])
        parts.append(f'<div class="notes">{lines}</div>')
    parts.append(table(content["facts"].items(), kind="facts"))
    if content["labels"]:
        parts += ["<h2>Labels</h2>", label_table(content["labels"])]
        if content["flagged"]:
            flagged = f"Without the {percent(content['flagged'])} that are flagged"
            parts += [f"<p>{flagged}:</p>", label_table(content["labels_unflagged"])]
        parts.append(f'<p class="small">{LABELS}</p>')
    for name, groups in content["groups"].items():
        parts.append(f"<h2>Labels by {escape(name)}</h2>")
        for label in content["labels"]:
            of_groups = {group: figures[label] for group, figures in groups.items() if label in figures}
            parts += [f"<p>{escape(label)}</p>", label_table(of_groups, name)]
    if content["flags"]:
        rows = [(name, percent(fraction)) for name, fraction in content["flags"].items()]
        parts += ["<h2>Flags</h2>", table(rows)]
    parts += [figure(drawn.pop(name)) for name in list(drawn) if name.startswith("labels")]
    if content["spectra"]:
        spectra = content["spectra"]
        rows = [(name, number(spectra[key])) for key, name in SPECTRA.items() if key in spectra]
        parts += [f"<h2>Spectra</h2><p>Made from {escape(spectra['made_from'])}.</p>", table(rows)]
    parts += [figure(picture) for picture in drawn.values()]
    return "\n".join(parts)


def label_table(labels: Mapping[str, Mapping[str, Any]], first: str = "label") -> str:
    """Return the figures of merit of all labels, or of groups of one; ``first`` heads their names."""
    shown = [key for key in COLUMNS if any(figures.get(key) is not None for figures in labels.values())]
    formats = {key: percent if key.startswith("coverage") else number for key in shown}
    rows = [(name, *(formats[key](values[key]) for key in shown)) for name, values in labels.items()]
    return table(rows, head=(first, *(COLUMNS[key] for key in shown)))


def table(rows: Iterable[Iterable[Any]], head: Sequence[str] = (), kind: str = "") -> str:
    """Return a table that scrolls by itself where it is too wide."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    head_row = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f'<div class="wide"><table class="{kind}">{head_row}<tbody>\n{body}</tbody></table></div>'


def figure(picture: Picture) -> str:
    """Return a plot with what it shows below."""
    text, data = escape(picture.text), base64.b64encode(picture.png).decode()
    image = f'<img alt="{text}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def number(value: float | None) -> str:
    """Return a number to two digits, or to the full number.

    Examples
    --------
    >>> number(1847.0), number(0.00123456), number(None)
    ('1847', '0.0012', 'unknown')
    """
    if value is None:
        return "unknown"
    return (
        f"{value:.0f}"
        if float(value).is_integer()
        else f"{value:.2g}"
        if abs(value) < 100
        else f"{value:.0f}"
    )


def percent(value: float | None) -> str:
    """Return a fraction in per cent."""
    return "unknown" if value is None else f"{100 * value:.1f} %"
