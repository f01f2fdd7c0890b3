"""What pre-training is worth: label errors with and without it, beside regressions, by number of labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from draper.configs.masked import MaskedConfig
from draper.configs.train import TrainConfig
from draper.data.labels import LabelSet
from draper.data.labels import columns as label_columns
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.latents.probes import probe
from draper.models.masked.columns import known_labels, read_columns
from draper.models.masked.network import MaskedNetwork
from draper.results.estimates import Estimates

FloatArray = NDArray[np.float64]

SIZES = (100, 1000, 10_000)
"""Numbers of labelled stars."""

HELD_OUT = 0.3
"""Share of the labelled stars on which errors are measured."""

COMPONENTS = 60
"""Principal components of spectra that regressions see."""

RATE, LEAST, MOST, PASSES = 7e-4, 400, 3000, 60
"""Learning rate and steps of fine-tuning: so many passes over the labelled stars, within these limits."""

METHODS = PRETRAINED, PLAIN, TREES, RIDGE, MEAN = (
    "pre-trained", "same network, not pre-trained", "boosted trees", "PCA + ridge", "mean",
)  # fmt: skip


class Pretrained(Protocol):
    """What is needed of a model that was pre-trained."""

    config: MaskedConfig
    labels: LabelSet

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Columns that it sees."""

    @property
    def network(self) -> MaskedNetwork:
        """Its network."""

    def fit(self, data: Spectra, *, valid: float, labels: Sequence[str], train: TrainConfig) -> Any:
        """Fine-tune it."""

    def predict(self, spectra: Spectra) -> Estimates:
        """Predict labels."""


class Inputs(NamedTuple):
    """What regressions see of stars: spectra and columns without units (n, q), all finite."""

    train: FloatArray
    test: FloatArray


def regression_inputs(model: Pretrained, train: Spectra, test: Spectra) -> Inputs:
    """Return principal components of scaled spectra, colours, brightness and parallax; gaps hold the mean."""
    with warnings.catch_warnings():
        # Of columns that no star has, means are NaN, and become 0.
        warnings.simplefilter("ignore", RuntimeWarning)
        return _regression_inputs(model, train, test)


