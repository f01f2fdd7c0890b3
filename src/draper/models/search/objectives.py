"""What searches and sweeps compare models by: objectives on spectra that the models have not seen."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from draper.config import Config, ModelConfig
from draper.configs.train import TrainConfig
from draper.data.arrays import has_good_pixel
from draper.data.spectra import Spectra, Subset, has_errors
from draper.errors import DivergedError, DraperError, Interrupted, did_you_mean, option_text
from draper.models.base import Model
from draper.models.dataset import Dataset, SpectraPart
from draper.registry import resolve
from draper.results.metrics import residuals
from draper.results.trials import Figures
from draper.train.session import Session
from draper.train.trainer import Trainer

HeldOut = Mapping[str, Spectra]
"""Spectra that a model has not seen, by input."""

MOST_PREDICTED = 1000
"""Spectra whose labels one evaluation predicts, at most: a label fit may take longer than training."""


class Objectives(ABC):
    """How the models of a search are compared.

    A model names a subclass of it in ``ModelConfig.objectives``, and the class of its options in
    ``ModelConfig.objective_options``.

    Parameters
    ----------
    config
        Options that all models of the search share. What cannot be compared is refused here.
    options
        Options of the objectives.
    seed
        For what is drawn at random in an evaluation.
    """

    names: ClassVar[tuple[str, ...]]
    """Names of the objectives, all of which are minimised."""

    beside: ClassVar[tuple[str, ...]] = ()
    """Names of other figures that tables of trials show beside the objectives."""

    fewest: ClassVar[int] = 1
    """Spectra that an evaluation needs at least."""

    def __init__(self, config: ModelConfig, options: Config, seed: int) -> None:
        self.config, self.options, self.seed = config, options, seed

    @classmethod
    def of(cls, config: ModelConfig, options: Config | None, seed: int) -> Objectives:
        """Return the objectives that a model names.

        Examples
        --------
        >>> from draper.registry import config_class
        >>> Objectives.of(config_class("linear")(), None, 0).names
        ('loss',)
        """
        kind = config.objective_options
        if options is not None and type(options) is not kind:
            raise DraperError(
                "these are not options of the model's objectives",
                given=type(options).__name__,
                expected=kind.__name__,
            )
        found: Objectives = resolve(config.objectives)(config, kind() if options is None else options, seed)
        return found

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that an evaluation needs; rows where one is missing are left out."""
        return ()

    @property
    def constraint(self) -> str:
        """What a model must fulfil, in words; empty if anything will do."""
        return ""

    def select(self, parts: HeldOut, part: str) -> dict[str, Spectra]:
        """Return the rows of a part (valid or test) on which models can be evaluated.

        Rows without a good pixel, where the model needs one, are left out, and those of the first input
        without one of the columns.
        """
        columns = [self.columns, *[()] * (len(parts) - 1)]
        pairs = zip(parts.items(), columns, strict=True)
        return {name: self._selected(spectra, needed, part) for (name, spectra), needed in pairs}

    def _selected(self, spectra: Spectra, columns: tuple[str, ...], part: str) -> Spectra:
        for name in columns:
            if name not in spectra.table:
                raise DraperError(
                    "the spectra lack a label", given=name, hint=did_you_mean(name, spectra.table)
                )
        needs_pixels = resolve(self.config.model).needs_pixels
        rows = has_good_pixel(spectra.ivar) if needs_pixels else np.ones(len(spectra), dtype=bool)
        if columns:
            rows &= np.isfinite(spectra.columns(columns)).all(axis=1)
        if rows.sum() < self.fewest:
            raise DraperError(
                "too few spectra to compare models on, with all labels that this needs",
                given=f"{rows.sum()} in the {'validation' if part == 'valid' else part} part",
                expected=f"at least {self.fewest}",
                hint=f"give more spectra, or a larger part ({option_text(part)})",
            )
        return spectra[rows]

    def for_search(self, config: ModelConfig) -> ModelConfig:
        """Return options for the trials of a search, which may leave out what only a final model needs."""
        return config

    @abstractmethod
    def describe(self, part: HeldOut) -> dict[str, str]:
        """Return for each objective what it is on these spectra, as a plot names its axis."""

    @abstractmethod
    def evaluate(self, model: Model, part: HeldOut) -> Figures:
        """Return the figures of a model on spectra that it has not seen."""


