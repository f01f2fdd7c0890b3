"""Lines of a list that are too weak or too strong in synthetic spectra: changes of their log gf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, norm

from draper.data.lines import Lines
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.forward import ForwardModel
from draper.models.emulator.model import Emulator
from draper.models.translator.response_difference import (
    FWHM,
    Comparison,
    compare,
    responses_at,
    settle,
    smoothed,
    typical_width,
)
from draper.models.translator.responses import as_forward_model, depths, element_labels, stars_of
from draper.results.table import write_table

FloatArray = NDArray[np.float64]

MEASURED = 3.0
"""A line is measured if its response is above so many sigma in either kind of spectrum."""

ABSENT = 0.1
"""A line is missing if its response in synthetic spectra is below this fraction of that in observed ones."""

SHIFTS = (-0.6, -0.3, 0.0, 0.3, 0.6)
"""Changes of all abundances [dex] at which lines are computed, to learn how they grow."""

LEAST_GROWTH = 0.2
"""Smallest growth of a line with log gf, relative to that at no change."""

SHARED = 0.3
"""Relative error of the shares of overlapping lines in the response of a pixel."""

WIDEST = 3.0
"""Standard deviation [dex] of the prior of a change, which only counts where lines cannot be told apart."""


@dataclass(frozen=True, eq=False, repr=False)
class LineChanges:
    """What a line list should change, for m lines that could be measured.

    Attributes
    ----------
    species : ndarray (m,) of str
        Such as "Fe I".
    wavelength : ndarray (m,)
        Vacuum Angstrom.
    element : ndarray (m,) of str
        Element with whose abundance the line was measured.
    log_gf_change, error : ndarray (m,)
        What to add to log gf, with 1-sigma error; NaN for missing lines.
    q_value : ndarray (m,)
        Smallest false discovery rate at which the line counts as missing or changed.
    status : ndarray (m,) of str
        ``missing``, ``changed`` or ``unchanged``.
    """

    species: NDArray[np.str_]
    wavelength: FloatArray
    element: NDArray[np.str_]
    log_gf_change: FloatArray
    error: FloatArray
    q_value: FloatArray
    status: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.wavelength)

    def to_table(self) -> dict[str, NDArray[Any]]:
        """Return one row for each line as columns (m,)."""
        return dict(vars(self))

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write lines that are missing or changed as .csv, .ecsv, .fits or .parquet."""
        kept = self.status != "unchanged"
        units = {"wavelength": "Angstrom", "log_gf_change": "dex", "error": "dex"}
        columns = {name: column[kept] for name, column in self.to_table().items()}
        return write_table(columns, path, units, overwrite=overwrite)

    def __repr__(self) -> str:
        counts = [f"{(self.status == one).sum()} {one}" for one in ("missing", "changed", "unchanged")]
        return f"LineChanges({len(self)} lines: {', '.join(counts)})"


