"""The leakage report: how well probes predict removed and kept labels from latents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper import atomic_write
from draper.errors import DraperError, did_you_mean
from draper.latents.baselines import MAX_ROWS, Baselines, measure_baselines
from draper.latents.borrowed import with_borrowed_errors
from draper.latents.figures import figures_with_errors
from draper.latents.probes import PROBES, Probe, mutual_information, r_squared
from draper.results.table import writable, write_table

FloatArray = NDArray[np.float64]
Pair = tuple[FloatArray, FloatArray]
"""For the training of probes and for their test."""

EMPTY: Mapping[str, Any] = MappingProxyType({})

LIMIT = 1.645
"""Errors by which the 95 % upper limit lies above a value."""


@dataclass(frozen=True, eq=False, repr=False)
class Leakage:
    """Predictions of labels from latents by fresh probes, on spectra that the probes have not seen.

    The figures of d labels by P probes are medians over seeds; R2 is that of test rows.

    Attributes
    ----------
    removed, kept : tuple of str
        The d labels, in this order.
    probes, seeds : tuple
        The probes and seeds.
    rows : tuple of int
        Number of spectra that probes were trained on, and tested on.
    latents : int
        Number of latents.
    value, error : mapping of str to ndarray
        Figures and their bootstrap errors over seeds and test rows:

        - ``latents``, ``known``, ``exact``, ``both``, ``mixed``, ``spectra`` (d, P): R2 from the latents;
          from kept labels with errors like those of the latents, see
          :func:`draper.latents.borrowed.with_borrowed_errors`; from the true kept labels; from latents and
          true kept labels; from true kept labels and latents of other stars; from the spectra. Where parts
          of the latents are probed alone, too, the best part counts.
        - ``floor`` (d,): the best R2 of a removed label from kept ones with errors, at least 0. ``ceiling``
          (d,): the best R2 from the spectra.
        - ``leak`` (d, P): (R2 from the latents - floor) / (ceiling - floor). ``conditional`` (d, P): the
          same from latents and true kept labels together, beyond these labels and latents of other stars,
          since inputs without information lower the R2 of a probe; over ceiling - ``exact``. It should be 0:
          latents contain nothing of the removed label beyond the kept ones. ``best_leak``,
          ``best_conditional`` (d,): of the probe with the largest R2.
          ``worst`` (d,): the larger of both, which is the figure that reports give.
        - ``ratio`` (d, P): R2 from the latents over that of the same probe from the spectra. ``kept_ratio``
          (d,): of the probe that predicts best from spectra.

        Figures that do not apply to a label are NaN, and so are leaks where the ceiling hardly exceeds the
        floor.
    attacks : mapping of str to tuple of ndarray (d,), (d,)
        ``worst`` with its error from what else can be computed of the same spectra, such as averages of many
        draws of noisy latents.
    crossed
        Whether probes have learnt one half of the spectra and predicted the other, and the other way round.
    information : mapping of str to ndarray (d,)
        Lower bounds [nats] of the information that ``latents``, ``known`` (kept labels) and ``spectra`` have
        on each label, from the best probe's predictions: see
        :func:`draper.latents.probes.mutual_information`. ``conditional`` is the information of latents on a
        removed label beyond the kept ones, for Gaussian errors: 1/2 ln of the ratio of the residual
        variances.
    """

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    probes: tuple[Probe, ...]
    seeds: tuple[int, ...]
    rows: tuple[int, int]
    latents: int
    value: Mapping[str, FloatArray]
    error: Mapping[str, FloatArray]
    information: Mapping[str, FloatArray]
    attacks: Mapping[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    crossed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, the removed ones first."""
        return self.removed + self.kept

    @property
    def leak(self) -> dict[str, float]:
        """The leak of each removed label: from the latents alone or beside kept labels, the larger one."""
        return self._by_label("worst", self.removed)

    @property
    def own_leak(self) -> dict[str, float]:
        """The normalised leak of each removed label from the latents alone, by the best probe."""
        return self._by_label("best_leak", self.removed)

    @property
    def conditional_leak(self) -> dict[str, float]:
        """The same, given the kept labels."""
        return self._by_label("best_conditional", self.removed)

    @property
    def kept_ratio(self) -> dict[str, float]:
        """R2 of each kept label from the latents over that from the spectra."""
        return self._by_label("kept_ratio", self.kept)

    def _by_label(self, key: str, names: Sequence[str]) -> dict[str, float]:
        return {name: float(self.value[key][self.names.index(name)]) for name in names}

    def __getitem__(self, name: str) -> dict[str, Any]:
        """Return all figures of one label as JSON values."""
        if name not in self.names:
            raise DraperError(
                "the report has no such label",
                given=name,
                expected=", ".join(self.names),
                hint=did_you_mean(name, self.names),
            )
        row = self.names.index(name)
        figures: dict[str, Any] = {"role": "removed" if name in self.removed else "kept"}
        for key, values in self.value.items():
            pair = {"value": values[row], "error": self.error[key][row]}
            figures[key] = {part: self._json_value(figure) for part, figure in pair.items()}
        figures["attacks"] = {
            kind: {"value": self._json_value(value[row]), "error": self._json_value(error[row])}
            for kind, (value, error) in self.attacks.items()
        }
        figures["information"] = {
            key: self._json_value(values[row]) for key, values in self.information.items()
        }
        return figures

    def _json_value(self, figure: Any) -> Any:
        """Return a figure, or figures by probe; None in place of NaN."""
        if np.ndim(figure):
            return {kind: self._json_value(value) for kind, value in zip(self.probes, figure, strict=True)}
        return float(figure) if np.isfinite(figure) else None

    # ------------------------------------------------------------------ output

    def to_json(self) -> dict[str, Any]:
        """Return every figure as JSON values; None in place of NaN."""
        return {
            "removed": list(self.removed),
            "kept": list(self.kept),
            "probes": list(self.probes),
            "seeds": list(self.seeds),
            "rows": {"learnt": self.rows[0], "held_out": self.rows[1]},
            "crossed": self.crossed,
            "latents": self.latents,
            "labels": {name: self[name] for name in self.names},
        }

    def table(self) -> dict[str, NDArray[Any]]:
        """Return one row for each label: columns (d,) of its role, R2, leaks and ratio, with ``_err``."""
        columns: dict[str, NDArray[Any]] = {
            "label": np.array(self.names),
            "role": np.array(["removed"] * len(self.removed) + ["kept"] * len(self.kept)),
        }
        for key in ("floor", "ceiling", "worst", "best_leak", "best_conditional", "kept_ratio"):
            columns[key], columns[f"{key}_err"] = self.value[key], self.error[key]
        for number, kind in enumerate(self.probes):
            for key in ("latents", "both", "known", "exact", "spectra", "leak", "conditional", "ratio"):
                columns[f"{key}_{kind}"] = self.value[key][:, number]
                columns[f"{key}_{kind}_err"] = self.error[key][:, number]
        return columns | {f"nats_{key}": values for key, values in self.information.items()}

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write all figures as .json, or the table as .csv, .ecsv, .fits or .parquet."""
        path = writable(path, also=(".json",))
        if path.suffix != ".json":
            return write_table(self.table(), path, {}, overwrite=overwrite)
        text = json.dumps(self.to_json(), indent=1, allow_nan=False)
        return atomic_write.write(path, text, overwrite=overwrite)

    def summary(self) -> str:
        """Return the report in one line."""
        leaks = [f"{name} {self._text('worst', name)}" for name in self.removed]
        ratios = [f"{name} {self._text('kept_ratio', name)}" for name in self.kept]
        parts = [f"leak of {', '.join(leaks)}"] if leaks else []
        parts += [f"kept of {', '.join(ratios)}"] if ratios else []
        for kind in self.attacks:
            found = [f"{name} {self._attack_text(kind, name)}" for name in self.removed]
            parts.append(f"to {kind}: {', '.join(found)}")
        best = f"best of {', '.join(self.probes)}" if len(self.probes) > 1 else self.probes[0]
        how = "cross-fitted on " if self.crossed else "on "
        return f"{'; '.join(parts)} ({best}, {how}{self.rows[1]:,} held-out spectra)"

    def _text(self, key: str, name: str) -> str:
        """Return a figure of a label with its error, as text; leaks within their errors as upper limits."""
        row = self.names.index(name)
        return figure_text(self.value[key][row], self.error[key][row], is_leak=key != "kept_ratio")

    def _attack_text(self, kind: str, name: str) -> str:
        """Return the leak of a label to an attack, as text."""
        value, error = self.attacks[kind]
        row = self.names.index(name)
        return figure_text(value[row], error[row], is_leak=True)

    def __repr__(self) -> str:
        heads = "".join(head.rjust(10) for head in ("floor", *self.probes, "ceiling"))
        seeds = "1 seed" if len(self.seeds) == 1 else f"median of {len(self.seeds)} seeds"
        lines = [
            f"Leakage of {self.latents} latents: R2 on {self.rows[1]:,} held-out spectra "
            f"of probes trained on {self.rows[0]:,} ({seeds})",
            "",
            f"{'label':<10}{'role':<9}R2: {heads}   normalised",
        ]
        for row, name in enumerate(self.names):
            figures = [self.value["floor"][row], *self.value["latents"][row], self.value["ceiling"][row]]
            numbers = "".join(f"{v:10.3f}" if np.isfinite(v) else "-".rjust(10) for v in figures)
            if name in self.removed:
                role, end = "removed", f"leak {self._text('worst', name)}"
                parts = [f"alone {self._text('best_leak', name)}"]
                parts += [f"given kept {self._text('best_conditional', name)}"] if self.kept else []
                parts += [f"to {kind} {self._attack_text(kind, name)}" for kind in self.attacks]
                end += f" ({', '.join(parts)})"
            else:
                role, end = "kept", f"kept {self._text('kept_ratio', name)}"
            lines.append(f"{name:<10}{role:<9}    {numbers}   {end}")
        return "\n".join(lines)


def figure_text(value: float, error: float, *, is_leak: bool) -> str:
    """Return a figure with its error, as text; a leak that is not two errors above 0 as its 95 % limit.

    Examples
    --------
    >>> figure_text(0.123, 0.01, is_leak=True), figure_text(-0.4, 0.02, is_leak=True)
    ('0.123 +- 0.010', 'below 0.033')
    """
    if not np.isfinite(value):
        return "not measurable"
    if is_leak and value < 2 * error:
        return f"below {max(value, 0.0) + LIMIT * error:.3f}"
    return f"{value:.3f} +- {error:.3f}"


def measure_leakage(
    latent_train: ArrayLike,
    latent_test: ArrayLike | None,
    labels_train: Mapping[str, ArrayLike],
    labels_test: Mapping[str, ArrayLike] | None,
    *,
    removed: Sequence[str],
    kept: Sequence[str],
    spectra_train: ArrayLike | None = None,
    spectra_test: ArrayLike | None = None,
    snr_train: ArrayLike | None = None,
    snr_test: ArrayLike | None = None,
    parts: Mapping[str, ArrayLike] = EMPTY,
    attacks: Mapping[str, tuple[ArrayLike, ArrayLike | None]] = EMPTY,
    probes: Sequence[Probe] = PROBES,
    seeds: Sequence[int] = (0, 1, 2),
    max_rows: int = MAX_ROWS,
    baselines: Baselines | None = None,
    objects: ArrayLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Leakage:
    """Measure how well labels can be predicted from latents, compared with kept labels and with spectra.

    The aim is I(z; removed | kept) = 0: labels are correlated, so latents that contain the kept labels
    predict the others to some degree, and that is no leak. The floor is the prediction from the kept labels
    alone, with errors as large as those with which the latents tell them.

    Parameters
    ----------
    latent_train, latent_test : array (n, k), (m, k)
        Latents of stars that probes are trained on, and of other stars that they are tested on. Without the
        latter, probes learn one half of the former and are tested on the other, and the other way round.
    labels_train, labels_test : mapping of str to array (n,), (m,)
        True labels; NaN where missing. Rows without all of the kept labels are left out.
    removed, kept
        Labels to remove from the latents, and to keep in them.
    spectra_train, spectra_test : array (n, p), (m, p)
        Flux without gaps. Probes get its 50 leading principal components, which predict better than all
        pixels.
    snr_train, snr_test : array (n,), (m,), optional
        Signal-to-noise ratios, on which errors depend.
    parts : mapping of str to array of int
        Latents that are also probed alone: others without information make a probe worse.
    attacks : mapping of str to pairs of array
        What else can be computed of the same stars, for training and test.
    probes, seeds
        Fresh probes, each with every seed; see :func:`draper.latents.probes.probe`.
    max_rows
        Maximum number of training rows and of test rows, a random choice by the first seed.
    baselines
        Floor and ceiling of the same labels and spectra, in place of the spectra: halves the work where
        several sets of latents are compared.
    objects : array (n,), optional
        Names of the objects of the training rows: all spectra of one are in the same half where probes learn
        halves in turn.
    progress
        Called with the number of probes that are trained, and of all.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> teff, logg = random.normal(size=(2, 600))
    >>> spectra, latents = np.column_stack([teff, logg, teff + logg]), logg[:, None]
    >>> labels = {"teff": teff, "logg": logg}
    >>> learnt = {name: values[:400] for name, values in labels.items()}
    >>> held_out = {name: values[400:] for name, values in labels.items()}
    >>> report = measure_leakage(
    ...     latents[:400], latents[400:], learnt, held_out, removed=["teff"], kept=["logg"],
    ...     spectra_train=spectra[:400], spectra_test=spectra[400:], probes=["ridge"],
    ... )
    >>> abs(report.leak["teff"]) < 0.1, round(report.kept_ratio["logg"], 3)
    (True, 1.0)
    """
    done, total = 0, _count_inputs(removed, kept, parts, attacks, baselines is None)
    total *= len(probes if baselines is None else baselines.probes)

    def note() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    if baselines is None:
        if spectra_train is None or (spectra_test is None and labels_test is not None):
            raise DraperError("a leak is measured against spectra", hint="give spectra, or baselines")
        baselines = measure_baselines(
            labels_train,
            labels_test,
            spectra_train,
            spectra_test,
            removed=removed,
            kept=kept,
            probes=probes,
            seeds=seeds,
            max_rows=max_rows,
            objects=objects,
            note=note,
        )
    elif (baselines.removed, baselines.kept) != (tuple(removed), tuple(kept)):
        raise DraperError(
            "the baselines were measured for other labels",
            given=f"removed {', '.join(baselines.removed)}; kept {', '.join(baselines.kept)}",
            expected=f"removed {', '.join(removed)}; kept {', '.join(kept)}",
        )
    if latent_test is None or labels_test is None:
        latent_test, labels_test, snr_test = latent_train, labels_train, snr_train
    any_label = baselines.names[0]
    lengths = tuple(len(np.asarray(labels[any_label])) for labels in (labels_train, labels_test))
    if baselines.lengths != lengths:
        raise DraperError("the baselines were measured for other stars", hint="give the same rows")

    def inputs(pair: tuple[ArrayLike, ArrayLike | None]) -> Pair:
        both = [np.asarray(pair[0] if part is None else part, dtype=np.float64) for part in pair]
        if tuple(map(len, both)) != lengths:
            raise DraperError("there are not as many latents as labels", given=f"{len(both[0])} latents")
        return both[0][baselines.train], both[1][baselines.test]

    latents = inputs((latent_train, latent_test))
    columns = [np.arange(latents[0].shape[1]), *(np.asarray(part, dtype=np.int64) for part in parts.values())]
    count = len(baselines.removed)
    predicted = {
        "latents": _best(
            [baselines.predict(*_columns(latents, some), note=note) for some in columns], baselines
        ),
        "spectra": baselines.spectra,
    }
    if len(baselines.known):
        predicted["exact"] = baselines.known
        ratios = [None if snr is None else np.asarray(snr, dtype=np.float64) for snr in (snr_train, snr_test)]
        noisy = _noisy_labels(baselines, predicted["latents"], ratios)
        predicted["known"] = baselines.predict(*noisy, slice(count), note)
        # Latents without information are left out of these where they are known: they double the work.
        tried = columns[1:] or columns
        both, mixed = zip(
            *(_with_kept(baselines, _columns(latents, some), note) for some in tried), strict=True
        )
        predicted["both"], predicted["mixed"] = _best(both, baselines), _best(mixed, baselines)
    truth = baselines.truth.T
    value, error = figures_with_errors(predicted, truth, count, baselines.seeds[0])
    found = {}
    for kind, pair in attacks.items():
        other = inputs(pair)
        theirs = {**predicted, "latents": baselines.predict(*other, note=note)}
        if len(baselines.known):
            theirs["both"], _ = _with_kept(baselines, other, note, mixes=False)
        figures = figures_with_errors(theirs, truth, count, baselines.seeds[0])
        found[kind] = (figures[0]["worst"], figures[1]["worst"])
    return Leakage(
        baselines.removed,
        baselines.kept,
        baselines.probes,
        baselines.seeds,
        rows=(len(latents[0]) // (2 if baselines.crossed else 1), len(latents[1])),
        latents=latents[0].shape[1],
        value=value,
        error=error,
        information=_information(predicted, truth, value),
        attacks=found,
        crossed=baselines.crossed,
    )


def _count_inputs(
    removed: Sequence[str], kept: Sequence[str], parts: Sized, attacks: Sized, is_first: bool
) -> int:
    """Return how many inputs probes are trained on."""
    paired = bool(removed and kept)
    # Latents, their parts, and attacks; beside kept labels; kept labels with errors; true ones and spectra.
    count = 1 + len(parts) + len(attacks)
    if paired:
        count += 2 * max(len(parts), 1) + len(attacks) + 1
    return count + is_first * (1 + paired)


def _best(predicted: Sequence[FloatArray], baselines: Baselines) -> FloatArray:
    """Return the predictions (d, P, S, m) of that part of the latents which predicts a label best."""
    if len(predicted) == 1:
        return predicted[0]
    result = predicted[0].copy()
    for label, truth in enumerate(baselines.truth.T[: len(result)]):
        for kind in range(result.shape[1]):
            scores = [np.median(r_squared(each[label, kind], truth)) for each in predicted]
            result[label, kind] = predicted[int(np.nanargmax(scores))][label, kind]
    return result


def _noisy_labels(baselines: Baselines, predicted: FloatArray, snr: Sequence[FloatArray | None]) -> Pair:
    """Return kept labels (n, k), (m, k) with errors like those of the latents' predictions (d, P, S, m)."""
    count = len(baselines.removed)
    errors = []
    for label, truth in enumerate(baselines.truth.T[count:], count):
        best = int(np.argmax([np.median(r_squared(each, truth)) for each in predicted[label]]))
        errors.append(predicted[label, best, 0] - truth)
    labels = []
    for values, ratio, rows in zip(
        baselines.kept_labels, snr, (baselines.train, baselines.test), strict=True
    ):
        quality = np.zeros(len(values)) if ratio is None else np.log(np.maximum(ratio[rows], 1e-3))
        labels.append(np.column_stack([values, quality]))

    def borrowed(number: int) -> FloatArray:
        return with_borrowed_errors(
            labels[number],
            labels[1],
            np.stack(errors, axis=1),
            same=baselines.crossed or number == 1,
            seed=baselines.seeds[0],
        )

    return borrowed(0), borrowed(1)


