"""What ``predict`` returns: labels with their posterior (Gaussian, quantiles or samples) and flags."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from draper.data.labels import LabelSet
from draper.errors import DraperError, did_you_mean
from draper.results.arrays import read_arrays, write_arrays
from draper.results.samples import inference_data, long_table
from draper.results.table import write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]

LABEL_FLAGS = {
    "measured": "the spectrum constrains the label",
    "limit": "the spectrum gives an upper or lower limit only",
    "prior": "the spectrum says nothing of the label: the posterior is the prior",
    "edge": "the estimate lies at the edge of the label's range",
    "none": "there is no estimate",
}
"""What the flag of a single label may be, and what it means."""

ONE_SIGMA = (0.15865525393145707, 0.8413447460685429)
"""The quantiles between which 1 sigma to both sides lie."""

TABLE_LEVELS = (0.16, 0.84)
"""Quantiles of samples that are columns of tables."""

AXES = {
    "median": "spectra, labels",
    "sigma": "spectra, labels",
    "covariance": "spectra, labels, labels",
    "levels": "levels",
    "quantiles": "spectra, levels, labels",
    "samples": "spectra, draws, labels",
    "log_evidence": "spectra",
    "log_evidence_err": "spectra",
    "label_flags": "spectra, labels",
}
"""The arrays of estimates, and what their axes run over."""

MARK, VERSION = "draper_estimates", 1
"""Name of the array by which a file of estimates is recognised, and the version of its layout."""


@dataclass(frozen=True, eq=False, repr=False)
class Estimates:
    """Labels of n spectra with their uncertainty.

    The posterior is known by samples, by quantiles, or as a Gaussian (median, sigma, covariance).
    :meth:`quantile`, :meth:`interval`, ``estimates["teff"]`` and the tables are the same for all three.

    Attributes
    ----------
    labels : LabelSet
        The l labels, in order.
    median : ndarray (n, l)
        Physical values.
    sigma : ndarray (n, l)
        1-sigma errors; NaN where the model was never measured on held-out spectra.
    ids : ndarray (n,)
        Names of the spectra.
    flags : mapping of str to bool ndarray (n,)
        ``outside`` marks spectra unlike those the model has learnt from; a model may add others. ``no_data``
        is always there: spectra without a good pixel, whose labels are NaN.
    covariance : ndarray (n, l, l), optional
        Where the model knows how the errors are correlated; of the samples, where there are any.
    columns : mapping of str to ndarray (n,)
        Further columns of the table, such as chi2.
    levels : ndarray (q,), optional
        Probabilities of ``quantiles``, increasing, such as 0.16, 0.5, 0.84.
    quantiles : ndarray (n, q, l), optional
        Quantiles of each label.
    samples : ndarray (n, draws, l), optional
        Draws from the posterior, all of equal weight.
    log_evidence, log_evidence_err : ndarray (n,), optional
        Natural logarithm of the evidence, and its error.
    label_flags : ndarray (n, l) of str, optional
        How well each label is known, one of ``LABEL_FLAGS``: measured, limit, prior, edge, none.

    Examples
    --------
    >>> from draper.data.labels import Label
    >>> labels = LabelSet([Label("teff", low=3000, high=8000)])
    >>> estimates = Estimates(labels, [[5000.0]], [[50.0]], ["sun"])
    >>> estimates["teff"], estimates.interval(0.95)[0].round(1)
    (array([5000.]), array([[4902.]]))
    """

    labels: LabelSet
    median: FloatArray
    sigma: FloatArray
    ids: NDArray[Any]
    flags: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    covariance: FloatArray | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    levels: FloatArray | None = None
    quantiles: FloatArray | None = None
    samples: NDArray[Any] | None = None
    log_evidence: FloatArray | None = None
    log_evidence_err: FloatArray | None = None
    label_flags: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        settle = object.__setattr__
        for name in ("ids", *AXES):
            if getattr(self, name) is not None:
                settle(self, name, np.asarray(getattr(self, name)))
        self._check_shapes()
        if self.quantiles is not None and self.levels is not None:
            _check_quantiles(self.levels, self.quantiles)
        if self.samples is not None:
            _check_samples(self.samples)
            if self.covariance is None:
                settle(self, "covariance", _covariance(self.samples))
        if self.label_flags is not None:
            settle(self, "label_flags", np.where(np.isnan(self.median), "none", self.label_flags))
            unknown = set(np.unique(self.label_flags).tolist()) - set(LABEL_FLAGS)
            if unknown:
                raise DraperError(
                    "unknown flag of a label",
                    given=", ".join(sorted(map(str, unknown))),
                    expected=", ".join(LABEL_FLAGS),
                    hint=did_you_mean(str(min(unknown)), LABEL_FLAGS),
                )
        settle(self, "flags", {**self.flags, "no_data": np.isnan(self.median).all(axis=1)})
        for name, values in self.flags.items():
            if values.shape != (len(self),) or values.dtype != bool:
                raise DraperError(
                    f"the flag '{name}' is not one truth value for each spectrum",
                    given=f"{values.dtype} {values.shape}",
                    expected=f"bool ({len(self)},)",
                )

    def _check_shapes(self) -> None:
        """Refuse arrays that do not fit together."""
        if (self.levels is None) != (self.quantiles is None):
            raise DraperError("quantiles and their levels go together", hint="give both, or none of them")
        if self.log_evidence is None and self.log_evidence_err is not None:
            raise DraperError("there is an error of the evidence, but no evidence", hint="give log_evidence")
        sizes: dict[str, Any] = {"spectra": len(self.ids), "labels": len(self.labels)}
        sizes["levels"] = 0 if self.levels is None else self.levels.size
        sizes["draws"] = (
            self.samples.shape[1] if self.samples is not None and self.samples.ndim == 3 else "draws"
        )
        for name, axes in AXES.items():
            values, shape = getattr(self, name), tuple(sizes[axis] for axis in axes.split(", "))
            if values is not None and values.shape != shape:
                raise DraperError(
                    f"{name} has the wrong shape",
                    given=values.shape,
                    expected=f"({axes}) = {shape}",
                    hint=f"the labels are {', '.join(self.labels.names) or 'none'}",
                )

    # ------------------------------------------------------------------ making them

    @classmethod
    def from_samples(cls, labels: LabelSet, samples: ArrayLike, ids: ArrayLike, **parts: Any) -> Self:
        """Return estimates of posterior draws (n, draws, l): medians, and half of what 68 % of them span.

        ``parts`` are further attributes, such as ``log_evidence`` and ``flags``.

        Examples
        --------
        >>> from draper.data.labels import Label
        >>> draws = np.random.default_rng(0).lognormal(size=(1, 4000, 1))
        >>> estimates = Estimates.from_samples(LabelSet([Label("vsini")]), draws, ["star"])
        >>> [float(end[0, 0].round(1)) for end in (estimates.median, *estimates.interval(0.68))]
        [1.0, 0.4, 2.7]
        """
        draws = np.asarray(samples)
        if draws.ndim != 3 or draws.shape[1] < 2:
            raise DraperError(
                "samples have three axes, and at least two draws",
                given=f"shape {draws.shape}",
                expected="(spectra, draws, labels)",
            )
        low, median, high = np.quantile(draws, (ONE_SIGMA[0], 0.5, ONE_SIGMA[1]), axis=1)
        return cls(labels, median, (high - low) / 2, np.asarray(ids), samples=draws, **parts)

    @classmethod
    def from_quantiles(
        cls, labels: LabelSet, levels: ArrayLike, quantiles: ArrayLike, ids: ArrayLike, **parts: Any
    ) -> Self:
        """Return estimates of quantiles (n, q, l) at increasing levels (q,), some below and some above 0.5.

        Median and sigma (half of what 68 % span) are interpolated as :meth:`quantile` does it.

        Examples
        --------
        >>> from draper.data.labels import Label
        >>> labels = LabelSet([Label("vsini")])
        >>> estimates = Estimates.from_quantiles(labels, [0.16, 0.5, 0.84], [[[4.0], [5.0], [8.0]]], ["star"])
        >>> estimates.median, estimates.quantile(0.84)
        (array([[5.]]), array([[8.]]))
        """
        probabilities, values = np.asarray(levels, dtype=np.float64), np.asarray(quantiles, dtype=np.float64)
        if values.ndim != 3 or values.shape[1:2] != probabilities.shape:
            raise DraperError(
                "quantiles have three axes, the second for the levels",
                given=f"quantiles {values.shape}, levels {probabilities.shape}",
                expected="quantiles (spectra, levels, labels), levels (levels,)",
            )
        _check_quantiles(probabilities, values)
        low, median, high = (
            interpolated(probabilities, values, q) for q in (ONE_SIGMA[0], 0.5, ONE_SIGMA[1])
        )
        half = (high - low) / 2
        return cls(labels, median, half, np.asarray(ids), levels=probabilities, quantiles=values, **parts)

    @classmethod
    def concat(cls, parts: Sequence[Self], *, fill: bool = False) -> Self:
        """Join estimates of the same labels and of the same kind, one set after the other.

        ``fill`` fills labels, columns and flags that a part without samples lacks with NaN, or False.
        """
        if not parts:
            raise DraperError("there is nothing to join", hint="give at least one set of estimates")
        if fill:
            labels = LabelSet({label.name: label for part in parts for label in part.labels}.values())
            columns, flags = (
                list(dict.fromkeys(name for part in parts for name in getattr(part, kind)))
                for kind in ("columns", "flags")
            )
            parts = [part._filled(labels, columns, flags) for part in parts]
        first = parts[0]
        for number, part in enumerate(parts[1:], start=1):
            mine, theirs = first._described(), part._described()
            if mine != theirs:
                raise DraperError(
                    f"set {number} cannot be joined to set 0",
                    given=theirs,
                    expected=mine,
                    hint="join estimates of one model, made with the same options",
                )
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in first._row_arrays()
        }
        for name in ("flags", "columns"):
            keys = getattr(first, name)
            joined[name] = {key: np.concatenate([getattr(part, name)[key] for part in parts]) for key in keys}
        return replace(first, **joined)

    def _filled(self, labels: LabelSet, columns: Sequence[str], flags: Sequence[str]) -> Self:
        """Return estimates with more labels, columns and flags, without values."""
        n, own = len(self), [labels.names.index(name) for name in self.labels.names]
        median, sigma = np.full((2, n, len(labels)), np.nan)
        median[:, own], sigma[:, own] = self.median, self.sigma
        quantiles = label_flags = None
        if self.quantiles is not None:
            quantiles = np.full((n, self.quantiles.shape[1], len(labels)), np.nan)
            quantiles[:, :, own] = self.quantiles
        if self.label_flags is not None:
            label_flags = np.full((n, len(labels)), "none", dtype=self.label_flags.dtype)
            label_flags[:, own] = self.label_flags
        covariance = None
        if self.covariance is not None:
            covariance = np.full((n, len(labels), len(labels)), np.nan)
            covariance[:, np.array(own)[:, None], own] = self.covariance
        return replace(
            self,
            labels=labels,
            median=median,
            sigma=sigma,
            covariance=covariance,
            quantiles=quantiles,
            label_flags=label_flags,
            columns={name: self.columns.get(name, np.full(n, np.nan)) for name in columns},
            flags={name: self.flags.get(name, np.zeros(n, dtype=bool)) for name in flags},
        )

    def _described(self) -> str:
        """Return all that estimates must agree in to be joined."""
        sizes = "" if self.levels is None else f" (levels {self.levels.tolist()})"
        sizes += "" if self.samples is None else f" ({self.samples.shape[1]} draws)"
        names = (
            f"{', '.join(self._row_arrays())}{sizes}",
            *(", ".join(sorted(m)) for m in (self.flags, self.columns)),
        )
        return f"{self.labels!r}; {'; '.join(name or 'no columns' for name in names)}"

    def _row_arrays(self) -> Iterator[str]:
        """Iterate over the names of the arrays that have one entry for each spectrum."""
        return (name for name in ("ids", *AXES) if name != "levels" and getattr(self, name) is not None)

    def widened(self, errors: ArrayLike) -> Self:
        """Return estimates with further independent 1-sigma errors (l,) of all labels.

        Quantiles and samples keep their shape: they are stretched about the median.

        Examples
        --------
        >>> from draper.data.labels import Label
        >>> estimates = Estimates(LabelSet([Label("logg", high=5.0)]), [[4.4]], [[0.03]], ["sun"])
        >>> estimates.widened([0.04]).sigma.round(3)
        array([[0.05]])
        """
        more = np.asarray(errors, dtype=np.float64)
        sigma = np.hypot(self.sigma, more)
        # Without an error of its own a label has no shape that could be stretched.
        factor = np.divide(sigma, self.sigma, out=np.ones_like(sigma), where=self.sigma > 0)
        stretched = {
            name: self.median[:, None] + (values - self.median[:, None]) * factor[:, None]
            for name in ("quantiles", "samples")
            if (values := getattr(self, name)) is not None
        }
        covariance = None if self.covariance is None else self.covariance + np.diag(more**2)
        return replace(self, sigma=sigma, covariance=covariance, **stretched)

    # ------------------------------------------------------------------ reading them

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str) -> FloatArray:
        """Return the values (n,) of one label; :meth:`rows` chooses spectra."""
        label = self.labels[name]
        return self.median[:, self.labels.names.index(label.name)]

    def rows(self, index: Any) -> Estimates:
        """Return the estimates of some spectra: an integer, a slice, a boolean mask or indices."""
        if isinstance(index, (int, np.integer)):
            index = [index]
        chosen: dict[str, Any] = {name: getattr(self, name)[index] for name in self._row_arrays()}
        for name in ("flags", "columns"):
            chosen[name] = {key: values[index] for key, values in getattr(self, name).items()}
        return replace(self, **chosen)

    @property
    def kind(self) -> Literal["samples", "quantiles", "Gaussian"]:
        """By what the posterior is known."""
        if self.samples is not None:
            return "samples"
        return "Gaussian" if self.quantiles is None else "quantiles"

    def quantile(self, q: float) -> FloatArray:
        """Return the quantile (n, l) of each label at a probability 0 < q < 1.

        From the samples where there are any; else from the quantiles, linearly in the quantile of a Gaussian,
        so that beyond the first and the last of them the tails are Gaussian; else from median and sigma.
        """
        if not 0 < q < 1:
            raise DraperError("a quantile has a probability between 0 and 1", given=q, expected="0 < q < 1")
        if self.samples is not None:
            return np.asarray(np.quantile(self.samples, q, axis=1))
        if self.levels is not None and self.quantiles is not None:
            return interpolated(self.levels, self.quantiles, q)
        return self.median + float(ndtri(q)) * self.sigma

    def interval(self, probability: float = 0.68) -> tuple[FloatArray, FloatArray]:
        """Return the ends (n, l) of the central interval of each label that holds this probability."""
        return self.quantile(0.5 - probability / 2), self.quantile(0.5 + probability / 2)

    # ------------------------------------------------------------------ showing and writing them

    def table(self) -> dict[str, NDArray[Any]]:
        """Return everything that is one number, text or truth value a spectrum, as columns (n,).

        ``id``; for each label its value, error (``teff_err``), quantiles (``teff_q16``, ``teff_q84``) where
        they are not those of a Gaussian, and flag (``teff_flag``); ``columns``; the evidence; ``flag_NAME``.
        """
        columns: dict[str, NDArray[Any]] = {"id": self.ids}
        ends = {level: self.quantile(level) for level in self._table_levels()}
        for number, name in enumerate(self.labels.names):
            columns[name] = self.median[:, number]
            columns[f"{name}_err"] = self.sigma[:, number]
            columns |= {f"{name}_{level_name(q)}": values[:, number] for q, values in ends.items()}
            if self.label_flags is not None:
                columns[f"{name}_flag"] = self.label_flags[:, number]
        columns |= self.columns
        for name in ("log_evidence", "log_evidence_err"):
            if getattr(self, name) is not None:
                columns[name] = getattr(self, name)
        return columns | {f"flag_{name}": values for name, values in self.flags.items()}

    def _table_levels(self) -> tuple[float, ...]:
        if self.samples is not None:
            return TABLE_LEVELS
        return () if self.levels is None else tuple(q for q in self.levels.tolist() if q != 0.5)

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write :meth:`table` as .csv, .ecsv, .fits or .parquet, with units where the format has them.

        A file that exists is replaced with ``overwrite=True`` alone, here and in the methods below.
        """
        suffixes = ("", "_err", *(f"_{level_name(q)}" for q in self._table_levels()))
        units = {f"{label.name}{suffix}": label.unit for label in self.labels for suffix in suffixes}
        return write_table(self.table(), path, units, overwrite=overwrite)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write all arrays, with samples and covariance, as .npz or .h5; :meth:`load` brings them back.

        Examples
        --------
        >>> from tempfile import TemporaryDirectory
        >>> from draper.data.labels import Label
        >>> estimates = Estimates.from_samples(LabelSet([Label("rv")]), np.ones((3, 100, 1)), ["a", "b", "c"])
        >>> with TemporaryDirectory() as folder:
        ...     Estimates.load(estimates.save(f"{folder}/posterior.npz"))
        Estimates(3 x rv; 100 samples each; flagged: 0 no_data)
        """
        arrays: dict[str, Any] = {MARK: VERSION, "labels": json.dumps(self.labels.to_json())}
        arrays |= {name: getattr(self, name) for name in ("ids", *AXES) if getattr(self, name) is not None}
        for name in ("flags", "columns"):
            arrays |= {f"{name}/{key}": values for key, values in getattr(self, name).items()}
        return write_arrays(arrays, path, overwrite=overwrite)

    def write_samples(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write samples as .csv, .ecsv, .fits or .parquet: a row for each draw, with the ``id``."""
        table = long_table(self.labels, self.ids, self._drawn())
        units = {label.name: label.unit for label in self.labels}
        return write_table(table, path, units, overwrite=overwrite)

    def to_arviz(self, row: int | None = None) -> Any:
        """Return the samples of one spectrum, or of all with a dimension ``spectrum``, for ArviZ.

        An InferenceData with the labels as variables of one chain; from ArviZ 1 on a DataTree.
        """
        samples = self._drawn()
        if row is None:
            return inference_data(self.labels, self.ids, samples)
        return inference_data(self.labels, None, samples[row])

    def _drawn(self) -> NDArray[Any]:
        """Return the samples, or say that there are none."""
        if self.samples is None:
            raise DraperError(
                "there are no samples of the posterior",
                given=f"a posterior known by {'quantiles' if self.kind == 'quantiles' else 'its covariance'}",
                hint="save it whole, as .npz, .h5",
            )
        return self.samples

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the estimates that :meth:`save` has written."""
        arrays = read_arrays(path)
        if MARK not in arrays or int(arrays[MARK]) > VERSION:
            raise DraperError(
                "the file holds no estimates, or was written by a newer draper",
                given=path,
                hint="Estimates.save writes them; tables (.csv, .fits, ...) hold no samples",
            )
        parts: dict[str, Any] = {name: arrays[name] for name in ("ids", *AXES) if name in arrays}
        for name in ("flags", "columns"):
            held = {key: values for key, values in arrays.items() if key.startswith(f"{name}/")}
            parts[name] = {key.removeprefix(f"{name}/"): values for key, values in held.items()}
        return cls(LabelSet.from_json(json.loads(str(arrays["labels"]))), **parts)

    def plot(
        self,
        truth: Mapping[str, NDArray[Any]],
        names: Sequence[str] | None = None,
        *,
        colour: str | None = None,
    ) -> Figure:
        """Plot estimated against true values (columns (n,), such as ``spectra.table``).

        See :func:`draper.plots.recovery.plot_recovery`.
        """
        from draper.plots.recovery import plot_recovery

        return plot_recovery(self, truth, names, colour=colour)

    def corner(
        self,
        row: int = 0,
        truth: Mapping[str, NDArray[Any]] | None = None,
        names: Sequence[str] | None = None,
    ) -> Figure:
        """Plot the posterior of one spectrum, label against label; ``truth`` are columns (n,) of true values.

        See :func:`draper.plots.corner.plot_corner`.
        """
        from draper.plots.corner import plot_corner

        return plot_corner(self, row, truth, names)

    def __repr__(self) -> str:
        known = {
            "samples": "" if self.samples is None else f" {self.samples.shape[1]} samples each;",
            "quantiles": "" if self.levels is None else f" {len(self.levels)} quantiles each;",
            "Gaussian": "",
        }[self.kind]
        flags = ", ".join(f"{values.sum()} {name}" for name, values in self.flags.items())
        return f"Estimates({len(self)} x {', '.join(self.labels.names)};{known} flagged: {flags})"


def level_name(q: float) -> str:
    """Return what a quantile is called in a table.

    Examples
    --------
    >>> level_name(0.16), level_name(0.975)
    ('q16', 'q97_5')
    """
    return f"q{100 * q:.6g}".replace(".", "_")


def interpolated(levels: FloatArray, quantiles: FloatArray, q: float) -> FloatArray:
    """Return the quantile (n, l) at q between given ones (n, levels, l).

    Linear in the quantile of a standard Gaussian: exact for a Gaussian, and never decreasing in q. Beyond the
    outermost levels the line of the last two goes on, which is a Gaussian tail.

    Examples
    --------
    >>> interpolated(np.array([0.16, 0.84]), np.array([[[-1.0], [1.0]]]), 0.975).round(2)
    array([[1.97]])
    """
    places, place = ndtri(levels), float(ndtri(q))
    left = int(np.clip(np.searchsorted(places, place) - 1, 0, len(levels) - 2))
    weight = (place - places[left]) / (places[left + 1] - places[left])
    values: FloatArray = (1 - weight) * quantiles[:, left] + weight * quantiles[:, left + 1]
    return values


def _check_quantiles(levels: FloatArray, quantiles: FloatArray) -> None:
    inside = levels.size >= 2 and 0 < levels[0] < 0.5 < levels[-1] < 1
    if not (inside and np.all(np.diff(levels) > 0)):
        raise DraperError(
            "levels of quantiles increase, and lie on both sides of 0.5",
            given=levels.tolist(),
            expected="such as [0.16, 0.5, 0.84]",
            hint="the median must lie between two of them",
        )
    falls = np.diff(quantiles, axis=1) < 0
    if falls.any():
        row, level, label = (int(index[0]) for index in np.nonzero(falls))
        raise DraperError(
            "quantiles decrease where their level increases",
            given=f"{quantiles[row, level, label]:g} at {levels[level]:g}, then "
            f"{quantiles[row, level + 1, label]:g} at {levels[level + 1]:g} (spectrum {row}, label {label})",
            hint="sort them along the levels: np.sort(quantiles, axis=1)",
        )


def _check_samples(samples: NDArray[Any]) -> None:
    usable = np.isfinite(samples).all(axis=1) | np.isnan(samples).all(axis=1)
    if not usable.all():
        row, label = (int(index[0]) for index in np.nonzero(~usable))
        raise DraperError(
            "samples are finite, or all NaN where there is no estimate",
            given=f"spectrum {row}, label {label}",
            hint="draw as many samples for each spectrum, and leave no gaps",
        )


def _covariance(samples: NDArray[Any]) -> FloatArray:
    """Return the covariance (n, l, l) of draws (n, draws, l)."""
    centred = samples - samples.mean(axis=1, keepdims=True)
    covariance: FloatArray = np.einsum("ndi,ndj->nij", centred, centred) / max(1, samples.shape[1] - 1)
    return covariance
