"""What is known of labels beyond the box that a model was trained on: Gaussian priors, narrower ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from draper.configs.retriever import RetrieveConfig, pair
from draper.data.labels import LabelSet
from draper.errors import DraperError

FloatArray = NDArray[np.float64]

NARROW = 1e-3
"""Width of the prior of a label that is fixed, as a part of its range."""

KNOWN = 0.25
"""Part of its range to which a label is confined that counts as known beforehand."""

SOFTEST = 1e-7
"""Smallest power to which priors are softened."""


@dataclass(frozen=True)
class Prior:
    """What is known of l labels.

    Attributes
    ----------
    box : ndarray (2, l)
        The ends of the ranges that the model was trained on.
    centre, sigma : ndarray (l,)
        Of Gaussian priors; sigma is infinite where there is none.
    low, high : ndarray (l,)
        The ends of the ranges that are possible, inside the box.
    """

    box: FloatArray
    centre: FloatArray
    sigma: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, options: RetrieveConfig, labels: LabelSet) -> Prior:
        """Return the prior that options ask for."""
        box = np.array([labels.low, labels.high], dtype=np.float64)
        low, high = box.copy()
        centre, sigma = box.mean(axis=0), np.full(len(low), np.inf)
        named = {**options.priors, **options.bounds, **options.fixed}
        numbers = {name: labels.names.index(labels[name].name) for name in named}
        for name, text in options.bounds.items():
            least, most = pair(text)
            number = numbers[name]
            if not least < most:
                raise DraperError(
                    f"the range of {name} has no width", given=f"{least:g},{most:g}", expected="LOW,HIGH"
                )
            lower, upper = max(least, low[number]), min(most, high[number])
            if not lower < upper:
                raise DraperError(
                    f"the range of {name} does not overlap the one that the model was trained on",
                    given=f"{least:g} to {most:g}",
                    expected=f"{low[number]:g} to {high[number]:g}",
                )
            low[number], high[number] = lower, upper
        widths = NARROW * np.ptp(box, axis=0)
        fixed = {name: (value, widths[numbers[name]]) for name, value in options.fixed.items()}
        gaussian = {name: pair(text) for name, text in options.priors.items()}
        for name, (middle, width) in {**gaussian, **fixed}.items():
            number = numbers[name]
            if not 0 < width < math.inf:
                raise DraperError(f"the width of the prior of {name} must be above 0", given=width)
            if not low[number] <= middle <= high[number]:
                what = "fixed value" if name in fixed else "prior"
                where = "that the model was trained on" if name not in options.bounds else "of its bounds"
                raise DraperError(
                    f"the {what} of {name} lies outside the range {where}",
                    given=middle,
                    expected=f"{low[number]:g} to {high[number]:g}",
                )
            centre[number], sigma[number] = middle, width
        return cls(box, centre, sigma, low, high)

    def softened(self, share: float) -> Prior:
        """Return Gaussian priors to the power of ``share``, 0 to 1, in ranges that widen to the box at 0."""
        if share <= 0:
            return replace(self, sigma=np.full(len(self.low), np.inf), low=self.box[0], high=self.box[1])
        whole, own = np.ptp(self.box, axis=0), self.high - self.low
        width = own * (whole / own) ** (math.log(share) / math.log(SOFTEST))
        part = np.divide(whole - width, whole - own, where=whole > own, out=np.ones(len(own)))
        return replace(
            self,
            sigma=self.sigma / math.sqrt(share),
            low=self.box[0] + part * (self.low - self.box[0]),
            high=self.box[1] - part * (self.box[1] - self.high),
        )

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the box is known."""
        return not np.isfinite(self.sigma).any() and np.array_equal([self.low, self.high], self.box)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which labels (l,) are known so well beforehand that the data hardly need to say them."""
        is_narrow = self.high - self.low < KNOWN * np.ptp(self.box, axis=0)
        return np.asarray(np.isfinite(self.sigma) | is_narrow)

    def log_density(self, labels: FloatArray) -> FloatArray:
        """Return the log density (n,) at labels (n, l)."""
        inside = ((labels >= self.low) & (labels <= self.high)).all(axis=1)
        return np.where(inside, self.log_densities(labels).sum(axis=1), -np.inf)

    def log_densities(self, labels: FloatArray) -> FloatArray:
        """Return the log densities (n, l) of single labels (n, l) inside their ranges."""
        known = np.isfinite(self.sigma)
        below, above = self._ends()
        sigma = np.where(known, self.sigma, 1)
        pull = np.where(known, (labels - self.centre) / sigma, 0)
        gaussian = math.sqrt(2 * math.pi) * sigma * np.where(known, above - below, 1)
        return np.asarray(-np.log(np.where(known, gaussian, self.high - self.low)) - pull**2 / 2)

    def place(self, labels: FloatArray) -> FloatArray:
        """Return the places (n, l) of labels in the prior: their cumulative probability."""
        known = np.isfinite(self.sigma)
        below, above = self._ends()
        gaussian = (ndtr((labels - self.centre) / self.sigma) - below) / np.where(known, above - below, 1)
        return np.clip(np.where(known, gaussian, (labels - self.low) / (self.high - self.low)), 0, 1)

    def at(self, place: FloatArray) -> FloatArray:
        """Return the labels (n, l) at places in the prior."""
        known = np.isfinite(self.sigma)
        below, above = self._ends()
        with np.errstate(invalid="ignore"):
            gaussian = self.centre + self.sigma * ndtri(below + place * (above - below))
        box = self.low + place * (self.high - self.low)
        return np.clip(np.where(known, gaussian, box), self.low, self.high)

    def _ends(self) -> tuple[FloatArray, FloatArray]:
        """Return the cumulative Gaussians (l,) at the ends of the ranges."""
        below, above = (ndtr((end - self.centre) / self.sigma) for end in (self.low, self.high))
        return below, above
