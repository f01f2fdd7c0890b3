"""Calibration of posteriors on simulations: where true labels lie among samples of the posterior.

If posteriors are right, the rank of the truth among the samples is uniform for each label (simulation-based
calibration, Talts et al. 2018), and so is the rank of its distance from a random point, which tests all
labels together (TARP, Lemos et al. 2023). Histograms, coverage and tests all follow from these ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import bdtr, bdtrc

from draper.errors import DraperError, did_you_mean

FloatArray = NDArray[np.float64]

CELLS = 200
"""Number of equal cells in which ranks are counted: coverage is known at levels in steps of 0.01."""

LEVELS = (0.5, 0.68, 0.9, 0.95)
"""Levels at which tables give the coverage."""

JOINT = "all labels"
"""What is written in place of a label for the test of all labels together."""

ALL = "all"
"""Name of the group of all simulations."""

BINS = (20, 10, 5, 4, 2)
"""Numbers of bins of which the chi2 test uses the first that has ``FEW`` simulations in a bin."""
FEW = 5

STREAM = 1907
"""Keeps random numbers apart from those of a simulator with the same seed."""

REPEATS = 1000
"""Simulations of uniform ranks, and bootstrap samples, from which bands follow."""


class Band(NamedTuple):
    """A cumulative distribution at ``CELLS`` + 1 equal steps from 0 to 1, and the limits of a band."""

    levels: FloatArray
    values: FloatArray
    low: FloatArray
    high: FloatArray


def fractional_ranks(truth: ArrayLike, samples: ArrayLike, rng: np.random.Generator) -> FloatArray:
    """Return how many samples lie below the true labels (n, l), over their number: uniform between 0 and 1.

    A random number between two ranks makes the distribution continuous, and ties, as of repeated samples, are
    broken at random. Rows with NaN have the rank NaN.

    Parameters
    ----------
    truth : array (n, l)
        True labels.
    samples : array (n, draws, l)
        Independent samples of equal weight; :meth:`draper.infer.importance.ImportanceSamples.resample` makes
        them of weighted ones.
    rng
        Source of randomness.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> fractional_ranks([[0.0]], rng.uniform(-1, 3, (1, 999, 1)), rng).round(1)
    array([[0.2]])
    """
    true, drawn = _checked(truth, samples)
    below = (drawn < true[:, None]).sum(axis=1)
    equal = (drawn == true[:, None]).sum(axis=1)
    ranks = (below + rng.uniform(size=below.shape) * (equal + 1)) / (drawn.shape[1] + 1)
    return np.where(np.isnan(true) | np.isnan(drawn).any(axis=1), np.nan, ranks)


def joint_ranks(
    truth: ArrayLike, samples: ArrayLike, low: ArrayLike, high: ArrayLike, rng: np.random.Generator
) -> FloatArray:
    """Return ranks (n,) of the distance of the truth from a random point, among the distances of the samples.

    Labels are scaled to the unit box of ``low`` and ``high`` (l,), where the points are uniform.
    """
    true, drawn = _checked(truth, samples)
    lower = np.asarray(low, dtype=np.float64)
    span = np.asarray(high, dtype=np.float64) - lower
    if lower.shape != true.shape[1:] or not np.all(np.isfinite(span) & (span > 0)):
        raise DraperError(
            "the box of the labels has finite lower and upper ends",
            given=f"low {lower.tolist()}, high {np.asarray(high).tolist()}",
            expected=f"{true.shape[1]} numbers each, low below high",
        )
    point = lower + span * rng.uniform(size=true.shape)
    distances = [
        np.sqrt(np.square((x - y) / span).sum(axis=-1)) for x, y in ((true, point), (drawn, point[:, None]))
    ]
    return fractional_ranks(distances[0][:, None], distances[1][..., None], rng)[:, 0]


def _checked(truth: ArrayLike, samples: ArrayLike) -> tuple[FloatArray, FloatArray]:
    true, drawn = np.asarray(truth, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    if drawn.ndim != 3 or true.shape != (drawn.shape[0], drawn.shape[2]):
        raise DraperError(
            "there is one true value for each label of each posterior",
            given=f"truth {true.shape}, samples {drawn.shape}",
            expected="truth (n, labels), samples (n, draws, labels)",
        )
    return true, drawn


@dataclass(frozen=True, eq=False)
class Group:
    """The ranks of some simulations, counted.

    Attributes
    ----------
    name : str
        Which simulations.
    counts : ndarray (l + 1, CELLS)
        Of each label, and of all labels together.
    ks_p : ndarray (l + 1,)
        Probability of a larger distance from the uniform distribution (Kolmogorov-Smirnov), of each label
        and of all together. One of l labels falls below 0.05 / l in 5 % of cases.
    """

    name: str
    counts: NDArray[np.int64]
    ks_p: FloatArray

    @classmethod
    def count(cls, name: str, ranks: FloatArray) -> Self:
        """Return the group of ranks (n, l + 1); NaN does not count."""
        counts, chances = [], []
        for column in ranks.T:
            known = column[np.isfinite(column)]
            counts.append(np.histogram(known, CELLS, (0, 1))[0])
            chances.append(float(stats.kstest(known, "uniform").pvalue) if known.size else np.nan)
        return cls(name, np.array(counts), np.array(chances))

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Number of simulations (l + 1,) that count."""
        numbers: NDArray[np.int64] = self.counts.sum(axis=1)
        return numbers

    def coverage(self, level: float) -> FloatArray:
        """Return the share (l + 1,) of true labels inside the central interval that should hold ``level``.

        For all labels together it is the share of truths in the region of TARP that should hold as much.
        """
        inner = _cells(level / 2)
        half = CELLS // 2
        inside = self.counts[:, half - inner : half + inner].sum(axis=1).astype(np.float64)
        inside[-1] = self.counts[-1, : 2 * inner].sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(inside / self.numbers, dtype=np.float64)

    def coverage_err(self, level: float) -> FloatArray:
        """Return the standard deviation (l + 1,) of the coverage of a right posterior (binomial)."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.sqrt(level * (1 - level) / self.numbers), dtype=np.float64)

    def histogram(self, bins: int = 20) -> NDArray[np.int64]:
        """Return the numbers (l + 1, bins) of ranks in equal bins, a divisor of ``CELLS``."""
        if CELLS % bins:
            raise DraperError(
                f"the number of bins divides {CELLS}", given=bins, expected="such as 10, 20, 40"
            )
        counts: NDArray[np.int64] = self.counts.reshape(len(self.counts), bins, -1).sum(axis=2)
        return counts

    @property
    def chi2_p(self) -> FloatArray:
        """Probability (l + 1,) of a larger chi2 of the histogram; NaN where there are too few simulations."""
        chances = np.full(len(self.counts), np.nan)
        for row, number in enumerate(self.numbers):
            bins = next((bins for bins in BINS if number >= FEW * bins), None)
            if bins is not None:
                chances[row] = stats.chisquare(self.histogram(bins)[row]).pvalue
        return chances

    def cumulative(self, label: int, probability: float = 0.95) -> Band:
        """Return the cumulative distribution of the ranks of a label, by its number, and what it should be.

        Uniform ranks leave the band anywhere with a probability of 1 - ``probability`` (Saeilynoja et al.
        2022).
        """
        number = int(self.numbers[label])
        return Band(*_steps(self.counts[label], number), *uniform_band(number, probability))

    def expected_coverage(self, probability: float = 0.95, seed: int = 0) -> Band:
        """Return the coverage of all labels together against the level (TARP), with a bootstrap band."""
        number = int(self.numbers[-1])
        levels, values = _steps(self.counts[-1], number)
        shares = np.diff(values)
        drawn = np.random.default_rng(seed).multinomial(number, shares / max(shares.sum(), 1e-300), REPEATS)
        curves = np.pad(np.cumsum(drawn, axis=1), ((0, 0), (1, 0))) / max(number, 1)
        low, high = np.quantile(curves, (0.5 - probability / 2, 0.5 + probability / 2), axis=0)
        return Band(levels, values, low, high)


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """How often posteriors hold the truth, for each label, for all together, and for groups of simulations.

    Attributes
    ----------
    labels : tuple of str
        Names of the l labels.
    groups : tuple of Group
        All simulations (``calibration["all"]``), and parts of them.

    Examples
    --------
    The mean of a Gaussian with known width, whose posterior is known, too:

    >>> rng = np.random.default_rng(1)
    >>> truth = rng.uniform(0, 1, (2000, 1))
    >>> data = truth + 0.01 * rng.standard_normal((2000, 1))
    >>> samples = data[:, None] + 0.01 * rng.standard_normal((2000, 100, 1))
    >>> calibration = Calibration.measure(["rv"], truth, samples, low=[0], high=[1])
    >>> calibration
    Calibration(rv; 2000 simulations; coverage at 68 %: 69.6 to 69.6 %)
    >>> Calibration.measure(["rv"], truth, 0.5 + 0.9 * (samples - 0.5), low=[0], high=[1])["all"].ks_p < 1e-9
    array([ True,  True])
    """

    labels: tuple[str, ...]
    groups: tuple[Group, ...]

    @classmethod
    def measure(
        cls,
        labels: Sequence[str],
        truth: ArrayLike,
        samples: ArrayLike,
        *,
        low: ArrayLike,
        high: ArrayLike,
        strata: Mapping[str, ArrayLike] | None = None,
        seed: int = 0,
    ) -> Self:
        """Return the calibration of posteriors of simulations.

        Where all samples do not fit into memory, compute :func:`fractional_ranks` and :func:`joint_ranks` of
        a block of simulations at a time, and join them with :meth:`from_ranks`.

        Parameters
        ----------
        labels
            Names of the l labels.
        truth : array (n, l)
            True labels, drawn from the prior; rows with NaN do not count.
        samples : array (n, draws, l)
            Samples of equal weight of the posterior of each.
        low, high : array (l,)
            Ends of the prior's box.
        strata
            Values (n,) by which simulations are grouped, such as ``{"error [ppm]": errors}``.
        seed
            Random seed.
        """
        rng = np.random.default_rng((seed, STREAM))
        ranks = fractional_ranks(truth, samples, rng)
        return cls.from_ranks(labels, ranks, joint_ranks(truth, samples, low, high, rng), strata)

    @classmethod
    def from_ranks(
        cls,
        labels: Sequence[str],
        ranks: FloatArray,
        joint: FloatArray,
        strata: Mapping[str, ArrayLike] | None = None,
    ) -> Self:
        """Return the calibration of ranks (n, l) and joint ranks (n,), joined from blocks of simulations."""
        columns = np.column_stack([ranks, joint])
        if columns.shape[1] != len(labels) + 1:
            raise DraperError(
                "each label has a column of ranks", given=ranks.shape, expected=f"(n, {len(labels)})"
            )
        groups = [Group.count(ALL, columns)]
        for name, values in (strata or {}).items():
            array = np.asarray(values)
            if array.shape != (len(columns),):
                raise DraperError(
                    f"'{name}' does not group the simulations",
                    given=f"shape {array.shape}",
                    expected=f"({len(columns)},): one value for each simulation",
                )
            groups += [
                Group.count(f"{name} = {value}", columns[array == value]) for value in np.unique(array)
            ]
        return cls(tuple(labels), tuple(groups))

    @property
    def rows(self) -> tuple[str, ...]:
        """What the rows of a group stand for: the labels, and all of them together."""
        return (*self.labels, JOINT)

    def __getitem__(self, name: str) -> Group:
        """Return the simulations of a group, such as ``"all"``."""
        names = [group.name for group in self.groups]
        if name not in names:
            raise DraperError("there is no such group", given=name, hint=did_you_mean(name, names))
        return self.groups[names.index(name)]

    def table(self, levels: Sequence[float] = LEVELS) -> dict[str, NDArray[Any]]:
        """Return columns with one row for each group and label.

        ``group``, ``label``, ``number`` of simulations, ``coverage_68`` with its error ``coverage_68_err``
        for each level, and the probabilities ``chi2_p`` and ``ks_p``.
        """
        size = len(self.rows)
        columns: dict[str, NDArray[Any]] = {
            "group": np.repeat([group.name for group in self.groups], size),
            "label": np.tile(self.rows, len(self.groups)),
            "number": np.concatenate([group.numbers for group in self.groups]),
        }
        for level in levels:
            name = f"coverage_{100 * level:.0f}"
            columns[name] = np.concatenate([group.coverage(level) for group in self.groups])
            columns[f"{name}_err"] = np.concatenate([group.coverage_err(level) for group in self.groups])
        columns["chi2_p"] = np.concatenate([group.chi2_p for group in self.groups])
        columns["ks_p"] = np.concatenate([group.ks_p for group in self.groups])
        return columns

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers, of which :meth:`from_json` makes the same calibration."""
        groups = [
            {
                "name": group.name,
                "counts": group.counts.tolist(),
                "ks_p": [None if np.isnan(p) else p for p in group.ks_p.tolist()],
            }
            for group in self.groups
        ]
        return {"labels": list(self.labels), "groups": groups}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the calibration that :meth:`to_json` has described."""
        groups = (
            Group(
                group["name"],
                np.array(group["counts"], dtype=np.int64),
                np.array([np.nan if p is None else p for p in group["ks_p"]], dtype=np.float64),
            )
            for group in data["groups"]
        )
        return cls(tuple(data["labels"]), tuple(groups))

    def __repr__(self) -> str:
        whole = self.groups[0]
        shares = 100 * whole.coverage(0.68)[:-1]
        parts = f"; {len(self.groups) - 1} groups" if len(self.groups) > 1 else ""
        return (
            f"Calibration({', '.join(self.labels)}; {whole.numbers.max()} simulations{parts}; "
            f"coverage at 68 %: {shares.min():.1f} to {shares.max():.1f} %)"
        )


@lru_cache(maxsize=64)
def uniform_band(number: int, probability: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Return limits (CELLS + 1,) between which the whole cumulative distribution of uniform values stays.

    The band is the narrowest of pointwise binomial limits that holds a share ``probability`` of simulated
    sets of ``number`` values.

    Examples
    --------
    >>> low, high = uniform_band(1000)
    >>> float(low[100].round(2)), float(high[100].round(2))
    (0.45, 0.55)
    """
    levels = np.arange(1, CELLS) / CELLS
    drawn = np.random.default_rng(0).multinomial(number, np.full(CELLS, 1 / CELLS), REPEATS)
    counts = np.cumsum(drawn, axis=1)[:, :-1]
    below = bdtr(counts, number, levels)
    above = np.where(counts > 0, bdtrc(np.maximum(counts - 1, 0), number, levels), 1.0)
    tail = np.quantile(np.minimum(below, above).min(axis=1), 1 - probability)
    ends = (stats.binom.ppf(tail, number, levels), stats.binom.isf(tail, number, levels))
    low, high = (np.concatenate([[0.0], end / max(number, 1), [1.0]]) for end in ends)
    return low, high


def _steps(counts: NDArray[np.int64], number: int) -> tuple[FloatArray, FloatArray]:
    """Return the ends of the cells (CELLS + 1,), and the share of ranks below each."""
    return np.arange(CELLS + 1) / CELLS, np.concatenate([[0.0], np.cumsum(counts) / max(number, 1)])


def _cells(half: float) -> int:
    """Return how many cells to each side of the middle half of a level covers."""
    cells = round(half * CELLS)
    if not 0 < cells <= CELLS // 2 or abs(cells - half * CELLS) > 1e-6:
        raise DraperError(
            "coverage is known at levels in steps of 0.01",
            given=round(2 * half, 6),
            expected="such as 0.5, 0.68, 0.95",
        )
    return cells
