"""The residual of the anchored method: learnt from observed spectra, some of which may have labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from draper.data.labels import LabelSet
from draper.errors import DraperError
from draper.models.translator.anchored import AnchoredNetwork
from draper.models.translator.anchors import FEW, NONE, USUAL, Anchors
from draper.models.translator.few_labels import learn_with_few_labels
from draper.models.translator.label_fit import BOUND, Nuisances
from draper.models.translator.without_anchors import learn_without_labels


def learnt(
    network: AnchoredNetwork, flux: Tensor, ivar: Tensor, x: Tensor, error: Tensor, nuisances: Nuisances
) -> tuple[AnchoredNetwork, dict[str, Any]]:
    """Return the network with the residual of observed spectra, some of which may have labels.

    Parameters
    ----------
    network
        With a trained part for synthetic spectra.
    flux, ivar : Tensor (n, p)
        Observed spectra of about the level of synthetic ones.
    x : Tensor (n, d)
        Scaled labels; NaN where unknown. Those beyond the synthetic spectra are left out, and only the first,
        by which stars are known, are used.
    error : Tensor (n, d)
        Their 1-sigma errors; NaN where unknown.
    nuisances
        What else may differ.
    """
    network = network.without_residual()  # that of an earlier fit was of other stars
    x = torch.cat([x[:, : network.known], torch.zeros_like(x[:, network.known :])], dim=1)
    usable = (ivar > 0).sum(1) > nuisances.continuum.shape[1] + network.labels
    error = torch.where(error > 0, error, USUAL)[:, : network.known]
    flux, ivar, x, error = flux[usable], ivar[usable], x[usable], error[usable]
    known = torch.isfinite(x).all(1)
    inside = known & (torch.nan_to_num(x).abs() <= BOUND).all(1)
    if not known.any():
        return learn_without_labels(network, flux, ivar, nuisances)
    if not inside.any():
        raise DraperError(
            "no observed star with known labels lies within the labels of the synthetic spectra",
            given=f"{int(known.sum())} stars with labels",
            hint="give synthetic spectra that cover them",
        )
    anchors = Anchors(flux, ivar, x, error)[inside]
    network, found = learn_with_few_labels(network, flux, ivar, anchors, nuisances)
    return network, {**found, "left_aside": int((known & ~inside).sum())}


def describe(found: Mapping[str, Any], labels: LabelSet) -> str:
    """Return what a model card says of a residual."""
    widths = ", ".join(f"{width:.2f}" for width in found["widths"])
    if not found["anchors"]:
        checked = f"these are multiplied by {widths}, so that halves of spectra agree"
        if found["spectra"] < FEW:
            checked = "so few spectra do not even show whether halves of them agree"
        return (
            f"Learnt from {found['spectra']:,} observed spectra without labels. Only what labels cannot "
            "imitate could be learnt: all labels may be shifted together, by an unknown amount that the "
            f"errors do not hold; {checked}. Some stars with known labels, twenty say, pin this down."
        )
    rich = f"sums of products of at most {found['degree']} labels"
    if found["degree"] == 0:
        rich = "the same residual for all stars"
    if found["degree"] == NONE:
        rich = (
            "too few for a residual that would gain anything, so only errors and a shift of labels are learnt"
        )
    if found.get("neural"):
        rich += ", and the hidden units of a small network"
    lines = [f"Learnt from {found['anchors']:,} observed stars with known labels; {rich}."]
    if "spectra" in found:
        lines = [
            f"Learnt from {found['spectra']:,} observed spectra; {found['anchors']:,} stars with known "
            f"labels show by how much the labels of all were off; {rich}."
        ]
    if found.get("left_aside"):
        lines.append(f"{found['left_aside']:,} more lie outside of the synthetic spectra and were not used.")
    if "rms" in found:
        known = labels[labels.names[: len(found["rms"])]]
        rms = known.unscale_error(np.full((1, len(known)), 0.5), np.array([found["rms"]]))[0]
        errors = ", ".join(
            f"{label.name} {value:.3g} {label.unit}".strip() for label, value in zip(known, rms, strict=True)
        )
        lines.append(f"Rms errors of left-out stars: {errors}.")
        lines.append(f"Errors of fits are multiplied by {widths}, so that they hold for left-out stars.")
    else:
        lines.append("Too few to leave some out: errors of labels have not been checked.")
    return " ".join(lines)
