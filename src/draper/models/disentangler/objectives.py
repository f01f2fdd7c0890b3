"""The two objectives of a search for options of a disentangler: reconstruction and leakage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from draper.configs.disentangler import DisentanglerConfig, LeakageObjectivesConfig
from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text
from draper.latents.baselines import Baselines, measure_baselines
from draper.models.base import Model
from draper.models.disentangler.leakage import MIN_HELD_OUT
from draper.models.disentangler.model import Disentangler
from draper.models.search.objectives import (
    HeldOut,
    Objectives,
    label_errors,
    reconstruction_error,
    reconstruction_unit,
)
from draper.results.trials import Figures

PROBED = 0.6
"""Fraction of the stars on which probes are trained; they are evaluated on the others."""


class ReconstructionAndLeakage(Objectives):
    """The error of reconstructions, and the largest leak of a removed label, which probes measure.

    The leak is that of the latents alone or beside kept labels, whichever is larger, and 0 at least: less is
    chance. The constraint ``least_kept`` is on the smallest ratio of a kept label.
    """

    names: ClassVar[tuple[str, ...]] = ("reconstruction", "leak")
    beside: ClassVar[tuple[str, ...]] = ("kept",)
    fewest: ClassVar[int] = MIN_HELD_OUT
    config: DisentanglerConfig
    options: LeakageObjectivesConfig

    def __init__(self, config: DisentanglerConfig, options: LeakageObjectivesConfig, seed: int) -> None:
        super().__init__(config, options, seed)
        self._baselines: list[tuple[Spectra, Baselines]] = []
        if not config.remove:
            raise DraperError("no label to remove was named", hint=option_text("remove", ["teff", "logg"]))
        if options.least_kept is not None and not config.keep:
            raise DraperError(
                "no label to keep was named",
                given=f"least_kept={options.least_kept:g}",
                hint=option_text("keep", ["fe_h"]),
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """All labels, and the true values of those that are removed and kept."""
        true = (f"{name}{self.options.truth}" for name in (*self.config.remove, *self.config.keep))
        return tuple(dict.fromkeys((*self.config.named, *true)))

    @property
    def constraint(self) -> str:
        """How much of the kept labels the latents must predict."""
        least = self.options.least_kept
        return "" if least is None else f"{least:g} of the labels to keep"

    def for_search(self, config: DisentanglerConfig) -> DisentanglerConfig:  # type: ignore[override]
        """Return options with which training does not itself probe the part that trials are compared on."""
        return config.replace(probe=False)

    def describe(self, part: HeldOut) -> dict[str, str]:
        """Return the axes of reconstruction and leak."""
        unit = reconstruction_unit(part["spectra"])
        return {
            "reconstruction": f"error of the reconstruction ({unit})",
            "leak": "largest leak of a removed label",
        }

    def evaluate(self, model: Model, part: HeldOut) -> Figures:
        """Return reconstruction and leak; figures that cannot be measured are left out."""
        model, spectra = cast(Disentangler, model), part["spectra"]
        error = cast(float, reconstruction_error(model, spectra))
        halves = spectra.split(PROBED, seed=self.seed)
        report = model.leakage(
            *halves,
            truth=self.options.truth,
            probes=self.options.probes,
            seeds=(self.seed,),
            baselines=self._baselines_of(model, spectra),
        )
        leaks, conditional = _finite(report.leak), _finite(report.conditional_leak)
        if not leaks:
            raise DraperError(
                "the spectra predict the labels to remove hardly better than the kept labels do",
                given=", ".join(self.config.remove),
                hint="other labels, or more spectra",
            )
        kept = _finite(report.kept_ratio)
        return Figures(
            {"reconstruction": error, "leak": max(0.0, *leaks.values(), *conditional.values())},
            {
                **({"kept": min(kept.values())} if kept else {}),
                **{f"leak_{name}": value for name, value in leaks.items()},
                **{f"conditional_{name}": value for name, value in conditional.items()},
                **{f"kept_{name}": value for name, value in kept.items()},
                **label_errors(model, spectra, self.options.truth),
            },
            self._shortfall(kept),
        )

    def _shortfall(self, kept: Mapping[str, float]) -> float:
        least = self.options.least_kept
        if least is None:
            return 0.0
        return least - min(kept.values()) if kept else 1.0

    def _baselines_of(self, model: Disentangler, spectra: Spectra) -> Baselines:
        """Return floor and ceiling, which are the same for all models of the same training part."""
        for measured, baselines in self._baselines:
            if measured is spectra:
                return baselines
        learnt, judged = spectra.split(PROBED, seed=self.seed)
        removed, kept = self.config.remove, self.config.keep
        baselines = measure_baselines(
            self._labels(learnt),
            self._labels(judged),
            model.scaled_flux(learnt),
            model.scaled_flux(judged),
            removed=removed,
            kept=kept,
            probes=self.options.probes,
            seeds=(self.seed,),
        )
        self._baselines.append((spectra, baselines))
        return baselines

    def _labels(self, part: Spectra) -> dict[str, NDArray[np.float64]]:
        """Return the true labels (n,) by name."""
        names = (*self.config.remove, *self.config.keep)
        return {name: part.columns([f"{name}{self.options.truth}"])[:, 0] for name in names}


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}
