"""The cells of Table 1: one representation, engine and seed each; finished cells are not computed again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from draper import atomic_write
from draper.configs.disentangler import Engine
from draper.configs.train import TrainConfig
from draper.data.spectra import Spectra
from draper.errors import DraperError, did_you_mean
from draper.latents.baselines import Baselines, measure_baselines
from draper.latents.leakage import Leakage
from draper.latents.probes import PROBES, Probe
from draper.models.disentangler.leakage import leakage_of
from draper.models.disentangler.model import STRENGTH, Disentangler
from draper.nn.bottleneck import Bottleneck
from draper.simulate.survey import Survey
from draper.train.regress import regress
from gandalf.fits import ALIKE, bounded, fitted
from gandalf.swap import by_model, by_simulator, swap

Array = NDArray[np.float64]
Rows = NDArray[np.float32]
Figures = dict[str, dict[str, dict[str, float]]]

LABELS = ("teff", "logg", "fe_h", "alpha_fe")
PARTS = {
    "first": (("fe_h", "alpha_fe"), ("teff", "logg")),
    "second": (("teff", "logg"), ("fe_h", "alpha_fe")),
}
"""What the two latents remove and keep, in the names of the paper's Table 1."""

FORMAT = 3
"""Raised when cells that are on disk no longer mean the same."""

SPLIT = 1
"""Seed of the split by star; what the seeds of cells vary is training alone."""

COMPONENTS = 25
MAPPED = 3000
"""Number of held-out stars whose latents are stored for maps."""

BATCH = 256


@dataclass(frozen=True)
class Settings:
    """What all cells of a run share.

    Attributes
    ----------
    stars, survey
        Number of stars, and the seed of their simulation.
    epochs
        Epochs of autoencoders.
    reading
        Maximum number of epochs of the 200-100 regressors.
    fits
        Held-out stars that the emulator is fitted to, and that the bound is averaged over.
    swaps
        Held-out stars whose labels are swapped.
    fresh
        Number of further stars, which no model has seen, for the training of probes.
    probes, probe_seeds
        Of the leakage reports.
    """

    stars: int = 64_305
    survey: int = 11
    epochs: float = 30
    reading: float = 50
    fits: int = 4000
    swaps: int = 400
    fresh: int = 20_000
    probes: tuple[Probe, ...] = PROBES
    probe_seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Cell:
    """One row of the table with one seed, or a result that several rows need."""

    kind: str
    engine: str = ""
    seed: int = 0

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"{self.kind}, {self.engine}" if self.engine else self.kind

    @property
    def options(self) -> dict[str, Any]:
        """Options of its autoencoder; the decoder always gets all four labels."""
        engine, strength, erase = parsed(self.engine)
        remove, keep = PARTS.get(self.kind, ((), LABELS if self.kind == "supervised" else ()))
        # One discriminator of all labels together either removes or keeps.
        keep = () if engine == "joint" else keep
        if engine != "none":
            strength = strength or (STRENGTH[engine],)  # named, so that a new default means new cells
        return {
            "labels": LABELS,
            "engine": engine,
            "remove": remove,
            "keep": keep,
            "erase": erase,
            "strength": strength,
            "probe": False,
        }


ENGINES = get_args(Engine)


def parsed(name: str) -> tuple[str, tuple[float, ...], bool]:
    """Return engine, strength and whether traces are erased of ``NAME[@STRENGTH][+erase]``, or refuse it.

    Examples
    --------
    >>> parsed("bins@0.5+erase"), parsed("none")
    (('bins', (0.5,), True), ('none', (), False))
    """
    rest, plus, erase = name.partition("+")
    bare, at, strength = rest.partition("@")
    if (
        bare not in ENGINES
        or (plus and erase != "erase")
        or (at and not strength.replace(".", "", 1).isdigit())
    ):
        raise DraperError(
            "there is no such engine",
            given=name,
            expected=f"{', '.join(ENGINES)}, maybe with @STRENGTH and +erase",
            hint=did_you_mean(bare, ENGINES),
        )
    return bare, (float(strength),) if at else (), bool(erase)


