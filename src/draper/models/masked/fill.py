"""What is missing of stars, filled in: pixels, bands, whole spectra from photometry or from labels."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.configs.masked import Given, MaskedConfig
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.models.base import Model, Progress
from draper.models.masked.network import DEPTH, MaskedNetwork, Predicted, Seen
from draper.nn.module import Batch

NO_ERRORS_SNR = 1000.0
"""Signal-to-noise ratio of spectra that come without errors."""


def filled(model: Model, spectra: Spectra, given: Given, progress: Progress | None = None) -> Spectra:
    """Return spectra and columns whose missing parts are filled in, with errors.

    Labels are shown where there is no spectrum. Stars of which nothing else is known are as bright as the
    median training star: the column ``brightness_assumed`` marks them.
    """
    network = cast(MaskedNetwork, model.own_module)
    names = cast(MaskedConfig, model.config).columns or ()
    pixels, count = len(model.own_grid), len(names)
    if given == "labels" and not model.labels:
        raise DraperError("this model knows no labels", hint="fine-tune it with labels=[...]")
    use_labels = given != "columns" and any(name in spectra.table for name in model.labels.names)
    if given == "labels" and not use_labels:
        raise DraperError(
            "there is no column with a label of the model",
            given=", ".join(spectra.table) or "no columns",
            expected=", ".join(model.labels.names),
        )

    def fill(batch: Batch) -> tuple[Tensor, ...]:
        if given == "columns":
            batch = {**batch, "ivar": torch.zeros_like(batch["ivar"])}
        no_pixels = (batch["ivar"] <= 0).all(1)
        is_bare = no_pixels & ~batch["columns"].isfinite().any(1)
        by_labels = (torch.ones_like(is_bare) if given == "labels" else is_bare) & use_labels
        rest = (~by_labels).float()[:, None]
        shown = (by_labels | (no_pixels & use_labels)).float()[:, None].expand(-1, network.labels)
        hide = rest.expand(-1, pixels) if given == "all" else torch.zeros_like(batch["flux"])
        seen = network.see(batch, hide, rest.expand(-1, count + 1), shown)
        predicted = network.predicted(network.trunk(seen.visible), seen)
        visible = seen.visible
        anything = visible.has_pixels + visible.has_column.sum(1) + visible.has_label.sum(1) > 0
        magnitude = torch.where(by_labels, _brightness(network, seen, predicted), seen.columns.magnitude)
        is_assumed = by_labels & anything & ~magnitude.isfinite()
        magnitude = torch.where(is_assumed, 0.0, torch.where(anything, magnitude, torch.nan))
        values, errors = network.scales.unscaled(predicted.columns, predicted.columns_var.sqrt(), magnitude)
        flux, variance = expected(network, seen, predicted)
        has_level = seen.columns.known[:, 0] > 0
        level = torch.where(has_level, seen.level, torch.exp(-values[:, 0] / DEPTH))
        level = torch.where(anything, level, torch.nan)
        # The brightness of a spectrum that is not there is itself an estimate.
        variance = variance + (~has_level * (errors[:, 0] / DEPTH).square())[:, None] * flux.square()
        flags = torch.stack([by_labels, is_assumed], dim=1)
        return level[:, None] * flux, level[:, None] * variance.sqrt(), values[:, 1:], errors[:, 1:], flags

    def more(part: Spectra, rows: slice) -> dict[str, NDArray[Any]]:
        return model.targets(part) if use_labels else {}

    widths = (pixels, pixels, count, count, 2)
    flux, sigma, values, errors, flags = model.apply(spectra, fill, widths, more, progress)
    by_labels, is_assumed = (flags > 0).T
    bad = ~np.isfinite(flux) | ~np.isfinite(sigma) | (sigma <= 0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ivar = np.where(bad, 0, 1 / np.where(bad, 1, sigma) ** 2)
    table = dict(spectra.table)
    for number, name in enumerate(names):
        before = np.asarray(table.get(name, np.full(len(spectra), np.nan)), dtype=np.float64)
        absent = ~np.isfinite(before) | by_labels
        own = np.asarray(table.get(f"{name}_err", np.zeros(len(spectra))), dtype=np.float64)
        if absent.any():
            table[name] = np.where(absent, values[:, number], before)
            table[f"{name}_err"] = np.where(absent, errors[:, number], own)
    meta = dict(spectra.meta)
    if is_assumed.any():
        table["brightness_assumed"] = is_assumed
        meta["note"] = (
            f"{int(is_assumed.sum()):,} have no brightness of their own: that of the median training star "
            "was assumed (column brightness_assumed); give a magnitude beside the labels"
        )
    shown = (spectra.ivar > 0) & (given == "all")
    weights = spectra.ivar
    if not shown.all():
        # Weights of 1 beside errors would be errors of 1.
        weights = known_weights(np.where(shown, spectra.flux, 0), np.where(shown, spectra.ivar, 0))
    has_pixels = bool((spectra.ivar > 0).any())
    return Spectra(
        model.own_grid,
        np.where(shown, spectra.flux, np.where(bad, 0, flux)),
        np.where(shown, weights, np.where(np.isfinite(ivar), ivar, 0)),
        table,
        spectra.quantity if has_pixels else model.training.get("quantity", spectra.quantity),
        spectra.unit if has_pixels else model.training.get("unit", spectra.unit),
        correlation=spectra.correlation.among(shown) if spectra.correlation and shown.any() else None,
        meta=meta,
    )


def expected(network: MaskedNetwork, seen: Seen, predicted: Predicted) -> tuple[Tensor, Tensor]:
    """Return spectra of brightness 1 (n, p) as the network expects them, and their variance."""
    statistics, found = network.statistics, predicted.spectrum(seen.shown)
    flux = statistics.mean + found.mean @ statistics.basis.T
    return flux, found.variance_of(statistics.basis) + statistics.excess


def _brightness(network: MaskedNetwork, seen: Seen, predicted: Predicted) -> Tensor:
    """Return the scaled brightness (n,) at which magnitudes are predicted as measured; NaN without any."""
    scales, columns = network.scales, seen.columns
    variance = (predicted.columns_var + columns.target_error.square()) * scales.scatter.square()
    weight = columns.known * scales.is_magnitude / variance
    off = (weight * (columns.target - predicted.columns) * scales.scatter).sum(1) / weight.sum(1)
    return columns.magnitude + off / scales.brightness[1]


def known_weights(flux: NDArray[np.float32], ivar: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return inverse variances (n, p): where a spectrum has none of its own, those of a high S/N.

    What spectra differ from the components is added to their errors in any case.
    """
    good = ivar > 0
    alone = (ivar == good).all(axis=1) & good.any(axis=1)
    if not alone.any():
        return ivar
    square = (flux.astype(np.float64) ** 2).sum(axis=1) / np.maximum(good.sum(axis=1), 1)
    own = np.where(square > 0, NO_ERRORS_SNR**2 / np.where(square > 0, square, 1), 1.0)
    if own[alone].max() > np.finfo(np.float32).max / 10:
        raise DraperError(
            "these spectra have no errors, and values too small for weights in single precision",
            given=f"rms {np.sqrt(square[alone].min()):.2g}",
            hint="multiply them by a power of ten, and include that factor in the unit",
        )
    weights: NDArray[np.float32] = np.where(alone[:, None], good * own[:, None], ivar).astype(np.float32)
    return weights
