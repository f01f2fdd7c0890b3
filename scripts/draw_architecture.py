"""Draw docs/_static/architecture.svg: the folders of draper and who imports whom, from the code itself.

python scripts/draw_architecture.py
"""

from __future__ import annotations

import ast
from collections import defaultdict
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "draper"
DRAWING = ROOT / "docs" / "_static" / "architecture.svg"

FOUNDATION = "errors  owner  atomic_write  config  registry  configs/"
"""One box for what needs neither numpy nor torch."""

UPWARD = {("data", "plots"), ("results", "plots")}
"""`.plot()` methods import plots when they are called."""

SUBJECTS = {
    FOUNDATION: "options, names of models, errors",
    "data": "Grid, LabelSet, Spectra, files, readers",
    "nn": "networks and their losses; no astronomy",
    "train": "feed, trainer, checkpoint; no astronomy",
    "instrument": "velocity, broadening, pixels, noise",
    "results": "Estimates, Report: what verbs return",
    "simulate": "spectra with known truth",
    "infer": "from spectra back to labels: fit, forecast",
    "latents": "what latents contain: probes, swap test",
    "plots": "data in, Axes out",
    "models": "the contract; a package a family; search",
    "testing": "public checks, reference models",
    "catalogue": "whole-survey runs",
    "cli": "parse, call, print",
    "web": "JSON API and page",
}

WIDE, HIGH, GAP, STEP = 268, 52, 22, 106
"""Sizes of boxes, and distances between boxes and floors [pixels]."""

STYLE = """
    text { fill: #223; text-anchor: middle; }
    text.small { font-size: 11.5px; fill: #556; }
    text.note { text-anchor: start; font-size: 12px; fill: #556; }
    rect { fill: #eef2f8; stroke: #8fa3bf; }
    rect.torch { fill: #fdf1e3; stroke: #d2a679; }
    rect.paper { fill: #fff; stroke: none; }
    path { stroke: #99a; fill: none; marker-end: url(#arrow); }
"""


def box_of(module: str) -> str:
    """Return the box of a module ``draper.ROOM...``."""
    room = module.split(".")[1]
    return room if room in SUBJECTS else FOUNDATION


def imports() -> tuple[dict[str, set[str]], set[str]]:
    """Return for each box those that it imports from, and which boxes import torch."""
    uses: dict[str, set[str]] = defaultdict(set)
    torch = set()
    for path in sorted(SOURCE.glob("*/**/*.py")):
        own = box_of(f"draper.{path.relative_to(SOURCE).parts[0]}")
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                if name.split(".")[0] == "torch":
                    torch.add(own)
                if name.startswith("draper.") and (own, box_of(name)) not in UPWARD:
                    uses[own] |= {box_of(name)} - {own}
    uses[FOUNDATION] = set()
    return dict(uses), torch


def floors(uses: dict[str, set[str]]) -> dict[str, int]:
    """Return the floor of each box: one below the lowest that it imports from."""
    found: dict[str, int] = {}
    while len(found) < len(uses):
        ready = [box for box in uses if box not in found and uses[box] <= set(found)]
        if not ready:
            raise RuntimeError(f"imports run in a circle: {sorted(set(uses) - set(found))}")
        for box in ready:
            found[box] = 1 + max((found[other] for other in uses[box]), default=-1)
    return found


def direct(uses: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports that do not follow from others."""
    below: dict[str, set[str]] = {}

    def reach(box: str) -> set[str]:
        if box not in below:
            below[box] = uses[box].union(*(reach(other) for other in uses[box]))
        return below[box]

    return [
        (box, other)
        for box in sorted(uses)
        for other in sorted(uses[box])
        if not any(other in reach(between) for between in uses[box] - {other})
    ]


def draw() -> str:
    """Return the drawing."""
    uses, torch = imports()
    floor = floors(uses)
    rows: dict[int, list[str]] = defaultdict(list)
    for box in sorted(floor, key=list(SUBJECTS).index):
        rows[floor[box]].append(box)
    width = max(len(row) for row in rows.values()) * (WIDE + GAP) + GAP
    height = len(rows) * STEP + 30
    place = {
        box: (width / 2 + (i - (len(row) - 1) / 2) * (WIDE + GAP), 20 + level * STEP)
        for level, row in rows.items()
        for i, box in enumerate(row)
    }
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="14">',
        '  <defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L10 5L0 10z" style="fill:#99a;stroke:none"/></marker></defs>',
        f"  <style>{STYLE}  </style>",
        f'  <rect class="paper" width="{width}" height="{height}"/>',
    ]
    for box, other in direct(uses):
        (x0, y0), (x1, y1) = place[box], place[other]
        y1 += HIGH
        bend = (y0 - y1) / 2
        lines.append(f'  <path d="M{x0:g} {y0:g}C{x0:g} {y0 - bend:g} {x1:g} {y1 + bend:g} {x1:g} {y1:g}"/>')
    for box, (x, y) in place.items():
        kind = ' class="torch"' if box in torch else ""
        name = box if box == FOUNDATION else f"{box}/"
        lines += [
            f'  <rect{kind} x="{x - WIDE / 2:g}" y="{y:g}" width="{WIDE}" height="{HIGH}" rx="6"/>',
            f'  <text x="{x:g}" y="{y + 22:g}">{escape(name)}</text>',
            f'  <text class="small" x="{x:g}" y="{y + 40:g}">{escape(SUBJECTS[box])}</text>',
        ]
    note = "An arrow means: imports from (also from everything above that). Orange: imports torch."
    lines += [f'  <text class="note" x="{GAP}" y="{height - 12}">{note}</text>', "</svg>", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    DRAWING.write_text(draw())
