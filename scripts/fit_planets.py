"""Fit the opacities of the planet model to spectra computed with TauREx, and print the held-out errors.

python scripts/fit_planets.py FOLDER [OUT]

FOLDER holds train_1544.npz: transit_depth (n, p), wavelength_um (p,) and labels (n, 7): mass [MJ],
temperature [K], radius [RJ], log10 abundances of H2O, CO2, CH4, CO. A fifth of the spectra is held out. Every
bin is a separate fit, by Levenberg-Marquardt steps of all bins at once; a few minutes on one core.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from draper.simulate import transit
from draper.simulate.planets import LABELS
from draper.simulate.transit import ROWS, Chords

SEED, HELD_OUT = 0, 0.2
SCALE = 10.0
"""Unit of residuals [ppm]."""

RIDGE = 1e-4
"""Weight of the prior per spectrum; it matters only for what the spectra do not constrain."""

PARTS = {
    "collisions": (1, 3, math.log(1e-2), 5.0),
    "strength": (4, 3, math.log(1e2), 5.0),
    "saturation": (4, 2, 2.0, 5.0),
    "onset": (4, 1, 0.0, 5.0),
    "decay": (4, 1, 0.0, 1.0),
    "rise": (4, 1, 0.0, 1.0),
}
"""Parts of the model: number of gases, coefficients in temperature, start value, width of the prior."""

STAGES = ((("decay", "rise"), 25), ((), 40))
"""Parts that stay at their start values, and number of steps; fitting all from the start gets stuck."""

WORSE = 1.1
"""A bin whose rms exceeds that of a neighbour by this factor is fitted again."""

COUNTS = [count for gases, count, *_ in PARTS.values() for _ in range(gases)]
OWNER = [owner for owner, count in enumerate(COUNTS) for _ in range(count)]
POWER = [power for count in COUNTS for power in range(count)]
NAME = [name for name, (gases, count, *_) in PARTS.items() for _ in range(gases * count)]


class Fit:
    """Normal equations of every bin for a set of spectra."""

    def __init__(self, labels: Tensor, depth: Tensor, wavelength: Tensor) -> None:
        self.depth = depth
        self.log_pressure = transit.log_pressures()
        self.rays = Chords(*(part.float() for part in transit.chords(labels, self.log_pressure)))
        self.scattering = transit.rayleigh(wavelength.float(), self.rays.hydrogen, self.rays.helium)
        theta = transit.TEMPERATURE / labels[:, 1, None] - 1
        self.basis = theta ** torch.tensor(POWER)

    def model(self, rows: slice, local: Tensor) -> Tensor:
        """Return depths (b, p) of values (b, parts, p) of each spectrum and bin."""
        collisions, strength, saturation, onset, decay, rise = torch.split(
            local, [gases for gases, *_ in PARTS.values()], dim=1
        )
        return transit.disc_depth(
            Chords(*(part[rows] for part in self.rays)),
            self.scattering[rows],
            collisions[:, 0].exp(),
            strength.exp(),
            saturation.exp(),
            transit.pressure_terms(self.log_pressure.float(), onset, decay, rise),
        )

    def equations(self, values: Tensor, matrix: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Return residuals (n, p) [ppm], normal matrices (p, k, k), right sides (p, k) at values (p, k)."""
        bins, count = values.shape
        normal, right = torch.zeros(bins, count, count).double(), torch.zeros(bins, count).double()
        owner, residuals = torch.tensor(OWNER), []
        for start in range(0, len(self.depth), ROWS):
            rows = slice(start, start + ROWS)
            basis = self.basis[rows]
            local = torch.zeros(len(basis), max(OWNER) + 1, bins).double()
            local.index_add_(1, owner, basis[:, :, None] * values.T)
            local = local.float().requires_grad_(matrix)
            depth = self.model(rows, local)
            residuals.append((self.depth[rows] - depth.detach().double()) * 1e6)
            if matrix:
                # Depth depends only on values of its own spectrum and bin, so one gradient is the Jacobian.
                (slope,) = torch.autograd.grad(depth.sum(), local)
                jacobian = (slope[:, owner] * basis[:, :, None].float() * 1e6).permute(2, 0, 1)
                normal += (jacobian.transpose(1, 2) @ jacobian).double()
                right += (jacobian.transpose(1, 2) @ residuals[-1].T.float()[..., None])[..., 0].double()
        return torch.cat(residuals), normal / SCALE**2, right / SCALE**2


