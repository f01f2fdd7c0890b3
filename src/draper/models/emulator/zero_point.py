"""The zero point of an emulator's labels: the Sun, or other stars with known labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.configs.fit import FitConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.infer.label_fit import LabelFit
from draper.infer.zero_point import Offsets, line_correction, noise_of
from draper.instrument.resolution import resolving_power_of
from draper.nn.spectral import SpectralNetwork
from draper.results.estimates import Estimates

SHARP = 0.5
"""Least resolving power of spectra that correct lines, in units of the model's."""

NAMED = 20
"""Largest number of stars that are named."""


def known_labels(
    labels: LabelSet, spectra: Spectra, given: Mapping[str, ArrayLike] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return known labels (n, d) of stars, NaN where unknown, and their 1-sigma errors, 0 where not given."""
    table = spectra.table if given is None else given
    values = np.full((len(spectra), len(labels)), np.nan)
    errors = np.zeros_like(values)
    for number, name in enumerate(labels.names):
        for array, column in ((values, name), (errors, f"{name}_err")):
            if column in table:
                given_values = np.asarray(table[column], dtype=np.float64)
                if given_values.size not in (1, len(spectra)):
                    raise DraperError(
                        f"known labels '{column}' do not belong to the spectra",
                        given=f"{given_values.size} values",
                        expected=f"one for each of {len(spectra)} spectra, or one for all",
                    )
                array[:, number] = given_values
    if not np.isfinite(values).any():
        raise DraperError(
            "no label of the reference stars is known",
            given=", ".join(table) or "no columns",
            expected=f"some of {', '.join(labels.names)}",
        )
    return values, np.nan_to_num(errors)


def set_zero_point(
    network: SpectralNetwork,
    fit: LabelFit,
    spectra: Spectra,
    given: Mapping[str, ArrayLike] | None,
    config: FitConfig,
    lines: bool | None,
) -> tuple[LabelSet, dict[str, Any]]:
    """Correct the lines of a network; return its labels with moved ranges, and what there is to say.

    The arguments are those of :meth:`draper.models.emulator.model.Emulator.zero_point`; ``fit`` is that of
    the network.
    """
    labels, grid = fit.model.labels, fit.model.grid
    if any(label.scale == "log10" for label in labels):
        raise DraperError("a zero point is for labels with linear scales", given=repr(labels))
    known, errors = known_labels(labels, spectra, given)
    inside = ((known >= labels.low) & (known <= labels.high)) | np.isnan(known)
    usable = inside.all(axis=1) & np.isfinite(known).any(axis=1) & (spectra.ivar > 0).any(axis=1)
    if not usable.any():
        raise DraperError(
            "no reference star lies within the labels of the model",
            given=f"{len(spectra)} stars",
            expected=repr(labels),
        )
    spectra, known, errors = spectra[usable], known[usable], errors[usable]
    if lines is None:
        lines = network.can_correct_lines and are_sharp(spectra.grid, grid, config)
    elif lines and not network.can_correct_lines:
        raise DraperError(
            "lines of this network cannot be corrected",
            given=f"output or architecture of {type(network).__name__}",
            expected="linear output, without censored labels",
            hint="lines=False moves labels alone",
        )
    before = fit.predict(spectra, config)
    if before.flags["no_data"].all():
        raise DraperError(
            "no reference star could be fitted",
            given=f"{len(spectra)} stars without good pixels in the range of the model",
        )
    if lines:
        network.correct_lines(*line_correction(fit.model, spectra, known, config))
    found = fit.predict(spectra, config) if lines else before
    free = [name in found.labels.names for name in labels.names]
    median, sigma, first = np.full((3, *known.shape), np.nan)
    for number, name in enumerate(labels.names):
        if free[number]:
            place = found.labels.names.index(name)
            median[:, number], sigma[:, number] = found.median[:, place], found.sigma[:, place]
            first[:, number] = before.median[:, before.labels.names.index(name)]
            if lines:
                noise = noise_error(before, place, noise_of(spectra, grid)[0])
                sigma[:, number] = np.fmax(sigma[:, number], noise)
    offsets = Offsets.of(median - known, sigma**2 + errors**2)
    moved = LabelSet(
        replace(label, low=label.low - by, high=label.high - by)
        for label, by in zip(labels, offsets.offset, strict=True)
    )
    facts = {
        "stars": len(spectra),
        "ids": [str(name) for name in spectra.ids[:NAMED]],
        "left_aside": int((~usable).sum()),
        "lines": bool(lines),
        "labels": {
            name: {
                "stars": int(offsets.stars[number]),
                "before": float(np.nanmedian((first - known)[:, number])),
                "offset": float(offsets.offset[number]),
                "error": float(offsets.error[number]),
                "scatter": float(offsets.scatter[number]),
            }
            for number, name in enumerate(labels.names)
            if offsets.stars[number]
        },
    }
    return moved, facts


def noise_error(before: Estimates, place: int, noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the part of an error (n,) that noise makes; 0 where a fit had stated errors alone.

    After lines are corrected the residuals, from which errors were measured, are gone, and noise with them.
    """
    jitter, alike = before.columns["jitter"], before.columns["pixels_alike"]
    share = np.divide(noise, jitter, out=np.zeros_like(noise), where=jitter > 0)
    return np.asarray(before.sigma[:, place] * np.minimum(share, 1) / np.sqrt(alike))


def are_sharp(seen: Grid, own: Grid, config: FitConfig) -> bool:
    """Return whether spectra show the lines of a model as sharp as it has them, within a factor of two."""
    power = config.resolving_power if isinstance(config.resolving_power, float) else resolving_power_of(seen)
    best = resolving_power_of(own)
    if power is None or best is None:
        # A spectrum of unknown sharpness is judged by its pixels.
        return bool(np.median(seen.step) <= 2 * np.median(own.step))
    return power >= SHARP * best


def with_zero_point(estimates: Estimates, facts: Mapping[str, Any] | None) -> Estimates:
    """Return estimates whose errors hold that of the zero point, and which say what it is from."""
    if not facts:
        return estimates
    known = facts["labels"]
    more = [
        np.hypot(known[name]["error"], known[name]["scatter"]) if name in known else 0.0
        for name in estimates.labels.names
    ]
    said = np.full(len(estimates), described(facts))
    return replace(estimates.widened(more), columns={**estimates.columns, "zero_point": said})


def described(facts: Mapping[str, Any]) -> str:
    """Return the stars of a zero point in a few words.

    Examples
    --------
    >>> described({"stars": 1, "ids": ["sun"], "lines": True}), described({"stars": 20, "lines": False})
    ('sun (lines, labels)', '20 stars (labels)')
    """
    stars = facts["ids"][0] if facts["stars"] == 1 else f"{facts['stars']} stars"
    return f"{stars} ({'lines, labels' if facts['lines'] else 'labels'})"


def zero_point_section(facts: Mapping[str, Any], labels: LabelSet) -> str:
    """Return what a model card says of a zero point."""
    names = ", ".join(facts["ids"]) + (" and others" if facts["stars"] > len(facts["ids"]) else "")
    text = [
        f"Labels are relative to stars with known labels ({facts['stars']}): {names}.",
        "Lines were corrected by their spectra, pixel by pixel." if facts["lines"] else "",
        "Below are what fits gave before, minus the known value; what is subtracted, after lines were "
        "corrected, with its error; and the scatter of these stars beyond the errors of both (0: too few "
        "stars to know). Errors of predicted labels hold the last two.",
    ]
    rows = ["| label | stars | before | subtracted | scatter |", "|---|---|---|---|---|"]
    for name, own in facts["labels"].items():
        unit = labels[name].unit
        rows.append(
            f"| {name} | {own['stars']} | {own['before']:.3g} {unit} | {own['offset']:.3g} +- "
            f"{own['error']:.2g} {unit} | {own['scatter']:.2g} {unit} |"
        )
    return "\n\n".join([" ".join(part for part in text if part), "\n".join(rows)])