def _columns(latents: Pair, some: NDArray[np.int64]) -> Pair:
    return latents[0][:, some], latents[1][:, some]


def _with_kept(
    baselines: Baselines, latents: Pair, note: Callable[[], None], *, mixes: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Return predictions from latents and true kept labels, and from these with latents of other stars."""
    random = np.random.default_rng([baselines.seeds[0], 2])
    removed, kept = slice(len(baselines.removed)), baselines.kept_labels

    def predictions(z: Pair) -> FloatArray:
        x, other = np.hstack([z[0], kept[0]]), np.hstack([z[1], kept[1]])
        return baselines.predict(x, other, removed, note)

    both = predictions(latents)
    if not mixes:
        return both, both
    first = random.permutation(latents[0])
    return both, predictions((first, first if baselines.crossed else random.permutation(latents[1])))


def _information(
    predicted: Mapping[str, FloatArray], truth: FloatArray, value: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Return the information of each source on each label (d,) [nats]."""
    information = {}
    for source in ("latents", "known", "spectra"):
        information[source] = np.full(len(truth), np.nan)
        for row, predictions in enumerate(predicted.get(source, ())):
            best = int(value[source][row].argmax())
            information[source][row] = mutual_information(predictions[best, 0], truth[row])
    left = 1 - np.stack([value["mixed"].max(axis=1).clip(0), value["both"].max(axis=1)])
    information["conditional"] = 0.5 * np.log(left[0] / np.maximum(left[1], 1e-12)).clip(0)
    return information
