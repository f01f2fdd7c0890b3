"""The figures that trials of a search are compared by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from draper.config import ModelConfig
from draper.configs.tune import TuneConfig
from draper.data.spectra import Spectra, has_errors
from draper.errors import DivergedError, DraperError
from draper.latents.baselines import Baselines, measure_baselines
from draper.models.base import Model
from draper.models.disentangler.leakage import filled
from draper.results.metrics import residuals
from draper.results.trials import Judged

PROBED = 0.6
"""Part of the stars that probes learn from; they are judged on the others."""


class Judge:
    """Figures of models on spectra that none of them has seen.

    Parameters
    ----------
    spectra
        With all labels of the options.
    options
        Of the models: which labels are removed and kept.
    search
        How to judge.
    """

    def __init__(self, spectra: Spectra, options: ModelConfig, search: TuneConfig) -> None:
        self.spectra, self.search = spectra, search
        self.removed, self.kept = (tuple(getattr(options, name)) for name in ("remove", "keep"))
        self.learnt, self.held_out = spectra.split(PROBED, seed=search.seed)
        self._baselines: Baselines | None = None

    @cached_property
    def measure(self) -> str:
        """What the reconstruction is judged by."""
        return "chi2 per pixel" if has_errors(self.spectra) else "rms of flux"

    def __call__(self, model: Model) -> Judged:
        """Return the figures of a model; those that cannot be measured are left out."""
        made = model.reconstruct(self.spectra)
        assert made is not None
        found = residuals(self.spectra, made)
        chi2 = found.reduced_chi2
        error = found.figures()["rms"] if chi2 is None else float(np.nanmean(chi2))
        if not math.isfinite(error):
            raise DivergedError("the reconstructions are not finite")
        if self._baselines is None:
            self._baselines = self._measured(model)
        report = model.leakage(  # type: ignore[attr-defined]
            self.learnt, self.held_out, truth=self.search.truth, probes=self.search.probes,
            seeds=(self.search.seed,), baselines=self._baselines,
        )  # fmt: skip
        leaks = _finite(report.leak)
        if not leaks:
            raise DraperError(
                "spectra hardly tell more of the labels to remove than the kept ones do",
                given=", ".join(self.removed), hint="other labels, or more spectra",
            )  # fmt: skip
        return Judged(error, leaks, _finite(report.conditional_leak), _finite(report.kept_ratio))

    def _measured(self, model: Model) -> Baselines:
        """Return floor and ceiling, which are the same for all models of the same training part."""
        parts = (self.learnt, self.held_out)
        names = (*self.removed, *self.kept)
        learnt, judged = (
            {name: part.columns([f"{name}{self.search.truth}"])[:, 0] for name in names} for part in parts
        )
        return measure_baselines(
            learnt, judged, filled(model, self.learnt), filled(model, self.held_out),
            removed=self.removed, kept=self.kept, probes=self.search.probes, seeds=(self.search.seed,),
        )  # fmt: skip


def _finite(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}
