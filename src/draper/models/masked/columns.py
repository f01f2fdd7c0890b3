"""Columns of the table as inputs and outputs: magnitudes, parallax, others, each with its error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from draper.data.labels import canonical
from draper.data.labels import columns as label_columns
from draper.errors import DraperError, did_you_mean
from draper.nn.module import Batch

FloatArray = NDArray[np.float64]

MAGNITUDE, PARALLAX = "_mag", "parallax"
"""Ending of the names of magnitudes, and name of the parallax."""

FAINTEST_WEIGHT = 1e-4
"""Variance [mag^2] added to that of each band, so that no band alone decides on the brightness."""


def default_columns(names: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """Return the magnitudes and the parallax among columns, unless they are labels.

    Examples
    --------
    >>> default_columns(["g_mag", "g_mag_err", "g_mag_true", "parallax", "teff"], ["parallax"])
    ('g_mag',)
    """
    chosen = [name for name in names if name.endswith(MAGNITUDE) or name == PARALLAX]
    return tuple(name for name in chosen if name not in labels)


def read_columns(
    table: Mapping[str, NDArray[np.generic]], names: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Return values and errors (n, c) of columns; NaN where one is missing.

    Columns are found by name, in any order; one that is absent is missing for every row.
    """
    rows = len(next(iter(table.values()))) if table else 0
    values, errors = np.full((rows, len(names)), np.nan), np.full((rows, len(names)), np.nan)
    for number, name in enumerate(names):
        if name in table:
            values[:, number] = label_columns(table, [name])[:, 0]
        if f"{name}_err" in table:
            errors[:, number] = label_columns(table, [f"{name}_err"])[:, 0]
    # A value with an impossible error is worth nothing, and neither is one that no star has.
    values[(errors < 0) | np.isinf(errors)] = np.nan
    largest = np.array([FAINTEST if name.endswith(MAGNITUDE) else np.inf for name in names])
    largest[[name == PARALLAX for name in names]] = NEAREST
    with np.errstate(invalid="ignore"):
        values[~(np.abs(values) < largest)] = np.nan
    return values, np.where(np.isinf(errors), np.nan, errors)


def known_labels(
    table: Mapping[str, NDArray[np.generic]], names: Sequence[str]
) -> Mapping[str, NDArray[np.generic]]:
    """Return the labels of a table; those with an impossible error are missing: they are worth nothing."""
    if any(name not in table for name in names):
        return table  # whoever reads it says what is missing
    found = {name: table[name] for name in names}
    for name in names:
        if f"{name}_err" in table:
            errors = np.asarray(table[f"{name}_err"], dtype=np.float64)
            values = np.asarray(table[name], dtype=np.float64)
            found[name] = np.where((errors < 0) | np.isinf(errors), np.nan, values)
    return found


def require_any(table: Mapping[str, NDArray[np.generic]], names: Sequence[str]) -> None:
    """Refuse a table in which a column seems to be misspelt."""
    if not names or any(name in table for name in names):
        return
    near = [hint for name in table if (hint := did_you_mean(canonical(name), names))]
    raise DraperError(
        "there is neither a spectrum nor any column that the model knows",
        given=", ".join(table) or "no columns",
        expected=", ".join(names),
        hint=near[0] if near else None,
    )


def require_spelling(
    table: Mapping[str, NDArray[np.generic]], names: Sequence[str], others: Sequence[str] = ()
) -> None:
    """Refuse a table with a column that looks like a misspelt one among ``names``, which it lacks.

    Neither these names nor ``others`` are misspelt.

    Short names differ by one letter anyhow, such as those of bands: these are compared without case,
    underscores and what all magnitudes have in their names.

    Examples
    --------
    >>> require_spelling({"gmag": np.zeros(1), "i_mag": np.zeros(1)}, ["g_mag", "j_mag"])
    Traceback (most recent call last):
    ...
    draper.errors.DraperError: a column looks like one that the model knows by another name
      given:    gmag
      expected: g_mag
      hint:     rename it, or drop it
    """
    for name in names:
        if name in table:
            continue
        for other in table:
            one, own = _plain(other), _plain(name)
            is_near = len(own) > SHORT and SequenceMatcher(None, one, own).ratio() > NEAR
            if other not in (*names, *others) and (one == own or is_near):
                raise DraperError(
                    "a column looks like one that the model knows by another name",
                    given=other,
                    expected=name,
                    hint="rename it, or drop it",
                )


def _plain(name: str) -> str:
    """Return a name without what spellings of the same column differ in."""
    return re.sub(r"mag(nitude)?|phot|mean|[^a-z0-9]", "", name.lower())


