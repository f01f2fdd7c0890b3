"""The leakage report: what latents tell of labels that were removed, and of labels that were kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper import atomic
from draper.errors import DraperError, did_you_mean
from draper.latents.baselines import MOST_ROWS, Baselines, measure_baselines
from draper.latents.factors import Factors, measure_factors
from draper.latents.figures import figures_with_errors
from draper.latents.probes import PROBES, Probe, mutual_information
from draper.results.table import writable, write_table

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Leakage:
    """What fresh probes read from latents of spectra that they have not learnt from.

    The figures of d labels by P probes are medians over seeds; R2 is that on held-out rows.

    Attributes
    ----------
    removed, kept : tuple of str
        The d labels, in this order.
    probes, seeds : tuple
        Which probes with which seeds.
    rows : tuple of int
        How many spectra the probes have learnt from, and were judged on.
    latents : int
        Numbers that describe a spectrum.
    value, error : mapping of str to ndarray
        Figures with their bootstrap errors over seeds and held-out rows:

        - ``latents``, ``known``, ``both``, ``mixed``, ``spectra`` (d, P): R2 from the latents; from the kept
          labels; from latents and kept labels; from kept labels and latents of other stars; from the spectra.
        - ``floor`` (d,): the best that kept labels tell of a removed one, 0 at least. ``ceiling`` (d,): the
          best that the spectra tell.
        - ``leak`` (d, P): (R2 from the latents - floor) / (ceiling - floor). ``conditional`` (d, P): the
          same of latents and kept labels together, over what is read from kept labels and latents of other
          stars, since numbers that tell nothing cost a probe something. It is to be 0: latents tell nothing
          of the removed label that kept ones do not. ``best_leak``, ``best_conditional`` (d,): of the probe
          that reads most.
        - ``ratio`` (d, P): R2 from the latents over that of the same probe from the spectra. ``kept_ratio``
          (d,): of the probe that reads spectra best.

        What does not apply to a label is NaN, and so are leaks where spectra tell hardly more than the floor.
    information : mapping of str to ndarray (d,)
        Lower bounds [nats] of what ``latents``, ``known`` (kept labels) and ``spectra`` tell of each label,
        from the best probe's readings: see :func:`draper.latents.probes.mutual_information`. ``conditional``
        is what latents tell of a removed label beyond the kept ones, as for Gaussian errors: 1/2 ln of the
        ratio of the residual variances.
    factors : Factors
        Whether single latents stand for single labels.
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
    factors: Factors

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, the removed ones first."""
        return self.removed + self.kept

    @property
    def leak(self) -> dict[str, float]:
        """The normalised leak of each removed label, of the probe that reads most."""
        return {name: float(self.value["best_leak"][self.names.index(name)]) for name in self.removed}

    @property
    def conditional_leak(self) -> dict[str, float]:
        """The same, given the kept labels."""
        return {name: float(self.value["best_conditional"][self.names.index(name)]) for name in self.removed}

    @property
    def kept_ratio(self) -> dict[str, float]:
        """How much of each kept label, as spectra tell it, the latents tell."""
        return {name: float(self.value["kept_ratio"][self.names.index(name)]) for name in self.kept}

    def __getitem__(self, name: str) -> dict[str, Any]:
        """Return all figures of one label as JSON values."""
        if name not in self.names:
            raise DraperError(
                "the report has no such label", given=name, expected=", ".join(self.names),
                hint=did_you_mean(name, self.names),
            )  # fmt: skip
        row = self.names.index(name)
        found: dict[str, Any] = {"role": "removed" if name in self.removed else "kept"}
        for key, values in self.value.items():
            pair = {"value": values[row], "error": self.error[key][row]}
            found[key] = {part: self._known(figures) for part, figures in pair.items()}
        found["information"] = {key: self._known(values[row]) for key, values in self.information.items()}
        found["mig"] = self._known(self.factors.mig[row])
        found["completeness"] = self._known(self.factors.completeness[row])
        return found

    def _known(self, figure: Any) -> Any:
        """Return a figure, or one for each probe by name; None where unknown."""
        if np.ndim(figure):
            return {kind: self._known(one) for kind, one in zip(self.probes, figure, strict=True)}
        return float(figure) if np.isfinite(figure) else None

    # ------------------------------------------------------------------ output

    def to_json(self) -> dict[str, Any]:
        """Return every figure as JSON values; what is not known or does not apply is None."""
        return {
            "removed": list(self.removed),
            "kept": list(self.kept),
            "probes": list(self.probes),
            "seeds": list(self.seeds),
            "rows": {"learnt": self.rows[0], "held_out": self.rows[1]},
            "latents": self.latents,
            "disentanglement": self._known(self.factors.disentanglement),
            "labels": {name: self[name] for name in self.names},
        }

    def table(self) -> dict[str, NDArray[Any]]:
        """Return one row for each label: columns (d,) of its role, R2, leaks and ratio, with ``_err``."""
        found: dict[str, NDArray[Any]] = {
            "label": np.array(self.names),
            "role": np.array(["removed"] * len(self.removed) + ["kept"] * len(self.kept)),
        }
        for key in ("floor", "ceiling", "best_leak", "best_conditional", "kept_ratio"):
            found[key], found[f"{key}_err"] = self.value[key], self.error[key]
        for number, kind in enumerate(self.probes):
            for key in ("latents", "both", "known", "spectra", "leak", "conditional", "ratio"):
                found[f"{key}_{kind}"] = self.value[key][:, number]
                found[f"{key}_{kind}_err"] = self.error[key][:, number]
        found |= {f"nats_{key}": values for key, values in self.information.items()}
        return {**found, "mig": self.factors.mig, "completeness": self.factors.completeness}

    def write(self, path: str | Path) -> Path:
        """Write all figures as .json, or the table as .csv, .ecsv or .fits."""
        path = writable(path, also=(".json",))
        if path.suffix != ".json":
            return write_table(self.table(), path, {})
        return atomic.write(path, json.dumps(self.to_json(), indent=1, allow_nan=False))

    def summary(self) -> str:
        """Return the report in one line."""
        leaks = [f"{name} {self._told('best_leak', name)}" for name in self.removed]
        beyond = [f"{name} {self._told('best_conditional', name)}" for name in self.removed if self.kept]
        ratios = [f"{name} {self._told('kept_ratio', name)}" for name in self.kept]
        parts = [f"leak of {', '.join(leaks)}"] if leaks else []
        parts += [f"given the kept labels {', '.join(beyond)}"] if beyond else []
        parts += [f"kept of {', '.join(ratios)}"] if ratios else []
        best = f"best of {', '.join(self.probes)}" if len(self.probes) > 1 else self.probes[0]
        return f"{'; '.join(parts)} ({best} on {self.rows[1]:,} held-out spectra)"

    def _told(self, key: str, name: str) -> str:
        row = self.names.index(name)
        value, error = self.value[key][row], self.error[key][row]
        return f"{value:.3f} +- {error:.3f}" if np.isfinite(value) else "not measurable"

    def __repr__(self) -> str:
        seeds = "1 seed" if len(self.seeds) == 1 else f"median of {len(self.seeds)} seeds"
        lines = [
            f"Leakage of {self.latents} latents, read from {self.rows[1]:,} held-out spectra "
            f"by probes that learnt from {self.rows[0]:,} ({seeds})",
            "",
            "label".ljust(10) + "role".ljust(9) + "R2: " + "".join(head.rjust(10) for head in self._heads())
            + "   normalised",
        ]  # fmt: skip
        for row, name in enumerate(self.names):
            figures = [self.value["floor"][row], *self.value["latents"][row], self.value["ceiling"][row]]
            numbers = "".join(f"{v:10.3f}" if np.isfinite(v) else "-".rjust(10) for v in figures)
            if name in self.removed:
                role, end = "removed", f"leak {self._told('best_leak', name)}"
                end += f", given kept {self._told('best_conditional', name)}" if self.kept else ""
            else:
                role, end = "kept", f"kept {self._told('kept_ratio', name)}"
            lines.append(f"{name:<10}{role:<9}    {numbers}   {end}")
        return "\n".join(lines)

    def _heads(self) -> list[str]:
        return ["floor", *self.probes, "ceiling"]


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
    max_rows: int = MOST_ROWS,
    baselines: Baselines | None = None,
) -> Leakage:
    """Measure what latents tell of labels, between what kept labels and what spectra tell.

    The aim is I(z; removed | kept) = 0: labels are correlated, so latents that tell the kept ones tell
    something of the others, and that is no leak. The floor is what the kept labels alone tell.

    Parameters
    ----------
    latent_train, latent_test : array (n, k), (m, k)
        Latents of stars that the probes learn from, and of other stars that they are judged on.
    labels_train, labels_test : mapping of str to array (n,), (m,)
        True labels; NaN where missing. Rows without all of the kept labels are left out.
    removed, kept
        Which labels the latents are not to tell, and to tell.
    spectra_train, spectra_test : array (n, p), (m, p)
        Flux without gaps. Probes are shown its 50 leading principal components, which were measured to tell
        more than all pixels.
    probes, seeds
        Fresh probes, each with every seed; see :func:`draper.latents.probes.probe`.
    max_rows
        Rows to learn from and rows to judge on at most, drawn by the first seed.
    baselines
        What the same labels and spectra told before, instead of the spectra: saves half of the work where
        several sets of latents are compared.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> teff, logg = random.normal(size=(2, 600))
    >>> spectra, latents = np.column_stack([teff, logg, teff + logg]), logg[:, None]
    >>> labels = {"teff": teff, "logg": logg}
    >>> learnt = {name: values[:400] for name, values in labels.items()}
    >>> held_out = {name: values[400:] for name, values in labels.items()}
    >>> found = measure_leakage(
    ...     latents[:400], latents[400:], learnt, held_out, removed=["teff"], kept=["logg"],
    ...     spectra_train=spectra[:400], spectra_test=spectra[400:], probes=["ridge"],
    ... )
    >>> abs(found.leak["teff"]) < 0.1, round(found.kept_ratio["logg"], 3)
    (True, 1.0)
    """
    if baselines is None:
        if spectra_train is None or spectra_test is None:
            raise DraperError("a leak is measured against spectra", hint="give spectra, or baselines")
        baselines = measure_baselines(
            labels_train, labels_test, spectra_train, spectra_test,
            removed=removed, kept=kept, probes=probes, seeds=seeds, max_rows=max_rows,
        )  # fmt: skip
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
    read = {"latents": baselines.read(z_train, z_test), "spectra": baselines.spectra}
    removing = len(baselines.removed)
    if len(baselines.known):
        z_told, z_told_test = (
            np.hstack(pair) for pair in zip((z_train, z_test), baselines.told, strict=True)
        )
        read["known"] = baselines.known
        read["both"] = baselines.read(z_told, z_told_test, slice(removing))
        random = np.random.default_rng([baselines.seeds[0], 2])
        mixed, mixed_test = (
            np.hstack([random.permutation(z), told])
            for z, told in zip((z_train, z_test), baselines.told, strict=True)
        )
        read["mixed"] = baselines.read(mixed, mixed_test, slice(removing))
    truth, first = baselines.truth.T, baselines.seeds[0]
    value, error = figures_with_errors(read, truth, removing, first)
    return Leakage(
        baselines.removed, baselines.kept, baselines.probes, baselines.seeds,
        (len(z_train), len(z_test)), z_train.shape[1],
        value, error, _information(read, truth, value),
        measure_factors(z_test, truth.T, value["latents"].max(axis=1), first),
    )  # fmt: skip


def _information(
    read: Mapping[str, FloatArray], truth: FloatArray, value: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Return what each source tells of each label (d,) [nats]."""
    found = {}
    for source in ("latents", "known", "spectra"):
        found[source] = np.full(len(truth), np.nan)
        for row, readings in enumerate(read.get(source, ())):
            best = int(value[source][row].argmax())
            found[source][row] = mutual_information(readings[best, 0], truth[row])
    left = 1 - np.stack([value["mixed"].max(axis=1).clip(0), value["both"].max(axis=1)])
    found["conditional"] = 0.5 * np.log(left[0] / np.maximum(left[1], 1e-12)).clip(0)
    return found