def cells_of(engines: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Return all cells of a table, cheap ones and those that others need first."""
    for name in engines:
        parsed(name)
    found = [Cell(f"floor of {part}") for part in PARTS] + [Cell("emulator"), Cell("bound"), Cell("swap")]
    for seed in seeds:
        found += [Cell(kind, seed=seed) for kind in ("raw", "raw, raw labels", "standardised", "PCA-25")]
        found += [Cell("pure", "none", seed), Cell("supervised", "bottleneck", seed)]
        found += [Cell(part, name, seed) for name in engines for part in PARTS]
    return found


class Cells:
    """A folder of cells: one JSON file of figures each, and arrays for plots beside it.

    Parameters
    ----------
    folder
        Where they are.
    settings
        Cells that were computed with others have other names, and are not touched.
    threads
        CPU threads of training.
    """

    def __init__(self, folder: Path, settings: Settings, threads: int = 1) -> None:
        self.folder, self.settings, self.threads = folder, settings, threads

    def described(self, cell: Cell) -> dict[str, Any]:
        """Return all that decides the figures of a cell."""
        common = asdict(self.settings) | {"format": FORMAT, "draper": version("draper"), "split": SPLIT}
        always = ["stars", "survey", "format", "draper", "split"]
        reading = [*always, "reading", "fresh", "probes", "probe_seeds"]
        needed = {"emulator": [*always, "fits"], "bound": [*always, "fits"], "swap": [*always, "swaps"]}
        if cell.engine:
            common["options"] = cell.options
            del common["fits"]
        else:
            common = {name: common[name] for name in needed.get(cell.kind, reading)}
        return common | {"kind": cell.kind, "engine": cell.engine, "seed": cell.seed}

    def path(self, cell: Cell) -> Path:
        """Return where the figures of a cell are, or will be."""
        settings = json.dumps(self.described(cell), sort_keys=True).encode()
        name = "-".join([cell.title.replace(", ", "-").replace(" ", "-").lower(), str(cell.seed)])
        return self.folder / f"{name}-{hashlib.blake2b(settings, digest_size=6).hexdigest()}.json"

    def read(self, cell: Cell) -> dict[str, Any] | None:
        """Return the figures of a cell that is finished."""
        path = self.path(cell)
        return json.loads(path.read_text()) if path.exists() else None

    def arrays(self, cell: Cell) -> dict[str, NDArray[Any]]:
        """Return the arrays of a finished cell."""
        with np.load(self.path(cell).with_suffix(".npz"), allow_pickle=False) as held:
            return dict(held)

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, dict[str, Any], bool]]:
        """Yield each cell with its figures, and whether they had to be computed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for cell in cells:
            held = self.read(cell)
            yield (cell, self._computed(cell), True) if held is None else (cell, held, False)

    def _computed(self, cell: Cell) -> dict[str, Any]:
        _ = self.data  # simulated before the clock starts
        start, wall = time.process_time(), time.perf_counter()
        figures, arrays = self.compute(cell)
        figures["cpu_seconds"] = time.process_time() - start
        figures["wall_seconds"] = time.perf_counter() - wall
        path = self.path(cell)
        if arrays:
            np.savez(path.with_suffix(".npz"), allow_pickle=False, **arrays)
        figures = {"settings": self.described(cell), **figures}
        # A cell without its JSON file is not finished.
        atomic_write.write(path, json.dumps(figures, indent=1, allow_nan=False))
        return json.loads(json.dumps(figures))  # type: ignore[no-any-return]

    # --------------------------------------------------------------- the stars

    @cached_property
    def data(self) -> tuple[Spectra, Spectra]:
        """The training stars and the test stars."""
        stars = Survey("gaia-rvs-800").simulate(self.settings.stars, seed=self.settings.survey)
        learnt, held_out = stars.split(0.8, seed=SPLIT)
        return learnt, held_out

    @cached_property
    def fresh(self) -> Spectra:
        """Stars that no model has seen, for probes to learn from."""
        return Survey("gaia-rvs-800").simulate(self.settings.fresh, seed=self.settings.survey + 1)

    @cached_property
    def truth(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """True labels by name of the stars for the training and the test of probes."""
        fresh, held_out = (
            {name: part.column(f"{name}_true").astype(float) for name in LABELS}
            for part in (self.fresh, self.data[1])
        )
        return fresh, held_out

    def floor(self, part: str) -> Baselines:
        """Return floor and ceiling of the leakage reports of the latents of a name."""
        cell = Cell(f"floor of {part}")
        if self.read(cell) is None:
            list(self.run([cell]))
        removed, kept = PARTS[part]
        held: dict[str, Any] = self.arrays(cell)
        lengths = held.pop("lengths")
        return Baselines(
            removed,
            kept,
            self.settings.probes,
            self.settings.probe_seeds,
            (int(lengths[0]), int(lengths[1])),
            **held,
        )

    # --------------------------------------------------------------- the cells

    def compute(self, cell: Cell) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return figures and arrays of a cell."""
        learnt, held_out = self.data
        if cell.kind.startswith("floor"):
            return self._floor(cell.kind.rpartition(" ")[2])
        if cell.kind in ("emulator", "bound"):
            some = held_out[: self.settings.fits]
            if cell.kind == "emulator":
                fits = {"emulator's fit": fitted(some), "fit, relations known": fitted(some, ALIKE)}
                return {"stars": len(some), "rows": {k: compared(v, some) for k, v in fits.items()}}, {}
            bounds = {"Cramer-Rao bound": bounded(some), "bound, relations known": bounded(some, ALIKE)}
            return {"stars": len(some), "rows": {k: expected(v, some) for k, v in bounds.items()}}, {}
        if cell.kind == "swap":
            figures, arrays = swap(by_simulator, held_out[: self.settings.swaps], learnt, LABELS)
            return {"rows": {}, "swap": figures}, arrays
        if cell.engine:
            return self._autoencoder(cell)
        x, other = (
            components(learnt.flux, held_out.flux) if cell.kind == "PCA-25" else (learnt.flux, held_out.flux)
        )
        return self._reading(cell, x, other)

    def _floor(self, part: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        removed, kept = PARTS[part]
        baselines = measure_baselines(
            *self.truth,
            self.fresh.flux,
            self.data[1].flux,
            removed=removed,
            kept=kept,
            probes=self.settings.probes,
            seeds=self.settings.probe_seeds,
        )
        arrays = {
            name: np.asarray(getattr(baselines, name))
            for name in ("lengths", "train", "test", "learnt", "truth", "known", "spectra")
        }
        return {"rows": {}}, arrays

    def _reading(self, cell: Cell, x: Rows, other: Rows) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Train the 200-100 network on the published labels of the stars to learn from, and judge it."""
        learnt, held_out = self.data
        y = learnt.columns(LABELS)
        # An unscaled input is a careless baseline; labels that differ by 1e5 in variance are another.
        centre, scale = (0.0, 1.0) if cell.kind == "raw, raw labels" else (y.mean(axis=0), y.std(axis=0))
        start = time.process_time()
        network = regress(
            x,
            (y - centre) / scale,
            standardise=not cell.kind.startswith("raw"),
            seed=cell.seed,
            epochs=self.settings.reading,
            threads=self.threads,
        )
        predicted = centre + scale * network.predict(other).astype(float)
        seconds = time.process_time() - start
        figures = {"stars": len(held_out), "rows": {cell.title: compared(predicted, held_out)}}
        return {**figures, "regressor_cpu_seconds": seconds}, {"labels": predicted.astype(np.float32)}

    def _autoencoder(self, cell: Cell) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        learnt, held_out = self.data
        start = time.process_time()
        train = TrainConfig(
            epochs=self.settings.epochs,
            batch_size=BATCH,
            seed=cell.seed,
            threads=self.threads,
            device="cpu",
            progress="none",
        )
        model = Disentangler(**cell.options).fit(learnt, train=train)
        seconds = time.process_time() - start
        z, other = model.encode(learnt), model.encode(held_out)
        figures, arrays = self._reading(cell, z, other)
        figures["training_cpu_seconds"] = seconds
        figures["reconstruction"] = misfit(model.generate(held_out), held_out)
        start = time.process_time()
        parts = [cell.kind] if cell.kind in PARTS else list(PARTS)
        figures["leakage"] = {part: self._leakage(part, model).to_json() for part in parts}
        figures["leakage_cpu_seconds"] = time.process_time() - start
        start = time.process_time()
        figures["swap"], changes = swap(by_model(model), held_out[: self.settings.swaps], learnt, LABELS)
        figures["swap_cpu_seconds"] = time.process_time() - start
        return figures, {**arrays, **changes, "latents": other[:MAPPED]}

    def _leakage(self, part: str, model: Disentangler) -> Leakage:
        """Return the leakage of the labels of a part, which may not be those that the model removes."""
        removed, kept = PARTS[part]
        own = removed == model.config.remove
        return leakage_of(
            model.encode,
            model.scaled_flux,
            self.fresh,
            self.data[1],
            removed=removed,
            kept=kept,
            kept_columns=model.network.kept_columns if own else 0,
            moments=model.moments if own and isinstance(model.network, Bottleneck) else None,
            truth="_true",
            probes=self.settings.probes,
            seeds=self.settings.probe_seeds,
            baselines=self.floor(part),
        )


# ------------------------------------------------------------------- figures


def compared(labels: Array, stars: Spectra) -> Figures:
    """Return the errors of labels (n, 4) by name, against published ones and against the truth."""
    return {
        name: {
            against: residuals(labels[:, number] - stars.column(f"{name}{suffix}"))
            for against, suffix in (("survey", ""), ("truth", "_true"))
        }
        for number, name in enumerate(LABELS)
    }


def residuals(left: Array) -> dict[str, float]:
    """Return mean absolute, mean and scatter of residuals (n,), and the scatter of their absolute values.

    Examples
    --------
    >>> residuals(np.array([1.0, -1.0]))
    {'mae': 1.0, 'mean': 0.0, 'sd': 1.0, 'sd_absolute': 0.0}
    """
    size = np.abs(left)
    return {
        "mae": float(size.mean()),
        "mean": float(left.mean()),
        "sd": float(left.std()),
        "sd_absolute": float(size.std()),
    }


def expected(sigma: Array, stars: Spectra) -> Figures:
    """Return the same for Gaussian errors (n, 4), those of the published labels added in quadrature."""
    figures: Any = {}
    for number, name in enumerate(LABELS):
        published = np.hypot(sigma[:, number], stars.column(f"{name}_err"))
        figures[name] = {"survey": of_gaussian(published), "truth": of_gaussian(sigma[:, number])}
    return figures  # type: ignore[no-any-return]


def of_gaussian(sigma: Array) -> dict[str, float]:
    """Return what :func:`residuals` gives on average for residuals of scatters (n,)."""
    mae, square = np.sqrt(2 / np.pi) * sigma.mean(), np.square(sigma).mean()
    return {
        "mae": float(mae),
        "mean": 0.0,
        "sd": float(np.sqrt(square)),
        "sd_absolute": float(np.sqrt(square - mae**2)),
    }


def misfit(made: Spectra, stars: Spectra) -> dict[str, float]:
    """Return rms residual [flux], chi2 a pixel, and the rms of the noise, over the good pixels."""
    square, chi2, noise, good = 0.0, 0.0, 0.0, 0
    for fit, data in zip(made.batches(BATCH), stars.batches(BATCH), strict=True):
        known = data.ivar > 0
        left = np.square((fit.flux - data.flux)[known].astype(float))
        square, chi2 = square + left.sum(), chi2 + (left * data.ivar[known]).sum()
        noise, good = noise + (1 / data.ivar[known].astype(float)).sum(), good + int(known.sum())
    return {
        "rms": float(np.sqrt(square / good)),
        "chi2": float(chi2 / good),
        "noise": float(np.sqrt(noise / good)),
    }


def components(learnt: Rows, held_out: Rows) -> tuple[Rows, Rows]:
    """Return the leading principal components of both, as the first has them."""
    from sklearn.decomposition import PCA

    pca = PCA(min(COMPONENTS, *learnt.shape), svd_solver="covariance_eigh").fit(learnt)
    x, other = (pca.transform(part).astype(np.float32) for part in (learnt, held_out))
    return x, other