SHORT, NEAR = 5, 0.86
"""Number of letters up to which names must be equal, and the similarity of longer ones that are taken to be
misspelt."""

FAINTEST, NEAREST = 100.0, 1e6
"""Largest magnitude and parallax [mas] that are not a mistake."""


class Observed(NamedTuple):
    """Columns in the units of the network.

    Attributes
    ----------
    value, error : Tensor (n, c)
        Scaled values and errors, 0 where unknown.
    visible : Tensor (n, c)
        1 where the network may see the value.
    target, target_error : Tensor (n, c)
        The same of all known values, on the scale of the visible ones.
    known : Tensor (n, c)
        1 where there is a value.
    reference : Tensor (n, 2)
        Scaled brightness, and whether it may be seen.
    magnitude : Tensor (n,)
        Scaled brightness of all known values; NaN without any.
    """

    value: Tensor
    error: Tensor
    visible: Tensor
    target: Tensor
    target_error: Tensor
    known: Tensor
    reference: Tensor
    magnitude: Tensor


class ColumnScales(nn.Module):
    """Scales of columns; the first is the brightness of the spectrum itself, as a magnitude.

    Magnitudes are taken relative to their weighted mean, so that distance hardly matters to them. The
    parallax is multiplied by 10^(0.2 m): what is left of it is an absolute magnitude.

    Parameters
    ----------
    names
        Columns of the table.
    """

    is_magnitude: Tensor
    centre: Tensor
    scatter: Tensor
    brightness: Tensor
    typical: Tensor
    largest: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        kinds = ["magnitude", *("magnitude" if n.endswith(MAGNITUDE) else n for n in names)]
        self.parallax = kinds.index(PARALLAX) if PARALLAX in kinds else None
        is_magnitude = torch.tensor([kind == "magnitude" for kind in kinds])
        self.register_buffer("is_magnitude", is_magnitude)
        self.register_buffer("centre", torch.zeros(len(kinds)))
        self.register_buffer("scatter", torch.ones(len(kinds)))
        self.register_buffer("brightness", torch.tensor([0.0, 1.0]))
        self.register_buffer("typical", torch.zeros(len(kinds)))
        self.register_buffer("largest", torch.full((len(kinds),), torch.inf))

    def trusted(self, values: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and errors (n, c): typical errors where they are missing.

        A value with an error above all those of the training set is missing: the network would not know what
        to make of it.
        """
        errors = torch.where(torch.isnan(errors), self.typical, errors)
        return torch.where(errors > self.largest, torch.nan, values), errors

    def _mean_magnitude(self, values: Tensor, errors: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted mean (n,) of visible magnitudes less their centres, and whether any is."""
        spread = torch.where(self.is_magnitude, self.scatter.square() + FAINTEST_WEIGHT, 1.0)
        weight = visible * self.is_magnitude / (errors.square() + spread)
        total = weight.sum(1)
        mean = (weight * (values - self.centre)).sum(1) / total.clamp(min=1e-12)
        return mean, total > 0

    def forward(self, values: Tensor, errors: Tensor, keep: Tensor) -> Observed:
        """Return columns (n, c), NaN where missing, of which some may be seen (``keep``, 0 or 1)."""
        values, errors = self.trusted(values, errors)
        known = torch.isfinite(values).to(values.dtype)
        values = torch.nan_to_num(values)
        visible = known * keep
        seen, has_seen = self._mean_magnitude(values, errors, visible)
        every, has_any = self._mean_magnitude(values, errors, known)
        reference = torch.where(has_seen, seen, every)
        # What is shown must not tell the brightness of what is hidden.
        own = torch.where(has_seen, seen, self.brightness[0].expand_as(seen))
        value, error = self._scaled(values, errors, own)
        target, target_error = self._scaled(values, errors, reference)
        target, target_error = target * known, target_error * known
        scaled = (reference - self.brightness[0]) / self.brightness[1] * has_seen
        brightness = torch.stack([scaled, has_seen.to(values.dtype)], dim=1)
        magnitude = torch.where(has_any, (reference - self.brightness[0]) / self.brightness[1], torch.nan)
        return Observed(
            value * visible,
            error * visible,
            visible,
            target,
            target_error,
            known,
            brightness,
            magnitude,
        )

    def _scaled(self, values: Tensor, errors: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        off = torch.where(self.is_magnitude, values - reference[:, None], values)
        sigma = errors
        if self.parallax is not None:
            factor = 10 ** (0.2 * (reference - self.brightness[0]))
            place = self.parallax
            off = off.clone()
            sigma = errors.clone()
            off[:, place] = values[:, place] * factor
            sigma[:, place] = errors[:, place] * factor
        scaled = (off - self.centre) / self.scatter
        width = sigma / self.scatter
        if self.parallax is not None:
            plain = scaled[:, self.parallax].clone()
            width[:, self.parallax] = width[:, self.parallax] / (1 + plain.square()).sqrt()
            scaled[:, self.parallax] = torch.asinh(plain)
        return scaled, width

    def unscaled(self, scaled: Tensor, width: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and errors (n, c) of scaled ones; ``reference`` (n,) is the scaled brightness."""
        scaled, width = scaled.clone(), width.clone()
        mean = reference * self.brightness[1] + self.brightness[0]
        if self.parallax is not None:
            place = self.parallax
            width[:, place] = width[:, place] * torch.cosh(scaled[:, place])
            scaled[:, place] = torch.sinh(scaled[:, place])
        values, errors = scaled * self.scatter + self.centre, width * self.scatter
        values = torch.where(self.is_magnitude, values + mean[:, None], values)
        if self.parallax is not None:
            factor = 10 ** (-0.2 * (mean - self.brightness[0]))
            values[:, place], errors[:, place] = values[:, place] * factor, errors[:, place] * factor
        return values, errors

    @torch.no_grad()
    def measure(self, values: Tensor, errors: Tensor) -> None:
        """Measure centres and scatters from rows (n, c) of the training set."""
        self.centre.zero_()
        self.scatter.fill_(1.0)
        self.brightness.copy_(torch.tensor([0.0, 1.0]))
        known = torch.isfinite(values)
        stated = torch.where(known & (errors > 0), errors, torch.nan)[:, 1:]  # the first is the model's own
        self.typical[1:] = stated.nanmedian(0).values.nan_to_num(0.0)
        most = stated.nan_to_num(0.0).amax(0)
        self.largest[1:] = torch.where(most > 0, most, torch.inf)
        values, errors = self.trusted(values, errors)
        bands = self.is_magnitude & known.any(0)
        if bands.any():
            # Colours relative to the band that is known most often.
            first = int((known & self.is_magnitude).sum(0).argmax())
            colour = (values - values[:, first : first + 1]).nanmedian(0).values
            self.centre.copy_(torch.where(bands & torch.isfinite(colour), colour, 0.0))
            for _ in range(2):
                mean, has_mean = self._mean_magnitude(torch.nan_to_num(values), errors, known.float())
                rows = has_mean & known.any(1)
                off = torch.where(known & rows[:, None], values - mean[:, None], torch.nan)
                self.centre.copy_(torch.where(bands, off.nanmedian(0).values.nan_to_num(0.0), self.centre))
                self.scatter.copy_(
                    torch.where(bands, _robust(off - self.centre).clamp(min=1e-3), self.scatter)
                )
            mean = mean[rows]
            self.brightness.copy_(torch.stack([mean.median(), _robust(mean[:, None])[0].clamp(min=1e-3)]))
        rest = ~self.is_magnitude & known.any(0)
        if rest.any():
            mean, _ = self._mean_magnitude(torch.nan_to_num(values), errors, known.float())
            off = values.clone()
            if self.parallax is not None:
                off[:, self.parallax] *= 10 ** (0.2 * (mean - self.brightness[0]))
            centre = off.nanmedian(0).values.nan_to_num(0.0)
            scatter = _robust(off - centre)
            # Of a column of which most values are equal, such as 0.
            spread = (off - centre).square().nanmean(0).sqrt().nan_to_num(1.0)
            scatter = torch.where(scatter > 1e-3 * spread, scatter, spread)
            if self.parallax is not None:
                centre[self.parallax] = 0.0
                scatter[self.parallax] = off[:, self.parallax].abs().nanmedian()
            self.centre.copy_(torch.where(rest, centre, self.centre))
            self.scatter.copy_(torch.where(rest, scatter.nan_to_num(1.0).clamp(min=1e-9), self.scatter))


def _robust(values: Tensor) -> Tensor:
    """Return the scatter (c,) of values (n, c) about 0, as that of a Gaussian with the same median."""
    return values.abs().nanmedian(0).values.nan_to_num(1.0) * 1.4826


def columns_of(batch: Batch, magnitude: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and errors (n, c) with the brightness of the spectrum as the first column."""
    values = torch.cat([magnitude[:, None], batch["columns"]], dim=1)
    return values, torch.cat([error[:, None], batch["columns_err"]], dim=1)