def line_changes(
    synthetic: ForwardModel | Emulator,
    observed: ForwardModel | Emulator,
    lines: Lines,
    labels: ArrayLike | Mapping[str, ArrayLike] | Spectra | int = 64,
    *,
    q: float = 0.05,
    width: float | None = None,
    seed: int = 0,
    error: Callable[[Comparison], FloatArray] | None = None,
) -> LineChanges:
    """Measure by how much the log gf of known lines should change, one value a line, shared by all stars.

    A line of another log gf looks as it would at another abundance of its element. So the difference of the
    spectra, over the response of synthetic ones to that abundance, is the change of log gf; where that is
    large, lines grow as in synthetic spectra of other abundances. Lines of an element that overlap are
    fitted together. A line is missing where synthetic spectra do not respond, and observed ones do.

    Parameters
    ----------
    synthetic, observed, labels, width, seed, error
        As for :func:`draper.models.translator.lines.new_lines`.
    lines
        The line list; its relative strengths share the response of a pixel among lines of one element. Lines
        of elements without a label count where labels are [X/Fe], as parts of "Fe".
    q
        Largest expected fraction of lines that are called missing or changed, and are not.

    Examples
    --------
    >>> import torch
    >>> from draper.data.grid import Grid
    >>> from draper.data.labels import Label, LabelSet
    >>> grid = Grid.linear(5000, 5020, 0.1, medium="vacuum")
    >>> profile = torch.exp(-0.5 * ((torch.tensor(grid.vacuum).float() - 5010) / 0.2) ** 2)
    >>> labels = LabelSet([Label("fe_h", low=-2.0, high=0.5)])
    >>> weak, strong = (
    ...     ForwardModel.from_function(lambda x, gf=gf: torch.exp(-gf * 10**x * profile), grid, labels)
    ...     for gf in (0.01, 0.02)
    ... )
    >>> known = Lines(np.array(["Fe I"]), np.array([5010.0]), np.array([0.0]))
    >>> changes = line_changes(weak, strong, known, [[-0.3], [0.0], [0.3]])
    >>> changes.status.tolist(), changes.log_gf_change.round(2)
    (['changed'], array([0.3]))
    """
    one, two = as_forward_model(synthetic), as_forward_model(observed)
    stars = stars_of(two, labels, seed)
    old, new = (responses_at(model, stars, two) for model in (one, two))
    compared = compare(old, new, two, float(width or typical_width(new.flux.mean(axis=0))))
    deep = compare(*depths(old.flux, new.flux), two, compared.width)
    settled = []
    for each in (compared, deep):
        # Errors that scale with lines cannot be told from changes of gf, and are not part of the noise.
        flat, noise, _ = settle(replace(each, templates=each.templates[[0, 2]]), one_sided=False)
        settled.append((flat, noise if error is None else np.maximum(noise, error(flat))))
    (compared, noise), (deep, deep_noise) = settled
    # Responses and fluxes are averaged with the same weights of stars as depths.
    slopes = deep.mean(old)
    shifted = [responses_at(one, _shifted(two, stars, shift), two) if shift else old for shift in SHIFTS]
    grown = np.concatenate([deep.mean(replace(old, slopes=(s.flux - old.flux)[..., None])) for s in shifted])
    vacuum = compared.grid.vacuum
    within = lines.within(vacuum[0], vacuum[-1])
    parts = []
    owners = _owners(within, two)
    for row, element in enumerate(new.elements):
        own = np.flatnonzero(owners == element)
        if len(own):
            part = Lines(within.species[own], within.wavelength[own], within.strength[own])
            present, absent, significance = _seen(part, compared, noise[row], row)
            change = _changes(part, deep, slopes[row], deep_noise[0], grown, present)
            significance[present] = change[2]
            log_gf, log_gf_error = np.full((2, len(own)), np.nan)
            log_gf[present], log_gf_error[present] = change[:2]
            fitted = (log_gf, log_gf_error, significance, absent, absent | present)
            parts.append((part, np.full(len(own), element), *fitted))
    if not parts:
        raise DraperError(
            "the line list has no line of these elements in the range of the spectra",
            given=f"{len(within)} lines in {compared.grid.extent}",
            expected=", ".join(new.elements),
        )
    species, wavelength = (
        np.concatenate([getattr(part[0], name) for part in parts]) for name in ("species", "wavelength")
    )
    owner, log_gf, log_gf_error, significance, absent, measured = (
        np.concatenate([part[number] for part in parts]) for number in range(1, 7)
    )
    chance = 2 * norm.sf(np.abs(significance[measured]))
    q_values = np.ones(len(owner))
    q_values[measured] = false_discovery_control(chance) if measured.any() else chance
    status = np.where(q_values <= q, np.where(absent, "missing", "changed"), "unchanged")
    order = np.argsort(wavelength, kind="stable")
    order = order[measured[order]]
    columns: tuple[NDArray[Any], ...] = (
        species, wavelength, owner, log_gf, log_gf_error, q_values, status
    )  # fmt: skip
    return LineChanges(*(column[order] for column in columns))


def _seen(
    lines: Lines, compared: Comparison, noise: FloatArray, row: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], FloatArray]:
    """Return of m lines of an element which synthetic spectra have, which they lack, and how sure that is.

    ``noise`` (p,) is that of the difference of responses; ``row`` is the number of the element.
    """
    change, before = compared.difference[row], compared.mean(compared.old)[row]
    at = _nearest(lines, compared)
    was, now = -before[at] / noise[at], -(before + change)[at] / noise[at]
    absent = (now > MEASURED) & (was < ABSENT * now)
    return (was > MEASURED) & ~absent, absent, np.where(absent, -change[at] / noise[at], 0.0)


def _nearest(lines: Lines, compared: Comparison) -> NDArray[np.int64]:
    """Return the pixel (m,) at the centre of each line."""
    centres = np.interp(lines.wavelength, compared.grid.vacuum, np.arange(len(compared.grid)))
    return np.asarray(np.clip(np.rint(centres), 0, len(compared.grid) - 1), dtype=np.int64)


