"""The leakage report: how well probes predict removed and kept labels from latents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper import atomic_write
from draper.errors import DraperError, did_you_mean
from draper.latents.baselines import MAX_ROWS, Baselines, measure_baselines
from draper.latents.figures import figures_with_errors
from draper.latents.probes import PROBES, Probe, mutual_information
from draper.results.table import writable, write_table

FloatArray = NDArray[np.float64]


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

        - ``latents``, ``known``, ``both``, ``mixed``, ``spectra`` (d, P): R2 from the latents; from the kept
          labels; from latents and kept labels; from kept labels and latents of other stars; from the spectra.
        - ``floor`` (d,): the best R2 of a removed label from kept ones, at least 0. ``ceiling`` (d,): the
          best R2 from the spectra.
        - ``leak`` (d, P): (R2 from the latents - floor) / (ceiling - floor). ``conditional`` (d, P): the
          same from latents and kept labels together, with R2 from kept labels and latents of other stars in
          place of the floor, since inputs without information lower the R2 of a probe. It should be 0:
          latents contain nothing of the removed label beyond the kept ones. ``best_leak``,
          ``best_conditional`` (d,): of the probe with the largest R2.
        - ``ratio`` (d, P): R2 from the latents over that of the same probe from the spectra. ``kept_ratio``
          (d,): of the probe that predicts best from spectra.

        Figures that do not apply to a label are NaN, and so are leaks where the ceiling hardly exceeds the
        floor.
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

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, the removed ones first."""
        return self.removed + self.kept

    @property
    def leak(self) -> dict[str, float]:
        """The normalised leak of each removed label, by the probe with the largest R2."""
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
            "latents": self.latents,
            "labels": {name: self[name] for name in self.names},
        }

    def table(self) -> dict[str, NDArray[Any]]:
        """Return one row for each label: columns (d,) of its role, R2, leaks and ratio, with ``_err``."""
        columns: dict[str, NDArray[Any]] = {
            "label": np.array(self.names),
            "role": np.array(["removed"] * len(self.removed) + ["kept"] * len(self.kept)),
        }
        for key in ("floor", "ceiling", "best_leak", "best_conditional", "kept_ratio"):
            columns[key], columns[f"{key}_err"] = self.value[key], self.error[key]
        for number, kind in enumerate(self.probes):
            for key in ("latents", "both", "known", "spectra", "leak", "conditional", "ratio"):
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
        leaks = [f"{name} {self._text('best_leak', name)}" for name in self.removed]
        beyond = [f"{name} {self._text('best_conditional', name)}" for name in self.removed if self.kept]
        ratios = [f"{name} {self._text('kept_ratio', name)}" for name in self.kept]
        parts = [f"leak of {', '.join(leaks)}"] if leaks else []
        parts += [f"given the kept labels {', '.join(beyond)}"] if beyond else []
        parts += [f"kept of {', '.join(ratios)}"] if ratios else []
        best = f"best of {', '.join(self.probes)}" if len(self.probes) > 1 else self.probes[0]
        return f"{'; '.join(parts)} ({best} on {self.rows[1]:,} held-out spectra)"

    def _text(self, key: str, name: str) -> str:
        """Return a figure of a label with its error, as text."""
        row = self.names.index(name)
        value, error = self.value[key][row], self.error[key][row]
        return f"{value:.3f} +- {error:.3f}" if np.isfinite(value) else "not measurable"

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
                role, end = "removed", f"leak {self._text('best_leak', name)}"
                end += f", given kept {self._text('best_conditional', name)}" if self.kept else ""
            else:
                role, end = "kept", f"kept {self._text('kept_ratio', name)}"
            lines.append(f"{name:<10}{role:<9}    {numbers}   {end}")
        return "\n".join(lines)


