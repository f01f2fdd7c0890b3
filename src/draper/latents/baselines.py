"""Floor and ceiling of a leakage report: predictions of labels from kept labels, and from spectra."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.errors import DraperError, did_you_mean
from draper.latents.probes import DETERMINISTIC, PROBES, Probe, probe

FloatArray = NDArray[np.float64]

COMPONENTS = 50
"""Number of principal components that probes get in place of a spectrum. They predict labels better than all
pixels, most of which are noise, and much faster."""

MIN_ROWS = 50
"""Minimum number of rows; with fewer a leak is not significant."""

MAX_ROWS = 20_000
"""Default maximum number of rows for the training and for the test of probes."""


@dataclass(frozen=True, eq=False, repr=False)
class Baselines:
    """Floor and ceiling of a leakage report; the same for all latents of the same spectra.

    Attributes
    ----------
    removed, kept : tuple of str
        Labels to remove from the latents, and to keep in them; together d.
    probes, seeds : tuple
        The P probes and S seeds.
    lengths : tuple of int
        Number of stars for the training of probes, and for their test.
    train, test : ndarray (n,), (m,) int
        Rows that probes are trained on, and tested on: those with all kept labels.
    crossed
        Whether both are the same rows: probes learn one half of them and are tested on the other, and the
        other way round.
    objects : ndarray (n,), optional
        Names of the objects of these rows, which are in one half each; rows are objects of their own unless
        given.
    learnt, truth : ndarray (n, d), (m, d)
        Labels of these rows, the removed ones first.
    known : ndarray (r, P, S, m)
        The r removed labels predicted from the kept labels alone; r = 0 if none is kept.
    spectra : ndarray (d, P, S, m)
        Labels predicted from the leading principal components of the spectra.
    """

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    probes: tuple[Probe, ...]
    seeds: tuple[int, ...]
    lengths: tuple[int, int]
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    learnt: FloatArray
    truth: FloatArray
    known: FloatArray
    spectra: FloatArray
    crossed: bool = False
    objects: NDArray[Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, the removed ones first."""
        return self.removed + self.kept

    @property
    def kept_labels(self) -> tuple[FloatArray, FloatArray]:
        """Kept labels of the training rows (n, k) and of the test rows (m, k)."""
        return self.learnt[:, len(self.removed) :], self.truth[:, len(self.removed) :]

    def predict(
        self,
        x_train: ArrayLike,
        x_test: ArrayLike,
        labels: slice = slice(None),
        note: Callable[[], None] | None = None,
    ) -> FloatArray:
        """Return labels (d, P, S, m) that probes predict from inputs (n, p), (m, p) of its rows.

        ``note`` is called after each probe.
        """
        x, other, y = np.asarray(x_train), np.asarray(x_test), self.learnt[:, labels]
        predicted = []
        for kind in self.probes:
            predicted.append(self._crossed(kind, other, y) if self.crossed else self._of(kind, x, y, other))
            if note is not None:
                note()
        return np.stack(predicted, axis=1)

    def _of(self, kind: Probe, x: FloatArray, y: FloatArray, other: FloatArray) -> FloatArray:
        """Return labels (d, S, m) that a probe predicts with each seed."""
        if kind in DETERMINISTIC:
            return np.repeat(probe(kind, x, y, other).T[:, None], len(self.seeds), axis=1)
        return np.stack([probe(kind, x, y, other, seed).T for seed in self.seeds], axis=1)

    def _crossed(self, kind: Probe, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return labels (d, S, m), those of each half predicted by probes that have learnt the other."""
        names = np.arange(len(x)) if self.objects is None else self.objects
        number = np.unique(names, return_inverse=True)[1]
        is_first = np.random.default_rng([self.seeds[0], 4]).permutation(number.max() + 1)[number] % 2 == 0
        halves = np.flatnonzero(is_first), np.flatnonzero(~is_first)
        predicted = np.empty((y.shape[1], len(self.seeds), len(x)))
        for learnt, judged in (halves, halves[::-1]):
            predicted[:, :, judged] = self._of(kind, x[learnt], y[learnt], x[judged])
        return predicted


def measure_baselines(
    labels_train: Mapping[str, ArrayLike],
    labels_test: Mapping[str, ArrayLike] | None,
    spectra_train: ArrayLike,
    spectra_test: ArrayLike | None,
    *,
    removed: Sequence[str],
    kept: Sequence[str],
    probes: Sequence[Probe] = PROBES,
    seeds: Sequence[int] = (0, 1, 2),
    max_rows: int = MAX_ROWS,
    objects: ArrayLike | None = None,
    note: Callable[[], None] | None = None,
) -> Baselines:
    """Measure floor and ceiling with probes of kept labels and of spectra.

    The arguments are those of :func:`draper.latents.leakage.measure_leakage`; ``note`` is called after each
    probe.
    """
    if not probes or not seeds:
        raise DraperError("a leak is measured with at least one probe and one seed", hint="leave them out")
    names, crossed = (*removed, *kept), labels_test is None
    if labels_test is None or spectra_test is None:
        labels_test, spectra_test = labels_train, spectra_train
    learnt, truth = _columns(labels_train, names), _columns(labels_test, names)
    if len(learnt) != len(spectra_train) or len(truth) != len(spectra_test):  # type: ignore[arg-type]
        raise DraperError("there are not as many labels as spectra", given=f"{len(learnt)} and {len(truth)}")
    train, test = (_rows(values, len(removed), max_rows, seeds[0]) for values in (learnt, truth))
    baselines = Baselines(
        tuple(removed),
        tuple(kept),
        tuple(probes),
        tuple(seeds),
        (len(learnt), len(truth)),
        train,
        test,
        learnt[train],
        truth[test],
        known=np.empty((0, len(probes), len(seeds), len(test))),
        spectra=np.empty(0),
        crossed=crossed,
        objects=None if objects is None else np.asarray(objects)[train],
    )
    scores = _components(np.asarray(spectra_train)[train], np.asarray(spectra_test)[test])
    if kept and removed:
        known = baselines.predict(*baselines.kept_labels, slice(len(removed)), note)
        baselines = replace(baselines, known=known)
    return replace(baselines, spectra=baselines.predict(*scores, note=note))


def _columns(labels: Mapping[str, ArrayLike], names: Iterable[str]) -> FloatArray:
    """Return labels (n, d) by name."""
    columns = []
    for name in names:
        if name not in labels:
            raise DraperError(
                "a label of the leakage report is missing",
                given=", ".join(labels) or "none",
                expected=name,
                hint=did_you_mean(name, labels),
            )
        columns.append(np.asarray(labels[name], dtype=np.float64))
    if not columns:
        raise DraperError("a leakage report needs labels", hint="name labels to remove or to keep")
    if len(set(map(len, columns))) != 1:
        raise DraperError("labels differ in number", given=[len(column) for column in columns])
    return np.stack(columns, axis=1)


def _rows(labels: FloatArray, removed: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return rows that have all kept labels; a random choice where there are more than ``most``."""
    rows = np.flatnonzero(np.isfinite(labels[:, removed:]).all(axis=1))
    if len(rows) < MIN_ROWS:
        raise DraperError(
            "too few rows have all the kept labels",
            given=f"{len(rows)} rows",
            expected=f"at least {MIN_ROWS}",
        )
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return rows


def _components(train: NDArray[np.float32], test: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    """Return principal components of spectra; pixels are not standardised, which would amplify noise."""
    from sklearn.decomposition import PCA

    count = min(COMPONENTS, *train.shape)
    pca = PCA(count, svd_solver="covariance_eigh" if train.shape[1] < len(train) else "full").fit(train)
    return pca.transform(train), pca.transform(test)
