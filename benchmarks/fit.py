"""How fast and how honest label fits are, on 7214 pixels and 25 labels, one thread.

The emulator is a network of The Payne's size (25-300-300-7214) on the structured set; mocks are drawn from it
inside 0.7 of the box at S/N 100, so that the truth, and the Cramer-Rao bound, are known. Beside draper's two
ways stand The Payne's procedure (curve_fit of scipy with bounds, finite differences, one spectrum a call, its
tolerances, velocity within 5 km/s by linear interpolation), re-implemented from its description, and scipy's
Levenberg-Marquardt with an emulator that computes all finite differences in one product. CPU seconds.
"""

from __future__ import annotations

import os

# Before numpy is loaded: its threads would count as CPU time while they wait.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import curve_fit, least_squares

import structured
from draper.configs.train import TrainConfig
from draper.data.spectra import Spectra
from draper.instrument.broadening import broaden, velocity_step
from draper.instrument.doppler import SPEED_OF_LIGHT, shift
from draper.instrument.resample import cubic
from draper.models.emulator.model import Emulator
from draper.nn.spectral import Perceptron
from draper.results.estimates import Estimates
from report import arguments, report

Array = NDArray[np.float64]

SPAN, RATIO = 0.35, 100.0
"""Half the width of the labels of mocks, and their S/N."""


def emulator(rows: int) -> Emulator:
    """Return an emulator of The Payne's size."""
    labels, flux = structured.make(rows)
    table = dict(zip(structured.NAMES, labels.T.astype(float), strict=True))
    spectra = Spectra(structured.grid(), flux, table=table, quantity="normalised flux")
    train = TrainConfig(epochs=20, threads=1, progress="none", learning_rate=2e-3)
    model = Emulator(labels=structured.NAMES, hidden=(300, 300), activation="leaky_relu")
    return model.fit(spectra, train=train)


class Mocks:
    """Spectra of known labels and velocities, with noise.

    Parameters
    ----------
    model
        The emulator that they are drawn from.
    n
        How many.
    ratio
        S/N of the continuum.
    rv
        Largest velocity [km/s].
    """

    def __init__(self, model: Emulator, n: int, ratio: float = RATIO, rv: float = 0.0, seed: int = 5) -> None:
        random = np.random.default_rng(seed)
        self.x = random.uniform(-SPAN, SPAN, (n, len(model.labels)))
        self.labels = model.labels.unscale(self.x + 0.5)
        self.rv = random.uniform(-rv, rv, n) if rv else np.zeros(n)
        wavelength = torch.tensor(model.own_grid.vacuum)
        self.truth = np.empty((n, len(wavelength)), dtype=np.float32)
        self.weight = np.empty_like(self.truth)
        with torch.no_grad():
            for start in range(0, n, 256):
                rows = slice(start, start + 256)
                flux = model.network(torch.from_numpy(self.x[rows]).float())
                moved, inside = shift(flux.double(), wavelength, torch.from_numpy(self.rv[rows]))
                self.truth[rows] = moved.numpy()
                self.weight[rows] = inside.numpy() * ratio**2
        self.flux = self.truth + random.standard_normal(self.truth.shape, dtype=np.float32) / ratio
        self.model, self.random = model, random

    def spectra(self, flux: NDArray[Any] | None = None, weight: NDArray[Any] | None = None) -> Spectra:
        """Return them as spectra."""
        return Spectra(
            self.model.own_grid,
            self.flux if flux is None else flux,
            self.weight if weight is None else weight,
            quantity="normalised flux",
        )

    def bound(self, rows: int = 256) -> Array:
        """Return the Cramer-Rao bounds (rows, labels and rv) at the truth."""
        bounds = []
        span = np.r_[self.model.labels.high - self.model.labels.low, 1.0]
        wavelength = self.model.own_grid.vacuum
        for row in range(min(rows, len(self.x))):
            with torch.no_grad():
                flux, columns = self.model.network.jacobian(torch.from_numpy(self.x[row : row + 1]).float())
            slope = -np.gradient(flux[0].numpy(), np.log(wavelength)) / SPEED_OF_LIGHT
            design = np.column_stack([columns[0].numpy(), slope]).astype(np.float64)
            weight = np.median(self.weight[row][self.weight[row] > 0])
            bounds.append(span * np.sqrt(np.diag(np.linalg.inv(design.T @ design * weight))))
        return np.array(bounds)


