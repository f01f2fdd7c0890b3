"""How a network should read spectra of any instrument: three ways, the same flow, the same CPU time.

``summary`` is what the Retriever does: components of the fine spectrum from sufficient statistics. ``grid``
is the fine grid with a mask: weighted mean and error of the data in every pixel of R = 100, zeros where
there are none. ``attention`` has one token a bin (depth, error, wavelength, width), two layers of
self-attention and a mean over tokens. Compared are the held-out negative log densities of the true labels,
in the same coordinates and on the same random instruments; the trainings see fresh noise, and simulations
from one pool. With ``--matching`` the flow of splines is compared with flow matching, by the efficiency of
their samples.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from draper.configs.retriever import RetrieveConfig
from draper.instrument.pipeline import Pipeline
from draper.models.retriever.designs import Design, random_designs, sums_between
from draper.models.retriever.model import Retriever
from draper.models.retriever.network import CONTEXT, RetrieverNetwork
from draper.models.retriever.posterior import Target
from draper.models.retriever.prior import Prior
from draper.nn.module import Batch
from draper.nn.perceptron import Residual
from draper.simulate.planets import Planets

ERRORS = (3e-6, 1.5e-3)
TOKEN = 4


class GridReader(nn.Module):
    """Weighted means and errors on the fine grid to a context, as wide as the network of the summary."""

    def __init__(self, pixels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 * pixels, 2 * width),
            *(Residual(2 * width) for _ in range(3)),
            nn.Linear(2 * width, CONTEXT),
        )

    def forward(self, data: Tensor, sigma: Tensor, edges: Tensor, pixels: int) -> Tensor:
        """Return contexts (b, CONTEXT) of binned data (b, m)."""
        weight = torch.where(torch.isfinite(sigma), sigma**-2.0, 0.0)
        places = torch.arange(pixels) + 0.5
        inside = (places >= edges[..., :1]) & (places < edges[..., 1:])  # (b, m, p)
        total = (weight[..., None] * inside).sum(1)
        mean = (data[..., None] * weight[..., None] * inside).sum(1) / total.clamp(min=1e-30)
        seen = total > 0
        level = torch.where(seen, mean, 0.0).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
        relative = torch.where(seen, mean - level, 0.0) / 1e-4
        size = torch.where(seen, -total.clamp(min=1e-30).log() / 2 + 9, 0.0)
        rows = torch.cat([torch.asinh(relative) / 3, size / 2, seen + (level.log() + 4.4) * seen], dim=1)
        context: Tensor = self.layers(rows)
        return context


class TokenReader(nn.Module):
    """Self-attention over bins to a context."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(TOKEN + 16, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.leave = nn.Sequential(
            nn.Linear(width + 1, 2 * width), Residual(2 * width), nn.Linear(2 * width, CONTEXT)
        )

    def forward(self, data: Tensor, sigma: Tensor, edges: Tensor, pixels: int) -> Tensor:
        """Return contexts (b, CONTEXT) of binned data (b, m)."""
        seen = torch.isfinite(sigma)
        level = torch.where(seen, data, 0.0).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
        place = edges.mean(2) / pixels
        waves = (place[..., None] * 2.0 ** torch.arange(8) * math.pi).to(data)
        width = edges[..., 1] - edges[..., 0]
        numbers = [
            torch.asinh((data - level) / 1e-4) / 3,
            torch.where(seen, sigma, 1.0).log() / 2 + 4.5,
            place,
            width.clamp(min=1e-3).log(),
        ]
        token = torch.cat([torch.stack(numbers, dim=2).to(data), waves.sin(), waves.cos()], dim=2)
        hidden = self.layers(self.enter(token), src_key_padding_mask=~seen)
        mean = (hidden * seen[..., None]).sum(1) / seen.sum(1, keepdim=True).clamp(min=1)
        context: Tensor = self.leave(torch.cat([mean, (level.log() + 4.4)], dim=1))
        return context


class Pool:
    """Simulations, and the random instruments that see them."""

    def __init__(self, network: RetrieverNetwork, planets: Planets, number: int, seed: int) -> None:
        made = planets.simulate(number, seed=seed)
        self.flux = torch.from_numpy(np.asarray(made.flux, dtype=np.float32))
        self.labels = torch.from_numpy(np.stack([made.table[name] for name in planets.prior.names], axis=1))
        self.network, self.planets = network, planets

    def sweep(self) -> Iterator[Batch]:
        """Pass over some of the simulations."""
        some = self.flux[:4000]
        yield {"values": some, "variance": torch.zeros_like(some)}

    def batch(self, rows: Tensor, generator: torch.Generator) -> tuple[Any, Tensor, Design, Tensor]:
        """Return statistics, coordinates' labels, instruments and binned data of some rows."""
        network, flux = self.network, self.flux[rows]
        pixels, bins = flux.shape[1], max(150, network.presets.shape[1])
        design = random_designs(
            torch.rand(len(rows), 19, generator=generator),
            torch.rand(len(rows), bins, generator=generator),
            network.presets,
            pixels,
            ERRORS,
        )
        noise = torch.randn(len(rows), bins, generator=generator)
        statistics = network.summary.observe(flux, design, noise, torch.zeros_like(flux))
        width = network.summary.width
        span = sums_between(nn.functional.pad(width.cumsum(0), (1, 0))[None, :, None], design.edges)[..., 0]
        fine = nn.functional.pad((flux.double() * width).cumsum(1), (1, 0))[..., None]
        data = sums_between(fine, design.edges)[..., 0] / span.clamp(min=1e-30)
        data = (data + design.sigma.nan_to_num(posinf=0.0).double() * noise).float()
        return statistics, rows, design, data


