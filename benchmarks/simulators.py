"""How fast the simulators are, and how near to what they interpolate.

Spectra per CPU second, on one thread, drawing of labels included: RVS stars with line-spread function,
velocity, noise and bad pixels on 2,401 pixels, without rotation; planets on all 362 bins, and for an
instrument with noise; Gaia XP coefficients with correlated noise, photometry and parallax. Each figure is the
median of several runs.

TauREx 3, where it is installed, computes the same planets from the same opacities, held in memory as tables
of pressure and temperature on the same bins, and on finer ones; it is timed by draper's adapter, which adds
the means over the bins. It has 100 layers and scattering, and none of the absorption by pairs of molecules
that draper computes. For the comparison of depths draper leaves out these pairs and the saturation of lines
within a bin, which a table does not have either.

The last rows are the errors on held-out spectra that the packed emulators carry, beside what was asked.
Set OPENBLAS_NUM_THREADS=1, so that threads of numpy that wait for work do not count as CPU time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from draper.simulate.adapters.planet_tables import planet_tables
from draper.simulate.adapters.taurex import TaurexPlanets, bin_means
from draper.simulate.base import BLOCK, Simulator
from draper.simulate.planet_units import BOTTOM, GASES, TOP
from draper.simulate.planets import LABELS, Planets, native_edges, opacities, packed
from draper.simulate.seds import Seds
from draper.simulate.stars import Stars
from draper.simulate.survey import Survey
from draper.simulate.transit import Opacities, transit_depth
from draper.simulate.xp import LowResolution
from report import arguments, report

RUNS = 7
FINE = 5000
"""Resolving power of the finer table."""


def per_second(work: Callable[[], object], amount: int, runs: int = RUNS) -> str:
    """Return how much is done per CPU second: the median of several runs, and their range."""
    work()
    rates = []
    for _ in range(runs):
        start = time.process_time()
        work()
        rates.append(amount / (time.process_time() - start))
    digits = 0 if min(rates) > 100 else 1
    low, middle, high = (f"{rate:,.{digits}f}" for rate in (min(rates), statistics.median(rates), max(rates)))
    return f"{middle} ({low}-{high})"


def simulating(simulator: Simulator, blocks: int) -> str:
    def work() -> None:
        for _ in simulator.stream(blocks * BLOCK):
            pass

    return per_second(work, blocks * BLOCK)


def padded(found: Opacities) -> Opacities:
    """Return opacities with one more bin at each end, so that curves through the centres cover all bins."""
    longer = Opacities(*(torch.cat([part[..., :1], part, part[..., -1:]], dim=-1) for part in found))
    ratio = found.wavelength[1] / found.wavelength[0]
    ends = torch.stack([found.wavelength[0] / ratio, found.wavelength[-1] * ratio])
    return longer._replace(wavelength=torch.cat([ends[:1], found.wavelength, ends[1:]]))


def finer(found: Opacities, power: float) -> Opacities:
    """Return opacities at a higher resolving power; linear in between, which costs TauREx the same."""
    low, high = float(found.wavelength[0]), float(found.wavelength[-1])
    wavelength = np.geomspace(low, high, int(power * np.log(high / low)))

    def between(part: torch.Tensor) -> torch.Tensor:
        rows = part.reshape(-1, part.shape[-1]).numpy()
        made = np.stack([np.interp(wavelength, found.wavelength.numpy(), row) for row in rows])
        return torch.from_numpy(made).reshape(*part.shape[:-1], -1)

    return Opacities(torch.from_numpy(wavelength), *(between(part) for part in found[1:]))


def drawn(count: int) -> list[dict[str, float]]:
    """Draw planets with little of each gas, so that what scatters on them does not matter."""
    random = np.random.default_rng(0)
    values = LABELS.unscale(random.uniform(size=(count, len(LABELS))))
    values[:, 3:] = random.uniform(-6, -3, size=(count, len(GASES)))
    return [dict(zip(LABELS.names, row.tolist(), strict=True)) for row in values]


def taurex(full: bool) -> list[dict[str, Any]]:
    """Return the rows of TauREx, or one that says how to get it."""
    if find_spec("taurex") is None:
        return [row("TauREx 3 spectra per CPU second", "not installed", "", "pip install draper[taurex]")]
    coarse = padded(opacities(torch.float64))
    cases = [("the same 362 bins", coarse, 13, 45, 30 if full else 10, RUNS if full else 3)]
    cases.append((f"R = {FINE:,}", finer(coarse, FINE), 5, 12, 3 if full else 1, 3 if full else 1))
    rows = []
    for name, found, temperatures, pressures, count, runs in cases:
        temperature, pressure = np.linspace(900, 2100, temperatures), np.geomspace(TOP, BOTTOM, pressures)
        adapter = TaurexPlanets(planet_tables(found, temperature, pressure))
        planets = drawn(count)

        def work(adapter: TaurexPlanets = adapter, planets: list[dict[str, float]] = planets) -> None:
            for planet in planets:
                adapter.spectrum(planet)

        rate = per_second(work, count, runs)
        note = f"; {apart(adapter, found, planets):.1f} ppm from draper" if found is coarse else ""
        rows.append(row("TauREx 3 spectra per CPU second", rate, "", name + note))
    return rows


def apart(adapter: TaurexPlanets, found: Opacities, planets: list[dict[str, float]]) -> float:
    """Return the rms difference [ppm] between TauREx and draper, from the same opacities."""
    alike = found._replace(saturation=found.saturation * 0 - 50, collisions=found.collisions * 0 - 200)
    labels = torch.tensor([list(planet.values()) for planet in planets], dtype=torch.float64)
    depths: NDArray[np.float64] = transit_depth(labels, alike, exact_weight=True).numpy()
    wavelength = found.wavelength.numpy()
    ours = np.stack([bin_means(wavelength, depth, native_edges()) for depth in depths])
    theirs = np.stack([adapter.spectrum(planet) for planet in planets])
    return float(1e6 * np.sqrt(np.mean((ours - theirs) ** 2)))


def row(what: str, figure: str, asked: str, note: str = "") -> dict[str, Any]:
    return {"what": what, "figure": figure, "asked": asked, "note": note}


def held_out() -> list[dict[str, Any]]:
    """Return the errors that the packed emulators carry."""
    stars, seds = Stars().meta["held_out_error"]["rvs"], Seds().meta["held_out_error"]
    planets = float(np.sqrt(np.mean(packed()["error"].astype(np.float64) ** 2)))
    return [
        row("Stars, rms at R = 11,500, median", f"{stars['median']:.3%}", "at most 0.050%", "held out"),
        row("Stars, rms at R = 11,500, 99th percentile", f"{stars['p99']:.2%}", "at most 0.25%", "held out"),
        row("Seds, relative rms, median", f"{seds['median']:.2%}", "at most 1%", "held out"),
        row("Planets, rms", f"{planets:.2f} ppm", "at most 25 ppm", "held out of the fit"),
    ]


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    blocks = 40 if options.full else 8
    prism = "jwst-nirspec-prism"
    rows = [
        row("RVS spectra per CPU second", simulating(Survey("gaia-rvs"), blocks), "5,000", "2,401 px, noise"),
        row("planet spectra per CPU second", simulating(Planets(), blocks), "2,000", "362 bins, no noise"),
        row(f"the same, {prism}", simulating(Planets(prism), blocks), "2,000", "150 bins, noise"),
        row(
            "XP spectra per CPU second",
            simulating(LowResolution(), blocks // 4),
            "",
            "110 coefficients, noise",
        ),
        *taurex(options.full),
        *held_out(),
    ]
    facts = {"threads": 1, "rows": blocks * BLOCK, "figure": "median (range) of runs"}
    for name in ("taurex", "numba"):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    report("Simulated spectra", rows, facts, options.json)


if __name__ == "__main__":
    main()
