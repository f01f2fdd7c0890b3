"""What a leak is measured between: what kept labels tell of the others anyway, and what spectra tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.errors import DraperError, did_you_mean
from draper.latents.probes import FIXED, PROBES, Probe, probe

FloatArray = NDArray[np.float64]

COMPONENTS = 50
"""Principal components that stand for a spectrum. Probes read labels from them better than from all pixels,
most of which are noise, and much faster."""

LEAST_ROWS = 50
"""Rows below which a leak cannot be told from chance."""

MOST_ROWS = 20_000
"""Rows to learn from, and to be judged on, at most unless told."""


@dataclass(frozen=True, eq=False, repr=False)
class Baselines:
    """Floor and ceiling of a leakage report; the same for all latents of the same spectra.

    Attributes
    ----------
    removed, kept : tuple of str
        Labels that latents are not to tell, and to tell; together d.
    probes, seeds : tuple
        Which P probes with which S seeds.
    lengths : tuple of int
        How many stars there were to learn from, and to be judged on.
    train, test : ndarray (n,), (m,) int
        Rows that probes learn from, and rows that they are judged on: those with all kept labels.
    learnt, truth : ndarray (n, d), (m, d)
        Labels of these rows, the removed ones first.
    known : ndarray (r, P, S, m)
        The r removed labels as read from the kept labels alone; r = 0 if none is kept.
    spectra : ndarray (d, P, S, m)
        Labels as read from the leading principal components of the spectra.
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

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, the removed ones first."""
        return self.removed + self.kept

    @property
    def told(self) -> tuple[FloatArray, FloatArray]:
        """Kept labels of the rows to learn from (n, k) and to be judged on (m, k)."""
        return self.learnt[:, len(self.removed) :], self.truth[:, len(self.removed) :]

    def read(self, x_train: ArrayLike, x_test: ArrayLike, labels: slice = slice(None)) -> FloatArray:
        """Return labels (d, P, S, m) as the probes read them from inputs (n, p), (m, p) of its rows."""
        return np.stack(
            [_readings(kind, self.seeds, x_train, self.learnt[:, labels], x_test) for kind in self.probes],
            axis=1,
        )


def measure_baselines(
    labels_train: Mapping[str, ArrayLike],
    labels_test: Mapping[str, ArrayLike],
    spectra_train: ArrayLike,
    spectra_test: ArrayLike,
    *,
    removed: Sequence[str],
    kept: Sequence[str],
    probes: Sequence[Probe] = PROBES,
    seeds: Sequence[int] = (0, 1, 2),
    max_rows: int = MOST_ROWS,
) -> Baselines:
    """Probe kept labels and spectra; see :func:`draper.latents.leakage.measure_leakage`."""
    if not probes or not seeds:
        raise DraperError("a leak is measured by one probe and one seed at least", hint="leave them out")
    names = (*removed, *kept)
    learnt, truth = _columns(labels_train, names), _columns(labels_test, names)
    if len(learnt) != len(spectra_train) or len(truth) != len(spectra_test):  # type: ignore[arg-type]
        raise DraperError("there are not as many labels as spectra", given=f"{len(learnt)} and {len(truth)}")
    train, test = (_rows(values, len(removed), max_rows, seeds[0]) for values in (learnt, truth))
    bare = Baselines(
        tuple(removed), tuple(kept), tuple(probes), tuple(seeds), (len(learnt), len(truth)),
        train, test, learnt[train], truth[test], np.empty(0), np.empty(0),
    )  # fmt: skip
    scores = _components(np.asarray(spectra_train)[train], np.asarray(spectra_test)[test])
    is_told = bool(kept) and bool(removed)
    known = (
        bare.read(*bare.told, slice(len(removed)))
        if is_told
        else np.empty((0, len(probes), len(seeds), len(test)))
    )
    return Baselines(**{**vars(bare), "known": known, "spectra": bare.read(*scores)})


def _columns(labels: Mapping[str, ArrayLike], names: Iterable[str]) -> FloatArray:
    """Return labels (n, d) by name."""
    columns = []
    for name in names:
        if name not in labels:
            raise DraperError(
                "a label of the leakage report is missing", given=", ".join(labels) or "none", expected=name,
                hint=did_you_mean(name, labels),
            )  # fmt: skip
        columns.append(np.asarray(labels[name], dtype=np.float64))
    if not columns:
        raise DraperError("a leakage report wants labels", hint="name some to remove or to keep")
    if len(set(map(len, columns))) != 1:
        raise DraperError("labels differ in number", given=[len(column) for column in columns])
    return np.stack(columns, axis=1)


def _rows(labels: FloatArray, removed: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return rows that have all kept labels, drawn where there are too many."""
    rows = np.flatnonzero(np.isfinite(labels[:, removed:]).all(axis=1))
    if len(rows) < LEAST_ROWS:
        raise DraperError(
            "too few rows have all the kept labels",
            given=f"{len(rows)} rows",
            expected=f"at least {LEAST_ROWS}",
        )
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return rows


def _components(train: NDArray[np.float32], test: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    """Return leading scores of spectra; pixels are not standardised, which would enlarge those of noise."""
    from sklearn.decomposition import PCA

    few = min(COMPONENTS, *train.shape)
    pca = PCA(few, svd_solver="covariance_eigh" if train.shape[1] < len(train) else "full").fit(train)
    return pca.transform(train), pca.transform(test)


def _readings(
    kind: Probe, seeds: Sequence[int], x_train: ArrayLike, y_train: FloatArray, x_test: ArrayLike
) -> FloatArray:
    """Return labels (d, S, m) as read with each seed."""
    own = seeds[:1] if kind in FIXED else seeds
    found = np.stack([probe(kind, x_train, y_train, x_test, seed).T for seed in own], axis=1)
    return np.repeat(found, len(seeds), axis=1) if kind in FIXED else found