class HeldOutLoss(Objectives):
    """The loss that training minimises, on held-out data; for any model.

    It compares models only while they have the same loss: an option that changes the loss itself, such as its
    norm, is to be compared by the other figures. These are the error of the reconstruction and of the labels,
    where a model of one input has them.
    """

    names: ClassVar[tuple[str, ...]] = ("loss",)

    def describe(self, part: HeldOut) -> dict[str, str]:
        """Return the axis of the loss."""
        return {"loss": "held-out loss"}

    def evaluate(self, model: Model, part: HeldOut) -> Figures:
        """Return the loss, the error of the reconstruction and those of the labels."""
        others = {}
        # Which input a verb of a model of several takes is the model's own: it names objectives that know.
        for spectra in part.values() if len(part) == 1 else ():
            if (error := reconstruction_error(model, spectra)) is not None:
                others["reconstruction"] = error
            others |= label_errors(model, spectra)
        return Figures({"loss": held_out_loss(model, part)}, others)


def held_out_loss(model: Model, part: HeldOut) -> float:
    """Return the mean total loss of a model on held-out data; of several players that of the last."""
    module, device = model.own_module, torch.device("cpu")
    train = TrainConfig(**model.training["config"]).replace(threads=1)
    held_out = {name: SpectraPart(Subset.whole(spectra)) for name, spectra in part.items()}
    feed = model.feed(Dataset(held_out, held_out), held_out, train, device=device, world=1)
    if module.condenses:
        feed = feed.condensed(module.condense)
    trainer = Trainer(module, feed, feed, train, device=device)
    trainer.session = Session.choose(train, module, {}, device)
    trainer.step = trainer.steps  # the loss at the end of training, whatever it ramps up
    return trainer.validate()["valid/total"]


def reconstruction_error(model: Model, spectra: Spectra) -> float | None:
    """Return how far a model's version of spectra is from them, or None where it makes none.

    It is the mean chi2 per pixel where the spectra have errors, and the rms of the flux elsewhere.
    """
    made = model.reconstruct(spectra)
    if made is None:
        return None
    difference = residuals(spectra, made)
    chi2 = difference.reduced_chi2
    error = difference.figures()["rms"] if chi2 is None else float(np.nanmean(chi2))
    if not math.isfinite(error):
        raise DivergedError("the reconstructions are not finite")
    return error


def reconstruction_unit(spectra: Spectra) -> str:
    """Return what :func:`reconstruction_error` measures on spectra."""
    return "chi2 per pixel" if has_errors(spectra) else "rms of flux"


def label_errors(model: Model, spectra: Spectra, truth: str = "") -> dict[str, float]:
    """Return the median absolute error of each label that a model predicts, as ``error_LABEL``.

    Parameters
    ----------
    model
        Any; one without labels gives nothing.
    spectra
        With true labels as columns; the first 1000 are predicted.
    truth
        Suffix of the columns with true labels.
    """
    known = {name: f"{name}{truth}" for name in model.labels.names if f"{name}{truth}" in spectra.table}
    if "predict" not in model.verbs or not known:
        return {}
    part = spectra[:MOST_PREDICTED]
    try:
        estimates = model.predict(part)  # type: ignore[attr-defined]
    except Interrupted:
        raise
    except DraperError:
        # Some models learn spectra from which they predict no labels; these figures are only beside the
        # objectives.
        return {}
    errors = {name: np.abs(estimates[name] - part.column(column)) for name, column in known.items()}
    return {
        f"error_{name}": float(np.median(values[np.isfinite(values)]))
        for name, values in errors.items()
        if np.isfinite(values).any()
    }