def measure_leakage(
    latent_train: ArrayLike,
    latent_test: ArrayLike,
    labels_train: Mapping[str, ArrayLike],
    labels_test: Mapping[str, ArrayLike],
    *,
    removed: Sequence[str],
    kept: Sequence[str],
    spectra_train: ArrayLike | None = None,
    spectra_test: ArrayLike | None = None,
    probes: Sequence[Probe] = PROBES,
    seeds: Sequence[int] = (0, 1, 2),
    max_rows: int = MAX_ROWS,
    baselines: Baselines | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Leakage:
    """Measure how well labels can be predicted from latents, compared with kept labels and with spectra.

    The aim is I(z; removed | kept) = 0: labels are correlated, so latents that contain the kept labels
    predict the others to some degree, and that is no leak. The floor is the prediction from the kept labels
    alone.

    Parameters
    ----------
    latent_train, latent_test : array (n, k), (m, k)
        Latents of stars that probes are trained on, and of other stars that they are tested on.
    labels_train, labels_test : mapping of str to array (n,), (m,)
        True labels; NaN where missing. Rows without all of the kept labels are left out.
    removed, kept
        Labels to remove from the latents, and to keep in them.
    spectra_train, spectra_test : array (n, p), (m, p)
        Flux without gaps. Probes get its 50 leading principal components, which predict better than all
        pixels.
    probes, seeds
        Fresh probes, each with every seed; see :func:`draper.latents.probes.probe`.
    max_rows
        Maximum number of training rows and of test rows, a random choice by the first seed.
    baselines
        Floor and ceiling of the same labels and spectra, in place of the spectra: halves the work where
        several sets of latents are compared.
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
    # Inputs are latents, and latents with kept labels, matched and mixed; spectra and kept labels before.
    inputs = 3 if removed and kept else 1
    if baselines is None:
        inputs += 2 if removed and kept else 1
    done, total = 0, inputs * len(probes if baselines is None else baselines.probes)

    def note() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    if baselines is None:
        if spectra_train is None or spectra_test is None:
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
            note=note,
        )
    elif (baselines.removed, baselines.kept) != (tuple(removed), tuple(kept)):
        raise DraperError(
            "the baselines were measured for other labels",
            given=f"removed {', '.join(baselines.removed)}; kept {', '.join(baselines.kept)}",
            expected=f"removed {', '.join(removed)}; kept {', '.join(kept)}",
        )
    any_label = baselines.names[0]
    if baselines.lengths != (
        len(np.asarray(labels_train[any_label])),
        len(np.asarray(labels_test[any_label])),
    ):
        raise DraperError("the baselines were measured for other stars", hint="give the same rows")
    z_train, z_test = (np.asarray(values, dtype=np.float64) for values in (latent_train, latent_test))
    for z, labels in ((z_train, labels_train), (z_test, labels_test)):
        if any(len(np.asarray(labels[name])) != len(z) for name in baselines.names):
            raise DraperError("there are not as many latents as labels", given=f"{len(z)} latents")
    z_train, z_test = z_train[baselines.train], z_test[baselines.test]
    predicted = {"latents": baselines.predict(z_train, z_test, note=note), "spectra": baselines.spectra}
    count = len(baselines.removed)
    if len(baselines.known):
        random = np.random.default_rng([baselines.seeds[0], 2])
        pairs = list(zip((z_train, z_test), baselines.kept_labels, strict=True))
        both = [np.hstack(pair) for pair in pairs]
        mixed = [np.hstack([random.permutation(z), kept]) for z, kept in pairs]
        predicted["known"] = baselines.known
        predicted["both"] = baselines.predict(both[0], both[1], slice(count), note)
        predicted["mixed"] = baselines.predict(mixed[0], mixed[1], slice(count), note)
    truth = baselines.truth.T
    value, error = figures_with_errors(predicted, truth, count, baselines.seeds[0])
    return Leakage(
        baselines.removed,
        baselines.kept,
        baselines.probes,
        baselines.seeds,
        rows=(len(z_train), len(z_test)),
        latents=z_train.shape[1],
        value=value,
        error=error,
        information=_information(predicted, truth, value),
    )


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