def the_payne(model: Emulator, mocks: Mocks, n: int) -> tuple[float, Array]:
    """Return CPU seconds a spectrum, and pulls, of The Payne's procedure."""
    network = cast(Perceptron, model.network)
    layers = [cast(torch.nn.Linear, layer) for layer in network.layers]
    weights = [layer.weight.detach().double().numpy() for layer in layers]
    biases = [layer.bias.detach().double().numpy() for layer in layers]
    weight, bias = (part.detach().double().numpy() for part in network.readout())
    wavelength = model.own_grid.vacuum

    def spectrum(_: Any, *given: float) -> Array:
        h = np.array(given[:-1])
        for w, b in zip(weights, biases, strict=True):
            z = np.einsum("ij,j->i", w, h) + b
            h = z * (z > 0) + 0.01 * z * (z < 0)
        flux = np.einsum("ij,j->i", weight, h) + bias
        factor = np.sqrt((1 - given[-1] / SPEED_OF_LIGHT) / (1 + given[-1] / SPEED_OF_LIGHT))
        return np.asarray(np.interp(wavelength * factor, wavelength, flux))

    d = mocks.x.shape[1]
    ends = np.r_[np.full(d, 0.5), 5.0]
    pulls = []
    start = time.process_time()
    for row in range(n):
        best, covariance = curve_fit(
            spectrum, None, mocks.flux[row], p0=np.zeros(d + 1), sigma=mocks.weight[row] ** -0.5,
            absolute_sigma=True, bounds=(-ends, ends), method="trf", ftol=5e-4, xtol=5e-4,
        )  # fmt: skip
        pulls.append((best[:d] - mocks.x[row]) / np.sqrt(np.diag(covariance))[:d])
    return (time.process_time() - start) / n, np.array(pulls)


def scipy_lm(model: Emulator, mocks: Mocks, n: int) -> tuple[float, Array]:
    """Return the same of scipy's LM, with all finite differences from one product of matrices."""
    d = mocks.x.shape[1]
    network, apart = model.network, 1e-3
    wavelength = model.own_grid.vacuum

    def seen(points: Array) -> Array:
        with torch.no_grad():
            flux = network(torch.from_numpy(points[:, :d]).float()).double().numpy()
        factor = np.sqrt((1 - points[:, d] / SPEED_OF_LIGHT) / (1 + points[:, d] / SPEED_OF_LIGHT))
        return np.stack(
            [np.interp(wavelength * f, wavelength, one) for f, one in zip(factor, flux, strict=True)]
        )

    pulls = []
    start = time.process_time()
    for row in range(n):
        root = np.sqrt(mocks.weight[row])

        def residual(p: Array, row: int = row, root: Array = root) -> Array:
            return np.asarray(root * (seen(p[None])[0] - mocks.flux[row]))

        def jacobian(p: Array, root: Array = root) -> Array:
            steps = np.diag(np.r_[np.full(d, apart), 0.1])
            made = seen(np.concatenate([p[None], p + steps]))
            return np.asarray(root[:, None] * ((made[1:] - made[0]) / np.diag(steps)[:, None]).T)

        best = least_squares(residual, np.zeros(d + 1), jacobian, method="lm", ftol=5e-4, xtol=5e-4)
        covariance = np.linalg.inv(best.jac.T @ best.jac)
        pulls.append((best.x[:d] - mocks.x[row]) / np.sqrt(np.diag(covariance))[:d])
    return (time.process_time() - start) / n, np.array(pulls)


def timed(work: Callable[[], Estimates], n: int) -> tuple[float, Estimates]:
    """Return CPU seconds a spectrum, and the result."""
    start = time.process_time()
    found = work()
    return (time.process_time() - start) / n, found


def judged(found: Estimates, mocks: Mocks, bound: Array) -> dict[str, Any]:
    """Return pulls, scatter over the bound and failures of a fit."""
    d = mocks.x.shape[1]
    error = found.median[:, :d] - mocks.labels
    pull = error / found.sigma[:, :d]
    limit = np.sqrt(np.mean(bound[:, :d] ** 2, axis=0))
    ratio = error.std(axis=0) / limit
    reduced = found.columns["reduced_chi2"]
    failed = reduced > 1.2
    if "rv" in found.labels.names:
        failed |= np.abs(found["rv"] - mocks.rv) > 5 * found.sigma[:, found.labels.names.index("rv")]
    each = pull.std(axis=0)
    return {
        "pull": f"{pull.std():.3f} ({each.min():.3f}-{each.max():.3f})",
        "largest |bias|/sigma": float(np.abs(pull.mean(axis=0)).max()),
        "scatter/bound": f"{ratio.min():.3f}-{ratio.max():.3f}",
        "failures": int(failed.sum()),
    }


