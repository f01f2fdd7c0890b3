"""Labels of TauREx's spectra that were held out of the fit of the opacities: estimates against the truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erf

from draper.configs.train import TrainConfig
from draper.data.spectra import Spectra
from draper.models.retriever.model import Retriever
from draper.results.estimates import Estimates
from draper.simulate.planet_units import GASES
from draper.simulate.planets import LABELS, Planets
from draper.simulate.transit import relative_height
from retrieval.baselines import BASELINES
from retrieval.bounds import TELLING, covariances, derivatives, detection_limits
from retrieval.sheets import PPM, Array, Sheet, observed, physics_of, short

LEVELS = (1.0, 30.0, 100.0)
"""Errors of a bin [ppm]; 1 stands for none, and is less than the error of the opacities."""

BOX = {"planet_mass": (0.8, 2.0), "temperature": (1000.0, 2000.0), "planet_radius": (0.8, 1.5)}
CLEAR = {"log_cloud_top": 1.0, "log_haze": 0.0}
"""What is known of these spectra: the box of their labels, and a clear sky."""

NEAR = 0.1
"""An estimate is accurate within this part of the range of a label."""

HEIGHT = "log_height"
"""Logarithm of the scale height: what mass and temperature decide together."""

COLUMNS = (*LABELS.names, HEIGHT)

PUBLISHED = {
    1.0: (0.49, 0.28, 0.997, 0.93, 0.98, 0.96, 0.76),
    30.0: (0.39, 0.26, 0.983, 0.85, 0.94, 0.93, 0.43),
}
"""R2 of a perceptron (256-256, GELU, 700 steps) on another split, trained on all 1,544 spectra here."""

DRAWS = 20_000
"""Samples of the network alone, of which those in the box are kept."""


class Split(NamedTuple):
    """Depths (n, p) and labels (n, 7) that served the fit of the opacities, and those that did not."""

    depth: Array
    labels: Array
    test_depth: Array
    test_labels: Array


@dataclass(frozen=True)
class Found:
    """Estimates (n, l) of the columns of the tables.

    Attributes
    ----------
    mean, median, sigma : ndarray (n, l)
        Of the posterior; the same estimate twice, and NaN, where there is none.
    seconds : float
        CPU seconds for each spectrum.
    """

    mean: Array
    median: Array
    sigma: Array
    seconds: float


def split(path: Path, seed: int = 0, held_out: float = 0.2) -> Split:
    """Return the spectra of a file in two parts, those of ``scripts/fit_planets.py``, in random order."""
    with np.load(path, allow_pickle=False) as arrays:
        depth = arrays["transit_depth"][:, np.argsort(arrays["wavelength_um"])]
        labels = arrays["labels"]
    order = np.random.default_rng(seed).permutation(len(labels))
    held = round(held_out * len(labels))
    return Split(depth[order[held:]], labels[order[held:]], depth[order[:held]], labels[order[:held]])


def with_height(labels: Array) -> Array:
    """Return labels (..., 7) with the log scale height, up to a constant, as a further column."""
    flat = torch.from_numpy(labels.reshape(-1, labels.shape[-1])[:, :7].copy())
    height = relative_height(flat).numpy() * flat[:, 2].numpy()
    return np.concatenate([labels[..., :7], np.log10(height).reshape(*labels.shape[:-1], 1)], axis=-1)


def of_point(labels: Array, seconds: float) -> Found:
    """Return estimates without a posterior; what lies outside of the box is drawn to its end."""
    low, high = (np.array([getattr(label, end) for label in LABELS]) for end in ("low", "high"))
    made = with_height(np.clip(labels, low, high))
    return Found(made, made, np.full(made.shape, np.nan), seconds)


def of_samples(samples: list[Array], seconds: float) -> Found:
    """Return the estimates of posterior samples, a list of (draws, l)."""
    made = [with_height(one) for one in samples]
    return Found(
        np.array([one.mean(axis=0) for one in made]),
        np.array([np.median(one, axis=0) for one in made]),
        np.array([one.std(axis=0) for one in made]),
        seconds,
    )


def inpainting(parts: Split, planets: Planets, steps: int) -> Retriever:
    """Return the generator of spectra with labels that completes what is missing, as ExoGAN does."""
    table = dict(zip(LABELS.names, parts.labels.T, strict=True))
    spectra = Spectra(planets.grid, parts.depth, table=table, quantity="transit depth")
    model = Retriever(method="inpaint", labels=LABELS.names)
    train = TrainConfig(steps=steps, batch_size=64, learning_rate=2e-4, threads=1, progress="none")
    return model.fit(spectra, train=train)


def in_box(estimates: Estimates) -> list[Array]:
    """Return the samples of each spectrum that lie in the box of TauREx's spectra, or all if none does."""
    assert estimates.samples is not None
    found = []
    for one in estimates.samples:
        columns = {name: one[:, estimates.labels.names.index(name)] for name in BOX}
        inside = np.all(
            [(columns[name] >= low) & (columns[name] <= high) for name, (low, high) in BOX.items()], 0
        )
        found.append(one[inside] if inside.sum() > 1 else one)
    return found