def _regression_inputs(model: Pretrained, train: Spectra, test: Spectra) -> Inputs:
    parts = []
    middle_magnitude = np.nan
    for spectra in (train, test):
        good = spectra.ivar > 0
        flux = np.where(good, spectra.flux, np.nan).astype(np.float64)
        weight = np.where(good, spectra.ivar, 0).astype(np.float64)
        weight /= np.maximum(weight.max(axis=1, keepdims=True), 1e-30)
        mean = model.network.statistics.mean.numpy().astype(np.float64)
        level = np.nansum(weight * mean * np.nan_to_num(flux), axis=1) / np.maximum(
            (weight * mean**2).sum(1), 1e-30
        )
        level = np.where(level > 0, level, np.nan)
        values, _ = read_columns(spectra.table, model.columns or ())
        if not len(values):
            values = np.empty((len(spectra), 0))
        magnitude = -2.5 * np.log10(level)
        bands = [number for number, name in enumerate(model.columns or ()) if name.endswith("_mag")]
        columns = values.copy()
        reference = values[:, bands[0]] if bands else magnitude
        if np.isnan(middle_magnitude):
            middle_magnitude = np.nanmedian(reference)
        for number in bands[1:]:
            columns[:, number] -= reference
        for number, name in enumerate(model.columns or ()):
            if name == "parallax":
                columns[:, number] = np.arcsinh(
                    values[:, number] * 10 ** (0.2 * (reference - middle_magnitude))
                )
        parts.append((flux / level[:, None], np.column_stack([magnitude, columns])))
    centre = np.nan_to_num(np.nanmean(parts[0][0], axis=0))
    spread = np.nan_to_num(np.nanstd(parts[0][0], axis=0), nan=1.0)
    spread = np.where(spread > 0, spread, 1.0)
    whole = [np.nan_to_num((flux - centre) / spread) for flux, _ in parts]
    _, _, directions = np.linalg.svd(whole[0][:4000], full_matrices=False)
    basis = directions[: min(COMPONENTS, len(train) // 2)].T
    middle = np.nan_to_num(np.nanmedian(parts[0][1], axis=0))
    found = [
        np.column_stack([white @ basis, np.where(np.isfinite(columns), columns, middle)])
        for white, (_, columns) in zip(whole, parts, strict=True)
    ]
    return Inputs(*found)


def steps_for(number: int, batch_size: int) -> int:
    """Return the number of steps with so many labelled stars.

    Examples
    --------
    >>> steps_for(100, 64), steps_for(10_000, 512)
    (400, 1172)
    """
    return int(np.clip(-(-PASSES * number // batch_size), LEAST, MOST))


def predictions(
    model: Pretrained, labels: Sequence[str], train: Spectra, test: Spectra, seed: int
) -> Iterator[tuple[str, FloatArray]]:
    """Iterate over methods and their labels (n, l) of the test stars, learnt from the training stars."""
    size = int(np.clip(len(train) // 4, 32, 512))
    options = TrainConfig(
        steps=steps_for(len(train), size), batch_size=size, learning_rate=RATE, warmup=50, clip=1.0,
        seed=seed, progress="none", patience=None,
    )  # fmt: skip
    tuned = deepcopy(model)
    tuned.fit(train, valid=0, labels=labels, train=options)
    found = tuned.predict(test)
    yield PRETRAINED, np.column_stack([found[name] for name in labels])
    # Columns stay those of the pre-trained model, so that both see the same.
    config = model.config.replace(labels=tuple(labels), columns=model.columns, encoder="full")
    fresh = cast(Any, type(model))(config).fit(train, valid=0, train=options.replace(learning_rate=2 * RATE))
    yield PLAIN, fresh.predict(test).median
    inputs = regression_inputs(model, train, test)
    known = train.columns(labels)
    yield TREES, probe("boosting", inputs.train, known, inputs.test, seed)
    yield RIDGE, probe("ridge", inputs.train, known, inputs.test, seed)
    yield MEAN, np.broadcast_to(known.mean(axis=0), (len(test), len(labels)))


def robust_scatter(error: FloatArray) -> FloatArray:
    """Return the scatter (l,) of errors (n, l): 1.4826 times their median absolute value."""
    return np.asarray(1.4826 * np.nanmedian(np.abs(error), axis=0))


def ledger(
    model: Pretrained,
    labelled: Spectra,
    labels: Sequence[str],
    *,
    sizes: Sequence[int] = SIZES,
    seeds: int = 3,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return the label errors of each method for each number of labelled stars.

    Parameters
    ----------
    model
        A model that was pre-trained without these labels.
    labelled
        Stars with labels, split by object for each seed; those that lack one of them are left out.
    labels
        Their columns.
    sizes
        Numbers of labelled stars; those that the set does not have are left out.
    seeds
        Number of splits.
    say
        Called with a line for each method, size and seed.
    progress
        Called with the number of trainings that are done, and of all.

    Returns
    -------
    list of dict
        Number of labels, method, and for each label the robust scatter of the held-out errors, and the rms,
        both means over the seeds; ``gain`` is the ratio of the robust scatter without pre-training to that of
        a method, a geometric mean over labels: above 1, the method is better.
    """
    if known := set(labels) & set(model.labels.names):
        raise DraperError(
            "the ledger needs a model that was pre-trained without these labels",
            given=", ".join(sorted(known)),
            hint="pre-train one without labels: draper train masked DATA -o FOLDER",
        )
    has_all = np.isfinite(label_columns(known_labels(labelled.table, labels), labels)).all(axis=1)
    if not has_all.any():
        raise DraperError(
            "no star has all these labels", given=", ".join(labels), hint="name labels that some stars have"
        )
    labelled = labelled[has_all]
    values: dict[tuple[int, str], list[tuple[FloatArray, FloatArray]]] = {}
    splits = [labelled.split_rows(HELD_OUT, seed=seed) for seed in range(seeds)]
    total, done = len(METHODS) * sum(size <= len(pool) for _, pool in splits for size in sizes), 0
    for seed, (held_out, others) in enumerate(splits):
        test, pool = labelled[held_out], labelled[others]
        truth = test.columns(labels)
        for size in sizes:
            if size > len(pool):
                continue
            for method, predicted in predictions(
                model,
                labels,
                pool[np.sort(np.random.default_rng(seed).permutation(len(pool))[:size])],
                test,
                seed,
            ):
                error = predicted - truth
                rms = np.sqrt(np.nanmean(error**2, axis=0))
                values.setdefault((size, method), []).append((robust_scatter(error), rms))
                done += 1
                if progress is not None:
                    progress(done, total)
                if say is not None:
                    scatter = ", ".join(
                        f"{name} {x:.4g}" for name, x in zip(labels, robust_scatter(error), strict=True)
                    )
                    say(f"{size} labels, seed {seed}, {method}: {scatter}")
    rows = []
    for (size, method), figures in values.items():
        scatter, rms = (np.mean([pair[part] for pair in figures], axis=0) for part in (0, 1))
        plain = np.mean([pair[0] for pair in values[size, PLAIN]], axis=0)
        row: dict[str, Any] = {"labels": size, "method": method, "seeds": len(figures)}
        row |= {name: float(f"{x:.4g}") for name, x in zip(labels, scatter, strict=True)}
        row |= {f"{name} rms": float(f"{x:.4g}") for name, x in zip(labels, rms, strict=True)}
        rows.append(row | {"gain": float(f"{np.exp(np.mean(np.log(plain / scatter))):.3g}")})
    return rows