def conditions(model: Emulator, n: int) -> list[dict[str, Any]]:
    """Return rows for other S/N, masks, continuum, rotation and cosmic rays."""
    rows = []
    wavelength = torch.tensor(model.own_grid.vacuum)
    place = np.linspace(-1, 1, len(wavelength))
    for ratio in (20.0, 50.0, 100.0, 250.0):
        mocks = Mocks(model, n, ratio, rv=100.0)
        rows.append(
            {
                "mocks": f"S/N {ratio:g}",
                **judged(model.predict(mocks.spectra(), emulator_error=False), mocks, mocks.bound()),
            }
        )
    mocks = Mocks(model, n, rv=100.0)
    bound = mocks.bound()
    gaps = mocks.weight * (mocks.random.random(mocks.weight.shape) > 0.1)
    junk = np.where(gaps > 0, mocks.flux, 9.0)
    rows.append(
        {
            "mocks": "10 % of pixels masked",
            **judged(model.predict(mocks.spectra(junk, gaps), emulator_error=False), mocks, bound),
        }
    )
    level = 30 * (1 + 0.1 * place - 0.08 * place**2 + 0.05 * place**3)
    found = model.predict(
        mocks.spectra(mocks.flux * level, mocks.weight / level**2), emulator_error=False, continuum=4
    )
    rows.append({"mocks": "unknown continuum, degree 4 free", **judged(found, mocks, bound)})
    hit = mocks.random.random(mocks.flux.shape) < 0.003
    for robust in ("none", "clip"):
        found = model.predict(mocks.spectra(mocks.flux + hit * 0.5), emulator_error=False, robust=robust)
        rows.append({"mocks": f"0.3 % cosmic rays, robust={robust}", **judged(found, mocks, bound)})
    vsini = mocks.random.uniform(0, 60, n)
    parts = []
    for part in np.array_split(np.arange(n), max(1, n // 128)):
        with torch.no_grad():
            bare = model.network(torch.from_numpy(mocks.x[part]).float()).double()
            parts.append(broaden(bare, velocity_step(wavelength), vsini=torch.from_numpy(vsini[part])))
    flux = torch.cat(parts).float().numpy() + (mocks.flux - mocks.truth)
    still = Mocks(model, n)
    spectra = mocks.spectra(flux, np.full_like(flux, RATIO**2))
    seconds, found = timed(lambda: model.predict(spectra, emulator_error=False, vsini="free"), n)
    mocks.rv = still.rv
    row = judged(found, mocks, bound)
    off = (found["vsini"] - vsini)[vsini > 10]
    name = f"vsini 0-60 free, {1 / seconds:.0f} a CPU second (scatter {off.std():.2f} km/s above 10)"
    rows.append({"mocks": name, **row, "scatter/bound": "-"})
    rows.append(windows_of_4most(5))
    return rows


def windows_of_4most(n: int) -> dict[str, Any]:
    """Return the row of one_payne's case: 33,780 pixels in three windows, 21 labels, vsini and rv free."""
    grid, names = structured.windows(), structured.NAMES[:21]
    x, flux = structured.make(1024, grid, labels=21)
    table = dict(zip(names, x.T.astype(float), strict=True))
    train = TrainConfig(epochs=20, threads=1, progress="none", learning_rate=2e-3)
    model = Emulator(labels=names, hidden=(256, 256, 256), activation="silu")
    model.fit(Spectra(grid, flux, table=table, quantity="normalised flux"), train=train)
    random = np.random.default_rng(3)
    true, vsini, rv = random.uniform(-SPAN, SPAN, (n, 21)), random.uniform(2, 30, n), random.uniform(-5, 5, n)
    with torch.no_grad():
        bare = model.network(torch.from_numpy(true).float()).double()
    flux, ivar = np.ones(bare.shape, dtype=np.float32), np.zeros(bare.shape, dtype=np.float32)
    for piece in grid.segments():
        # Broadened and moved on pixels of their own, four times as fine.
        own = torch.tensor(grid.vacuum[piece])
        fine = torch.exp(torch.arange(float(own[0].log()), float(own[-1].log()), 3e-6, dtype=torch.float64))
        inner = broaden(
            cubic(bare[:, piece], own, fine)[0], velocity_step(fine), vsini=torch.from_numpy(vsini)
        )
        seen, inside = shift(inner, fine, torch.from_numpy(rv), own)
        flux[:, piece], ivar[:, piece] = seen.float().numpy(), inside.numpy() * 250.0**2
        ivar[:, piece][:, [*range(15), *range(-15, 0)]] = 0.0  # where the star's spectrum beyond is not known
    flux += random.standard_normal(flux.shape, dtype=np.float32) / 250
    spectra = Spectra(grid, flux, ivar, quantity="normalised flux")
    first, _ = timed(lambda: model.predict(spectra[:1], emulator_error=False, vsini="free"), 1)
    seconds, found = timed(lambda: model.predict(spectra, emulator_error=False, vsini="free"), n)
    pull = (found.median[:, :21] - model.labels.unscale(true + 0.5)) / found.sigma[:, :21]
    name = f"4MOST windows, vsini free: {seconds:.2f} CPU s a star (first {first:.1f})"
    return {"mocks": name, "pull": f"{pull.std():.3f}", "largest |bias|/sigma": "-", "scatter/bound": "-"}


def one_by_one(model: Emulator, mocks: Mocks, n: int = 20) -> float:
    """Return CPU seconds of a fit of one spectrum a call, after the first call."""
    each = [mocks.spectra()[row : row + 1] for row in range(n)]
    model.predict(each[0], emulator_error=False)
    calls = [timed(partial(model.predict, one, emulator_error=False), 1) for one in each[1:]]
    return float(np.median([seconds for seconds, _ in calls]))


def rates(model: Emulator) -> dict[str, str]:
    """Return the rate of batch evaluation beside that of its largest product alone, in GFLOP/s."""
    network = cast(Perceptron, model.network)
    x = torch.rand(256, len(model.labels)) - 0.5
    with torch.inference_mode():
        hidden, weight = network.hidden(x), network.readout()[0].contiguous()
        sizes = [len(model.labels), *(cast(torch.nn.Linear, layer).out_features for layer in network.layers)]
        work = sum(a * b for a, b in pairwise([*sizes, len(weight)]))
        whole, product = quickest(lambda: network(x)), quickest(lambda: hidden @ weight.T)
    return {
        "batch evaluation": f"{2e-9 * 256 * work / whole:.0f} GFLOP/s",
        "its largest product alone": f"{2e-9 * 256 * weight.numel() / product:.0f} GFLOP/s",
    }


def quickest(work: Callable[[], Any], times: int = 20) -> float:
    """Return the least seconds that something takes."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    many, few = (2000, 40) if options.full else (500, 10)
    model = emulator(5120 if options.full else 2048)
    mocks = Mocks(model, many)
    bound = mocks.bound()
    spectra = mocks.spectra()
    model.predict(spectra[:64], emulator_error=False)  # trials of the processor are made once

    payne, pulls = the_payne(model, mocks, few)
    lm, lm_pulls = scipy_lm(model, mocks, few)
    # Weights that differ by so little change no error, and all of the work.
    uneven = mocks.weight * mocks.random.uniform(0.98, 1.02, mocks.weight.shape).astype(np.float32)
    free, found = timed(lambda: model.predict(mocks.spectra(weight=uneven), emulator_error=False), many)
    even, plain = timed(lambda: model.predict(spectra, emulator_error=False), many)
    short, compressed = timed(lambda: model.predict(spectra, emulator_error=False, rv=0.0), many)
    single = one_by_one(model, mocks)
    far = Mocks(model, many, rv=500.0)
    distant, wide = timed(lambda: model.predict(far.spectra(), emulator_error=False), many)
    fits: tuple[tuple[str, float, dict[str, Any]], ...] = (
        ("The Payne's procedure", payne, {"pull": f"{pulls.std():.3f}"}),
        ("scipy LM, one product a Jacobian", lm, {"pull": f"{lm_pulls.std():.3f}"}),
        ("draper, rv free", even, judged(plain, mocks, bound)),
        ("the same, no two spectra with equal weights", free, judged(found, mocks, bound)),
        ("the same, rv within 500 km/s", distant, judged(wide, far, bound)),
        ("draper, rv free, one spectrum a call", single, {}),
        ("draper, compressed (rv known)", short, judged(compressed, mocks, bound)),
    )
    rows = [
        {"fit": name, "ms/spectrum": 1e3 * seconds, "times faster": payne / seconds, **figures}
        for name, seconds, figures in fits
    ]
    columns = list(rows[-1])
    rows = [{name: row.get(name, "") for name in columns} for row in rows]
    facts = {
        "mocks": many,
        "of the peers": few,
        "threads": 1,
        "S/N": RATIO,
        "pixels": structured.PIXELS,
        **rates(model),
    }
    report("Label fits, 25 labels", rows, facts, options.json)
    with_conditions = conditions(model, many)
    name = options.json.with_name(f"{options.json.stem}-conditions.json") if options.json else None
    report("The same under other conditions, rv free", with_conditions, facts, name)


if __name__ == "__main__":
    main()