def trained(kind: str, seconds: float, pool: Pool, size: int) -> tuple[nn.Module, int, float]:
    """Return a reader with its density, the steps it took, and its held-out loss."""
    torch.manual_seed(0)
    network, planets, width, rate = pool.network, pool.planets, 192, 1e-3
    made = Retriever(**SETTINGS, simulator=planets.settings).build(planets.grid, planets.prior)
    assert isinstance(made, RetrieverNetwork)
    others = {"grid": GridReader(pool.flux.shape[1], width), "attention": TokenReader(128)}
    reader: nn.Module = others.get(kind, made)
    both = nn.ModuleList([reader, made.density])
    optimizer = torch.optim.Adam(both.parameters(), rate)
    generator = torch.Generator().manual_seed(0)

    def loss(rows: Tensor, randoms: torch.Generator) -> Tensor:
        with torch.no_grad():
            statistics, _, design, data = pool.batch(rows, randoms)
            features, reference = network.summary(statistics)
            values = network.coordinates.of(pool.labels[rows], pool.flux[rows], reference).float()
            known = torch.stack([reference.centre * 2 + 8.8, reference.sigma.log() / 4], dim=1).float()
        context: Tensor
        if kind == "summary":
            context = made.encode(features)
        else:
            # All are given the same reference, since the coordinates depend on it.
            context = reader(data, design.sigma, design.edges, pool.flux.shape[1])
            context = torch.cat([context[:, :-2], known], dim=1)
        return made.density.loss(values, context, torch.zeros(0))

    start, step, held = time.process_time(), 0, 2048
    while (spent := time.process_time() - start) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = (
                rate * min(1, (step + 1) / 50) * (0.01 + 0.99 * (1 + math.cos(math.pi * spent / seconds)) / 2)
            )
        rows = torch.randint(held, len(pool.flux), (size,), generator=generator)
        optimizer.zero_grad()
        torch.autograd.backward([loss(rows, generator).mean()])
        nn.utils.clip_grad_norm_(both.parameters(), 5.0)
        optimizer.step()
        step += 1
    with torch.no_grad():
        fixed = torch.Generator().manual_seed(99)
        value = torch.cat([loss(rows, fixed) for rows in torch.split(torch.arange(held), 256)]).mean()
    return both, step, float(value)


SETTINGS: dict[str, Any] = {"components": 48, "calibration": 0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="CPU seconds of each training")
    parser.add_argument("--pool", type=int, default=100_000, help="simulations")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--matching", action="store_true", help="compare the flow with flow matching instead")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    planets = Planets(clouds=True, haze=True)
    rows = (matching if options.matching else readers)(planets, options)
    for row in rows:
        print(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def readers(planets: Planets, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each way of reading."""
    model = Retriever(**SETTINGS, simulator=planets.settings)
    network = model.build(planets.grid, planets.prior)
    assert isinstance(network, RetrieverNetwork)
    pool = Pool(network, planets, options.pool, 1)
    network.summary.prepare(pool.sweep)
    rows = []
    for kind in ("summary", "grid", "attention"):
        _, steps, loss = trained(kind, options.seconds, pool, options.batch)
        rows.append(
            {"reader": kind, "CPU s": options.seconds, "steps": steps, "held-out loss": round(loss, 3)}
        )
        print(rows[-1], flush=True)
    return rows


def matching(planets: Planets, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the efficiency of the samples of both densities."""
    rows = []
    for density in ("spline", "matching"):
        model = Retriever(**SETTINGS, simulator=planets.settings, density=density)
        model.set_up(planets.grid, planets.prior, Pipeline())
        network = model.network
        pool = Pool(network, planets, options.pool, 1)
        network.summary.prepare(pool.sweep)
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        generator, start, steps = torch.Generator().manual_seed(0), time.process_time(), 0
        while (spent := time.process_time() - start) < options.seconds:
            for group in optimizer.param_groups:
                group["lr"] = (
                    1e-3 * min(1, (steps + 1) / 50) * (1 + math.cos(math.pi * spent / options.seconds)) / 2
                )
            chosen = torch.randint(2048, len(pool.flux), (options.batch,), generator=generator)
            with torch.no_grad():
                statistics, _, _, _ = pool.batch(chosen, generator)
                features, reference = network.summary(statistics)
                values = network.coordinates.of(pool.labels[chosen], pool.flux[chosen], reference).float()
                noise = torch.randn(len(chosen), len(planets.prior) + 1, generator=generator)
            optimizer.zero_grad()
            torch.autograd.backward([network.density.loss(values, network.encode(features), noise).mean()])
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            steps += 1
        efficiencies, spent = [], time.process_time()
        for name in ("hst-wfc3-g141", "jwst-nirspec-prism"):
            test = Planets(name, error=100.0, clouds=True, haze=True).simulate(10, seed=3)
            for row, one in enumerate(model.observations(test, RetrieveConfig())):
                assert one is not None
                target = Target(
                    network, planets, one, Prior.of(RetrieveConfig(), model.labels), RetrieveConfig(), 0.0
                )
                efficiencies.append(target.start(1000, np.random.default_rng(row)).efficiency)
        rows.append(
            {
                "density": density,
                "CPU s": options.seconds,
                "steps": steps,
                "median efficiency": round(float(np.median(efficiencies)), 4),
                "CPU s for 1,000 weighted samples": round((time.process_time() - spent) / 20, 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