def retrieved(model: Retriever, spectra: Spectra, options: Mapping[str, Any]) -> tuple[Found, Estimates]:
    """Return the estimates of the weighted samples, with the box and the clear sky as known."""
    clear = {name: value for name, value in CLEAR.items() if name in model.labels.names}
    begun = time.process_time()
    estimates = model.predict(spectra, bounds=BOX, fixed=clear, **options)
    seconds = (time.process_time() - begun) / len(spectra)
    assert estimates.samples is not None
    return of_samples(list(estimates.samples), seconds), estimates


def measures(found: Found, truth: Array, chosen: Array, span: Array) -> dict[str, Array]:
    """Return figures (l,) of estimates (n, l) of the cases that are chosen (n, l)."""
    known = np.where(chosen, 1.0, np.nan)

    def mean(values: Array | NDArray[np.bool_]) -> Array:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nansum(known * values, axis=0) / chosen.sum(axis=0))

    missed = found.mean - truth
    off = np.abs(found.median - truth)
    variance = mean((truth - mean(truth)) ** 2)
    known_sigma = np.isfinite(found.sigma).all()
    return {
        "RMSE": np.sqrt(mean(missed**2)),
        "R2": 1 - mean(missed**2) / variance,
        "accuracy [%]": 100 * mean(off < NEAR * span),
    } | ({f"within {n} sigma [%]": 100 * mean(off < n * found.sigma) for n in (1, 2)} if known_sigma else {})


def bound_measures(sigma: Array, truth: Array, chosen: Array, span: Array) -> dict[str, Array]:
    """Return what errors (n, l) of a Gaussian posterior would give."""
    count = chosen.sum(axis=0)
    square = (chosen * sigma**2).sum(axis=0) / count
    centre = (chosen * truth).sum(axis=0) / count
    variance = (chosen * (truth - centre) ** 2).sum(axis=0) / count
    near = (chosen * erf(NEAR * span / sigma / np.sqrt(2))).sum(axis=0) / count
    return {"RMSE": np.sqrt(square), "R2": 1 - square / variance, "accuracy [%]": 100 * near}


def bound_errors(planets: Planets, labels: Array, error: float) -> Array:
    """Return the Cramer-Rao errors (n, l) of the columns of the tables, with the box as a prior."""
    variance = (PPM * error) ** 2 + planets.model_error**2
    covariance = covariances(derivatives(planets, labels)[1], variance, planets.prior)
    step = 1e-4 * np.array([label.high - label.low for label in LABELS])
    shifted = with_height(labels[:, None] + np.diag(step))[..., -1]
    slope = (shifted - with_height(labels)[:, None, -1]) / step
    height = np.einsum("nl,nlk,nk->n", slope, covariance, slope)
    variance_of = np.column_stack([np.einsum("nll->nl", covariance), height])
    return np.asarray(np.sqrt(variance_of))


def estimates_of(
    model: Retriever, parts: Split, spectra: Spectra, error: float, sizes: Mapping[str, int]
) -> Iterator[tuple[str, Found, int]]:
    """Iterate over names of methods, their estimates, and the number of spectra that they were given."""
    depth = spectra.flux.astype(np.float64)
    for name, fit in BASELINES.items():
        predict = fit(parts.depth, parts.labels, error)
        begun = time.process_time()
        made = predict(depth)
        yield name, of_point(made, (time.process_time() - begun) / len(depth)), len(depth)
    if sizes["inpaint"]:
        some = spectra[: sizes["inpaint"]]
        generator = inpainting(parts, physics_of(model), sizes["steps"])
        begun = time.process_time()
        filled = generator.predict(some, samples=64)
        seconds = (time.process_time() - begun) / len(some)
        assert filled.samples is not None
        yield "inpaint", of_samples(list(filled.samples), seconds), len(some)
    begun = time.process_time()
    alone = model.predict(spectra, weigh=False, samples=DRAWS)
    seconds = (time.process_time() - begun) / len(spectra)
    yield "Retriever, network alone", of_samples(in_box(alone), seconds), len(spectra)


TOLD = ", gases above their detection limits"
"""What is added to the title of a table of the cases that the data tell."""


