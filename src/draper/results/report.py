"""How good a model is on spectra whose truth is known: figures of merit and plots, as a page or as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from draper import atomic_write
from draper.atomic_write import output_errors, require_output
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.results.estimates import LABEL_FLAGS, Estimates
from draper.results.metrics import LEVELS, Residuals, recovery, residuals
from draper.results.page import Picture, fragment, page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUPS = 5
"""Groups of equal size by a column."""

WORST = 3
"""Of the worst spectra, how many are drawn."""

COLOURS = 128
"""Colours of the pictures of a page, which keep it small."""


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What ``evaluate`` returns.

    Attributes
    ----------
    model : str
        The model's name.
    spectra : Spectra
        The n spectra on which the model was evaluated, with true labels as columns.
    estimates : Estimates, optional
        The labels that the model predicted.
    made : Spectra, optional
        The spectra that the model made, on the same pixels.
    how : str
        What the made spectra were made from.
    facts : mapping
        Which model was evaluated on which data, as JSON values.
    notes : tuple of str
        What a reader must know before believing the numbers.
    by : tuple of str
        Columns by which figures of merit are given, too, in groups of equal size.
    """

    model: str
    spectra: Spectra
    estimates: Estimates | None = None
    made: Spectra | None = None
    how: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    by: tuple[str, ...] = ()

    # ------------------------------------------------------------------ figures of merit

    @cached_property
    def labels(self) -> dict[str, dict[str, float]]:
        """Figures of merit of each label with known truth, by :func:`draper.results.metrics.recovery`."""
        return self._recovery(np.ones((len(self.spectra), 1), dtype=bool))

    @cached_property
    def unflagged_labels(self) -> dict[str, dict[str, float]]:
        """The same for spectra without a flag, and for labels that were measured (no limits, no priors)."""
        rows = ~self.flagged[:, None]
        if self.estimates is not None and self.estimates.label_flags is not None:
            rows = rows & (self.estimates.label_flags == "measured")
        return self._recovery(rows)

    @cached_property
    def groups(self) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
        """Figures of merit by column, by group of its values, and by label."""
        found = {}
        for name in self.by:
            values = np.asarray(self.spectra.column(name))
            if values.dtype.kind in "fiu":
                known = values[np.isfinite(values)]
                edges = np.unique(np.quantile(known, np.linspace(0, 1, GROUPS + 1))) if len(known) else known
                rows = {
                    f"{low:.4g} to {high:.4g}": (values >= low) & ((values < high) | (high == edges[-1]))
                    for low, high in pairwise(edges)
                }
            else:
                rows = {str(value): values == value for value in np.unique(values)}
            found[name] = {group: self._recovery(chosen[:, None]) for group, chosen in rows.items()}
        return found

    @cached_property
    def flagged(self) -> NDArray[np.bool_]:
        """Which spectra (n,) carry any flag."""
        flags = {} if self.estimates is None else self.estimates.flags
        raised: NDArray[np.bool_] = np.zeros(len(self.spectra), dtype=bool)
        for values in flags.values():
            raised = raised | values
        return raised

    @property
    def flags(self) -> dict[str, float]:
        """The fraction of spectra that carry each flag, also those of single labels (``teff limit``)."""
        estimates = self.estimates
        if estimates is None or len(self.spectra) == 0:
            return {}
        fractions = {name: float(values.mean()) for name, values in estimates.flags.items()}
        if estimates.label_flags is not None:
            for name, values in zip(estimates.labels.names, estimates.label_flags.T, strict=True):
                raised = {flag: float((values == flag).mean()) for flag in LABEL_FLAGS if flag != "measured"}
                fractions |= {f"{name} {flag}": fraction for flag, fraction in raised.items() if fraction}
        return fractions

    @cached_property
    def residuals(self) -> Residuals | None:
        """How far the made spectra are from the observed ones."""
        return None if self.made is None else residuals(self.spectra, self.made)

    def _recovery(self, rows: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
        """Return the figures of merit of each label over some rows (n, 1) or (n, labels)."""
        estimates, table = self.estimates, self.spectra.table
        if estimates is None:
            return {}
        chosen = np.broadcast_to(rows, estimates.median.shape)
        # The intervals of a Gaussian are those of its sigma.
        levels = () if estimates.kind == "Gaussian" else LEVELS
        ends = {level: estimates.interval(level) for level in levels}
        figures = {}
        for number, name in enumerate(estimates.labels.names):
            if name in table and table[name].dtype.kind in "fiu":
                at = chosen[:, number], number
                figures[name] = recovery(
                    estimates.median[at],
                    table[name][at[0]],
                    estimates.sigma[at],
                    {level: (low[at], high[at]) for level, (low, high) in ends.items()},
                )
        return figures

    def to_json(self) -> dict[str, Any]:
        """Return every figure of merit as plain JSON values; what is not known is None."""
        spectra = {} if self.residuals is None else {"made_from": self.how, **self.residuals.figures()}
        content: dict[str, Any] = _as_json(
            {
                "model": self.model,
                "facts": dict(self.facts),
                "notes": list(self.notes),
                "labels": self.labels,
                "labels_unflagged": self.unflagged_labels,
                "groups": self.groups,
                "flags": self.flags,
                "flagged": float(self.flagged.mean()) if len(self.spectra) else None,
                "spectra": spectra,
            }
        )
        return content

    # ------------------------------------------------------------------ plots

    def figures(self) -> Iterator[tuple[str, str, Figure]]:
        """Draw one figure after the other: its name, what it shows, and the figure."""
        yield from self._label_figures()
        yield from self._spectrum_figures()

    def _label_figures(self) -> Iterator[tuple[str, str, Figure]]:
        from draper.plots.recovery import plot_recovery

        names = [name for name, figures in self.labels.items() if figures["number"]]
        if self.estimates is None or not names:
            return
        table = self.spectra.table
        text = "Estimated against true labels; the grey band is the typical quoted error."
        yield "labels", text, plot_recovery(self.estimates, table, names, columns=2)
        if "fe_h" in table and np.isfinite(table["fe_h"]).any():
            figure = plot_recovery(self.estimates, table, names, colour="fe_h", columns=2)
            yield "labels-by-metallicity", "The same, coloured by the true [Fe/H].", figure
        if {"teff", "logg", "fe_h"} <= set(self.estimates.labels.names):
            from draper.plots.diagrams import plot_kiel

            axes = ("teff", "logg", "fe_h")
            sets = {
                "true": {n: table[n] for n in axes if n in table and np.isfinite(table[n]).any()},
                "estimated": {name: self.estimates[name] for name in axes},
            }
            if len(sets["true"]) == len(axes):
                yield "labels-kiel", "Kiel diagram of true and estimated labels.", plot_kiel(sets)

    def _spectrum_figures(self) -> Iterator[tuple[str, str, Figure]]:
        from draper.plots.overlay import plot_overlay
        from draper.plots.pixels import PAIRS, plot_over_labels, plot_pixel_errors, plot_spectrum_errors
        from draper.plots.style import new_figure

        errors = self.residuals
        if errors is None or self.made is None or len(errors.worst) == 0:
            return
        yield "pixels", "Errors of the spectra pixel by pixel.", plot_pixel_errors(errors)
        figure = new_figure()
        plot_spectrum_errors(errors, figure.axes[0])
        yield "spectra", "Errors of the spectra star by star.", figure
        if any(set(pair) <= set(self.spectra.table) for pair in PAIRS):
            figure = plot_over_labels(errors.spectrum_rms, self.spectra.table)
            yield "spectra-over-labels", "Errors of the spectra in the planes of the labels.", figure
        middle = int(errors.worst[len(errors.worst) // 2])
        rows = {"typical": middle} | {
            f"worst-{rank + 1}": int(row) for rank, row in enumerate(errors.worst[:WORST])
        }
        for name, row in rows.items():
            figure = plot_overlay(self.spectra[row], self.made[row], title=self.title_of(row))
            text = "The spectrum of median error." if name == "typical" else f"The {_ordinal(name)} spectrum."
            yield name, text, figure

    def title_of(self, row: int) -> str:
        """Return the name of a star with its main labels and its flags."""
        from draper.plots.names import shortened

        table = self.spectra.table
        parts = [shortened(self.spectra.ids[row])]
        parts += [f"{name} {table[name][row]:.4g}" for name in ("teff", "logg", "fe_h") if name in table]
        if self.estimates is not None:
            raised = [name for name, values in self.estimates.flags.items() if values[row]]
            parts += [f"flagged: {', '.join(raised)}"] if raised else []
        return ", ".join(parts)

    @cached_property
    def pictures(self) -> tuple[Picture, ...]:
        """Every figure as a PNG."""
        return tuple(Picture(name, text, _png(figure)) for name, text, figure in self.figures())

    # ------------------------------------------------------------------ output

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the report.

        Parameters
        ----------
        path
            ``.html`` for one page that needs no other file, ``.json`` for the figures of merit, or a folder
            for both with the plots and the table of labels.
        overwrite
            Whether a report that exists is replaced.
        """
        path = writable(path, overwrite=overwrite)
        if path.suffix == ".json":
            return atomic_write.write(path, json.dumps(self.to_json(), indent=1, allow_nan=False))
        if path.suffix == ".html":
            return atomic_write.write(path, page(self.to_json(), self.pictures))
        with output_errors(path):
            path.mkdir(exist_ok=True)
        for name in ("report.json", "report.html"):
            self.write(path / name, overwrite=overwrite)
        for picture in self.pictures:
            atomic_write.write(path / f"{picture.name}.png", picture.png)
        if self.estimates is not None:
            self.estimates.write(path / "labels.ecsv", overwrite=overwrite)
        return path

    def _repr_html_(self) -> str:
        return fragment(self.to_json(), self.pictures)

    def __repr__(self) -> str:
        parts = [f"{name} {f['bias']:+.3g} +- {f['scatter']:.3g}" for name, f in self.labels.items()]
        if self.residuals is not None:
            parts.append(f"spectra rms {self.residuals.figures()['rms']:.3g}")
        return (
            f"Report({self.model} on {len(self.spectra)} spectra: {', '.join(parts) or 'nothing to compare'})"
        )


def writable(path: str | Path, *, overwrite: bool = False) -> Path:
    """Refuse a path to which no report can be written, and a report that exists unless it may be replaced."""
    path = Path(path)
    if path.suffix not in ("", ".html", ".json") or (path.is_dir() and path.suffix):
        raise DraperError(
            "a report is a page, JSON, or a folder", given=path.name, expected=".html, .json, or no suffix"
        )
    # A folder may exist, as long as no report is in it.
    require_output(path / "report.json" if path.is_dir() else path, overwrite=overwrite)
    return path


def _ordinal(name: str) -> str:
    rank = int(name.rpartition("-")[2])
    return {1: "worst", 2: "second-worst", 3: "third-worst"}[rank]


def _png(figure: Figure) -> bytes:
    """Return a figure as a small PNG."""
    from PIL import Image

    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
            packed, format="png", optimize=True
        )
    return packed.getvalue()


def _as_json(value: Any) -> Any:
    """Return JSON values; numbers that JSON lacks (NaN) become None."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