def levenberg_marquardt(fit: Fit, values: Tensor, start: Tensor, prior: Tensor, steps: int) -> Tensor:
    """Return improved values (p, k); ``prior`` (k,) is the inverse variance about ``start`` (k,)."""

    def cost(residuals: Tensor, values: Tensor) -> Tensor:
        return (residuals / SCALE).square().sum(0) + (prior * (values - start).square()).sum(1)

    damping = torch.full((len(values),), 0.1).double()
    residuals, normal, right = fit.equations(values)
    lowest = cost(residuals, values)
    for step in range(steps):
        matrix = normal + torch.diag(prior)
        damped = matrix + torch.diag_embed(damping[:, None] * matrix.diagonal(dim1=1, dim2=2))
        trial = values + torch.linalg.solve(damped, right - (values - start) * prior).clamp(-2, 2)
        new = fit.equations(trial)
        reached = cost(new[0], trial)
        better = reached < lowest
        values = torch.where(better[:, None], trial, values)
        normal = torch.where(better[:, None, None], new[1], normal)
        right = torch.where(better[:, None], new[2], right)
        residuals = torch.where(better, new[0], residuals)
        lowest = torch.where(better, reached, lowest)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-7, 1e6)
        if step % 5 == 4:
            print(f"  step {step + 1}: {residuals.square().mean().sqrt():.2f} ppm", flush=True)
    return values


def repair(
    labels: Tensor, depth: Tensor, wavelength: Tensor, values: Tensor, start: Tensor, prior: Tensor
) -> Tensor:
    """Fit bins that are worse than a neighbour again, starting at the values (p, k) of that neighbour."""
    for side in (-1, 1, -1, 1):
        residuals, *_ = Fit(labels, depth, wavelength).equations(values, matrix=False)
        rms = residuals.square().mean(0).sqrt()
        worse = torch.nonzero(rms > WORSE * rms.roll(side))[:, 0]
        fit = Fit(labels, depth[:, worse], wavelength[worse])
        trial = levenberg_marquardt(fit, values.roll(side, 0)[worse], start, prior, 15)
        reached = fit.equations(trial, matrix=False)[0].square().mean(0).sqrt()
        better = reached < rms[worse]
        values[worse[better]] = trial[better]
        print(f"  {int(better.sum())} of {len(worse)} bins are better from a neighbour's values", flush=True)
    return values


def split(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to fit and the rows held out."""
    order = np.random.default_rng(SEED).permutation(count)
    held = round(HELD_OUT * count)
    return np.sort(order[held:]), np.sort(order[:held])


def report(residuals: Tensor, labels: Tensor, wavelength: Tensor) -> None:
    """Print the errors of the model over held-out spectra (n, p) [ppm]: overall, per bin, per label."""
    rms = residuals.square().mean().sqrt()
    quantiles = np.quantile(residuals.abs().numpy(), [0.5, 0.95])
    print(f"held out: rms {rms:.2f} ppm, median {quantiles[0]:.2f}, 95 % below {quantiles[1]:.2f}")
    bins = residuals.square().mean(0).sqrt()
    print("bins [um: ppm]", *(f"{w:.3f}: {e:.1f}" for w, e in zip(wavelength, bins, strict=True)), sep="\n  ")
    for name, values in zip(LABELS.names, labels.T, strict=True):
        steps = torch.unique(values)
        errors = [residuals[values == step].square().mean().sqrt() for step in steps]
        print(
            name, *(f"{step:.4g}: {error:.1f}" for step, error in zip(steps, errors, strict=True)), sep="  "
        )


def main() -> None:
    folder = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("src/draper/simulate/packed")
    out.mkdir(parents=True, exist_ok=True)
    arrays = np.load(folder / "train_1544.npz", allow_pickle=False)
    order = np.argsort(arrays["wavelength_um"])
    wavelength = torch.from_numpy(arrays["wavelength_um"][order])
    depth, labels = torch.from_numpy(arrays["transit_depth"][:, order]), torch.from_numpy(arrays["labels"])
    fitted, held = split(len(labels))

    begun = time.perf_counter()
    fit = Fit(labels[fitted], depth[fitted], wavelength)
    first = [power == 0 for power in POWER]
    start = torch.tensor(
        [PARTS[name][2] if at else 0.0 for name, at in zip(NAME, first, strict=True)]
    ).double()
    width = torch.tensor(
        [PARTS[name][3] if at else 2.0 for name, at in zip(NAME, first, strict=True)]
    ).double()
    values = start.repeat(len(wavelength), 1)
    for frozen, steps in STAGES:
        hold = torch.tensor([1e8 if name in frozen else 1.0 for name in NAME]).double()
        values = levenberg_marquardt(fit, values, start, hold * RIDGE * len(fitted) / width**2, steps)
    prior = RIDGE * len(fitted) / width**2
    values = repair(labels[fitted], depth[fitted], wavelength, values, start, prior)
    print(f"fitted {len(fitted)} spectra in {time.perf_counter() - begun:.0f} s")

    residuals, *_ = Fit(labels[held], depth[held], wavelength).equations(
        values.float().double(), matrix=False
    )
    report(residuals, labels[held], wavelength)
    packed: dict[str, np.ndarray] = {"wavelength": wavelength.numpy()}
    for name, (gases, count, *_) in PARTS.items():
        columns = values.T[[k for k, owner in enumerate(NAME) if owner == name]].float()
        shape = {"collisions": (count, -1), "strength": (gases, count, -1), "saturation": (gases, count, -1)}
        packed[name] = columns.reshape(shape.get(name, (gases, -1))).numpy()
    packed["error"] = residuals.square().mean(0).sqrt().float().numpy()
    path = out / "planet-opacities.npz"
    np.savez(path, allow_pickle=False, **packed)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