def _changes(
    lines: Lines,
    depths: Comparison,
    slope: FloatArray,
    noise: FloatArray,
    grown: FloatArray,
    present: NDArray[np.bool_],
) -> FloatArray:
    """Return changes of log gf of k present lines of one element, their errors, and how sure they are (3, k).

    Parameters
    ----------
    lines
        The m lines.
    depths
        The flux of both kinds of spectra, and the mean difference.
    slope : ndarray (p,)
        Mean response of the synthetic flux to the element.
    noise : ndarray (p,)
        Noise of the mean difference.
    grown : ndarray (s, p)
        By how much the synthetic flux changes at each of ``SHIFTS``.
    present : ndarray (m,) bool
        Lines that synthetic spectra have.
    """
    grid, change = depths.grid, depths.difference[0]
    sigma = depths.width / FWHM
    pixels = np.arange(len(grid), dtype=np.float64)
    centres = np.interp(lines.wavelength, grid.vacuum, pixels)
    offsets = np.abs(pixels - centres[:, None])
    # Profiles of lines in smoothed spectra; the response of saturated lines grows with the root of gf only.
    shapes = np.exp(-0.25 * (offsets / sigma) ** 2) * 10 ** (0.5 * lines.strength[:, None])
    shares = shapes / np.maximum(shapes.sum(axis=0), 1e-30)
    # Far from a line it explains no difference.
    own = np.where(offsets <= 1.5 * depths.width, shares, 0.0)[present]
    columns = own * slope / noise
    prior = np.eye(len(columns)) / WIDEST**2
    normal = columns @ columns.T
    inverse = np.linalg.inv(normal + prior)
    found = inverse @ (columns @ (change / noise))
    # Smoothing makes the noise of neighbouring pixels alike, so that they tell less than independent ones.
    spread = smoothed(columns, grid, depths.width * 2**0.5) * max(1.0, 2 * np.pi**0.5 * sigma)
    covariance = inverse @ (columns @ spread.T + prior) @ inverse
    # What neighbours change is attributed to the line in part, as shares are not exact.
    power = np.maximum(np.diag(normal), 1e-30)
    leaked = SHARED * (normal / power[:, None] - np.eye(len(normal))) * found
    error = np.sqrt(np.clip(np.diag(covariance), 1e-12, None) + (leaked**2).sum(axis=1))
    curves = inverse @ ((columns / noise) @ grown.T)
    return np.stack([*_on_curves(found, error, curves), found / error])


def _on_curves(found: FloatArray, error: FloatArray, curves: FloatArray) -> FloatArray:
    """Return changes of log gf and errors (2, m) from those (m,) that hold if growth is linear.

    ``curves`` (m, s) are what such a fit finds of lines that have changed by ``SHIFTS``.
    """
    steps = np.diff(SHIFTS)
    rises = np.clip(np.diff(curves, axis=1), LEAST_GROWTH * steps, None)
    curves = np.concatenate([np.zeros((len(found), 1)), np.cumsum(rises, axis=1)], axis=1)
    curves -= curves[:, [SHIFTS.index(0.0)]]
    piece = np.clip((found[:, None] > curves).sum(axis=1) - 1, 0, len(steps) - 1)
    rows = np.arange(len(found))
    slope = rises[rows, piece] / steps[piece]
    change = np.array(SHIFTS)[piece] + (found - curves[rows, piece]) / slope
    # Lines have not been computed beyond.
    return np.stack([np.clip(change, 2 * SHIFTS[0], 2 * SHIFTS[-1]), error / slope])


def _shifted(model: ForwardModel, stars: Mapping[str, FloatArray], shift: float) -> dict[str, FloatArray]:
    """Return labels of the stars with all abundances [X/H] changed by ``shift``."""
    names = element_labels(model.labels).values()
    # Abundances [X/Fe] stay, if there is an [Fe/H] to change.
    moved = {name for name in names if name.endswith("_h") or "fe_h" not in names}
    return {name: column + shift * (name in moved) for name, column in stars.items()}


def _owners(lines: Lines, model: ForwardModel) -> NDArray[np.str_]:
    """Return the element (m,) with whose abundance each line is measured; empty if there is none."""
    labels = element_labels(model.labels)
    others = (
        "Fe"
        if "Fe" in labels and not any(name.endswith("_h") for name in labels.values() if name != "fe_h")
        else ""
    )
    symbols = [species.split(" ")[0] for species in lines.species]
    return np.array([symbol if symbol in labels else others for symbol in symbols], dtype=str)