class Scores:
    """Tables of figures by measure, of the estimates of one set of spectra after the other.

    Parameters
    ----------
    span : ndarray (l,)
        Ranges of the labels.
    say
        Is told the R2 of each method.
    """

    def __init__(self, span: Array, say: Callable[[str], None]) -> None:
        self.span, self.say = span, say
        self.tables: dict[str, list[dict[str, Any]]] = {}

    def begin(self, error: float, truth: Array, sigma: Array) -> None:
        """Take the true columns (n, l) of the next spectra, and their Cramer-Rao errors (n, l)."""
        self.error, self.truth = error, truth
        told = np.ones(truth.shape, dtype=bool)
        told[:, 3:7] = sigma[:, 3:7] < TELLING
        self.choices = {"": np.ones_like(told), TOLD: told}

    def score(self, method: str, found: Found, number: int) -> None:
        """Add the figures of estimates of the first spectra."""
        for suffix, cases in self.choices.items():
            figures = measures(found, self.truth[:number], cases[:number], self.span)
            self.add(method, figures, found.seconds, number, suffix)
        self.say(f"{self.error:g} ppm, {method}: R2 {list(self.tables['R2'][-1].values())[3:]}")

    def bound(self, sigma: Array) -> None:
        """Add the figures of the Cramer-Rao bound."""
        for suffix, cases in self.choices.items():
            figures = bound_measures(sigma, self.truth, cases, self.span)
            self.add("Cramer-Rao bound with the box", figures, 0.0, len(sigma), suffix)

    def add(self, method: str, figures: dict[str, Array], seconds: float, number: int, suffix: str) -> None:
        """Add a row to the table of each measure."""
        for measure, values in figures.items():
            row = {"error [ppm]": self.error, "method": method, "spectra": number}
            row |= {name: float(f"{value:.4g}") for name, value in zip(short(COLUMNS), values, strict=True)}
            self.tables.setdefault(measure + suffix, []).append(row | {"CPU s": seconds})


def accuracy(
    model: Retriever,
    path: Path,
    *,
    spectra: int = 60,
    inpaint: int = 20,
    steps: int = 4000,
    options: Mapping[str, Any] = MappingProxyType({}),
    levels: tuple[float, ...] = LEVELS,
    say: Callable[[str], None] = print,
) -> list[Sheet]:
    """Return tables of RMSE, R2 and accuracy on ``spectra`` of the held-out spectra; 0 takes all."""
    parts = split(path)
    count = min(spectra or len(parts.test_labels), len(parts.test_labels))
    clear = Planets(box="exogan")
    known = parts.test_labels[:count]
    scores = Scores(np.ptp(with_height(parts.labels), axis=0), say)
    sizes = {"inpaint": min(inpaint, count), "steps": steps}
    limits: list[dict[str, Any]] = []
    for place, level in enumerate(levels):
        seen = observed(clear.grid, parts.test_depth[:count], level, seed=100 + place)
        sigma = bound_errors(clear, known, level)
        scores.begin(level, with_height(known), sigma)
        for name, found, number in estimates_of(model, parts, seen, level, sizes):
            scores.score(name, found, number)
        found, estimates = retrieved(model, seen, options)
        scores.score("Retriever", found, count)
        scores.bound(sigma)
        if level in PUBLISHED:
            figures = {"R2": np.array([*PUBLISHED[level], np.nan])}
            scores.add("MLP, published (other split)", figures, 0.0, 387, "")
        row = {"error [ppm]": level, **told(clear, known[: min(count, 40)], level)}
        limits.append(row | how_of(estimates))
        say(str(limits[-1]))
    facts = {
        "held out": len(parts.test_labels),
        "training spectra": len(parts.labels),
        "options": dict(options),
        "accuracy": f"share within {NEAR:.0%} of the range",
        "RMSE and R2": "of means",
        "accuracy and hits": "of medians",
        "ranges": ", ".join(
            f"{name} {width:.3g}" for name, width in zip(short(COLUMNS), scores.span, strict=True)
        ),
        "network alone": "knows neither the box nor the clear sky; its samples in the box",
    }
    sheets = [Sheet(f"TauREx: {measure}", rows, facts) for measure, rows in scores.tables.items()]
    title = f"TauREx: gases told to {TELLING} dex, and efficiency"
    return [*sheets, Sheet(title, limits, facts)]


def told(planets: Planets, labels: Array, error: float) -> dict[str, Any]:
    """Return the median detection limit of each gas, and the share of planets (n, l) above it."""
    variance = (PPM * error) ** 2 + planets.model_error**2
    sigma = bound_errors(planets, labels, error)
    row: dict[str, Any] = {"spectra": len(labels)}
    for column, gas in enumerate(GASES, start=3):
        row[f"{gas} from"] = float(np.nanmedian(detection_limits(planets, labels, variance, column)))
        row[f"{gas} [%]"] = float(100 * (sigma[:, column] < TELLING).mean())
    return row


def how_of(estimates: Estimates) -> dict[str, Any]:
    """Return how posteriors were found, and how efficiently."""
    names, counts = np.unique(estimates.columns["how"], return_counts=True)
    efficiency = estimates.columns["efficiency"]
    return {
        "efficiency": float(np.nanmedian(efficiency)),
        "how": ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True)),
        "outside": int(estimates.flags["outside"].sum()),
        "unreliable": int(estimates.flags["unreliable"].sum()),
    }
