"""Fits of labels to spectra, from start to flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import Tensor

from draper.configs.fit import FitConfig
from draper.data.labels import LabelSet
from draper.errors import DraperError, did_you_mean
from draper.infer.compressed import CompressedProblem, Compression, Guess
from draper.infer.exposures import Data, Exposure, rows_of
from draper.infer.fit_result import Fit, Settled, outcome, with_models
from draper.infer.forward import Change, Linear, prepared
from draper.infer.joint import JointProblem
from draper.infer.least_squares import Prior, Problem, Solution, best_of, minimise
from draper.infer.pixels import BOUNDS, TYPICAL, WIDE, WIDTHS, Continuum, Layout, PixelProblem
from draper.infer.start import TEMPLATES, at_rest, nearest, velocities
from draper.infer.weights import reweighted, with_variance
from draper.instrument.broadening import reach, velocity_step
from draper.instrument.continuum import chebyshev_basis, continuum
from draper.instrument.doppler import doppler_factor
from draper.nn.spectral import SpectralNetwork

FloatArray = NDArray[np.float64]

CANDIDATES = 1024
"""Points of the coarse grid that all spectra share."""

ENOUGH = 16
"""Spectra from which on a start in the compressed space pays."""

MARGIN = 10.0
"""km/s by which a fit may leave the velocity that it starts from before it looks beyond an end."""

ROUNDS = 6
"""Of robust weights and jitter."""


class Fitter:
    """Fits an emulator's labels, velocity, widths and continuum to spectra.

    Parameters
    ----------
    network
        The emulator.
    wavelength : ndarray (p,)
        Its pixels, vacuum Angstrom.
    labels
        Its labels, in order.
    config
        What is free and what is known.
    windows
        Ranges that the pixels lie in, with gaps in between; one unless given.
    on_step
        Called with the number of spectra that go on, after each step.
    """

    def __init__(
        self,
        network: SpectralNetwork,
        wavelength: FloatArray,
        labels: LabelSet,
        config: FitConfig | None = None,
        windows: Sequence[tuple[float, float]] = (),
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        self.network, self.labels, self.on_step = network, labels, on_step
        self.config = config = config or FitConfig()
        self.wavelength = torch.from_numpy(np.array(wavelength, dtype=np.float64))
        self.windows = tuple(windows) or ((float(wavelength[0]), float(wavelength[-1])),)
        for name in (*config.fixed, *config.priors):
            if name not in labels.names:
                raise DraperError(
                    "the emulator has no such label", given=name, expected=", ".join(labels.names),
                    hint=did_you_mean(name, labels.names),
                )  # fmt: skip
        for name, value in config.fixed.items():
            if not abs(self._scaled(name, value)) <= 0.5 + 1e-6:
                label = labels[name]
                raise DraperError(
                    f"the emulator knows no such '{name}'",
                    given=value,
                    expected=f"{label.low:g} to {label.high:g}",
                )
        known = {name: getattr(config, name) for name in WIDTHS}
        widths = tuple(name for name, value in known.items() if value == "free")
        for name in widths:
            if name in labels.names:
                raise DraperError("a label of the emulator cannot be free twice", given=name)
        fixed = {n: torch.tensor(float(v)) for n, v in known.items() if v not in ("free", None, 0.0)}
        with torch.no_grad():
            self.maker, self.pixels = prepared(network, self.wavelength, even=bool(widths), widths=fixed)
            change = Change(self.wavelength, self.pixels, fixed)
            self.modes = change(network.modes if config.emulator_error else network.modes[:0])
        self.has_error = config.emulator_error and bool(network.uncertainty.isfinite().all())
        self.gap = network.gap if config.model_error else network.gap[:0]
        self.layout = Layout(len(labels), rv=config.rv == "free", widths=widths)
        self.step = velocity_step(self.pixels) if widths else 0.0
        known = {**{name: torch.tensor(WIDE[name]) for name in widths}, **fixed}
        self.reach = 0.5 * reach(1.0, **known) if known else 0.0
        self._kept: tuple[Tensor, Tensor, Guess] | None = None

    def __call__(self, exposures: Sequence[Exposure], *, models: bool = False) -> Fit:
        """Fit n stars, each seen in every exposure; those without enough good pixels give NaN.

        With ``models`` the spectra that belong to the labels are returned, too.
        """
        with torch.no_grad():
            if not models and (short := self._short(exposures)) is not None:
                return short
            end = self.settled(exposures)
            problem, solution, free = end.problem, end.solution, end.low < end.high
            found = outcome(self.network, self.labels, problem, solution, end.several, end.jitter, free)
            return with_models(found, problem, solution) if models else found

    @torch.no_grad()
    def settled(self, exposures: Sequence[Exposure]) -> Settled:
        """Return the problem with weights that are settled, and its solution."""
        config = self.config
        data, near, start = self._start(exposures)
        data = [self._with_error(part, near) for part in data]
        low, high = self._bounds(len(data))
        weights = [part.ivar for part in data]
        problem = self._problem(data, weights)
        solution, several = self._solved(problem, start, low, high)
        jitter = torch.full((problem.rows,), config.jitter if isinstance(config.jitter, float) else 0.0)
        if config.robust != "none" or config.jitter == "fit":
            for number in range(ROUNDS):
                weights, jitter = reweighted(
                    problem, solution.x, [part.ivar for part in data], config, number
                )
                problem = self._problem(data, weights)
                solution = self.minimised(problem, solution.x, low, high)
        return Settled(problem, solution, several, jitter, low, high)

    def shares_velocity(self, exposures: int) -> bool:
        """Whether all exposures of a star have one velocity."""
        return exposures == 1 or self.config.velocities == "one"

    def _bounds(self, exposures: int) -> tuple[Tensor, Tensor]:
        """Return the ends (m,) of the parameters; those of a label that is known are equal."""
        high = torch.full((len(self.labels),), 0.5, dtype=torch.float64)
        low = -high
        for name, value in self.config.fixed.items():
            low[self.labels.names.index(name)] = high[self.labels.names.index(name)] = self._scaled(
                name, value
            )
        ends = [BOUNDS[name] for name in self.layout.widths]
        if self.layout.rv:
            most = self.config.rv_limit
            ends = [(-most, most)] * (1 if self.shares_velocity(exposures) else exposures) + ends
        more = torch.tensor(ends, dtype=torch.float64).reshape(-1, 2)
        return torch.cat([low, more[:, 0]]), torch.cat([high, more[:, 1]])

    def _scaled(self, name: str, value: float) -> float:
        return float(self.labels[[name]].scale([value])[0]) - 0.5

    # ------------------------------------------------------------------- start

    def _start(self, exposures: Sequence[Exposure]) -> tuple[list[Data], Tensor, Tensor]:
        """Return the data, labels (n, d) of the nearest candidates, and parameters (n, starts, m)."""
        points = self._candidates()
        made = self._spectra(points)
        parts = [self._normalised(exposure) for exposure in exposures]
        rvs, gains = zip(*(self._velocities(made, *part) for part in parts), strict=True)
        if self.shares_velocity(len(parts)):
            # The exposure in which the lines stand out most decides for all.
            best = torch.stack(gains).argmax(0)
            rvs = (torch.stack(rvs)[best, torch.arange(len(best))],) * len(parts)
        data = [replace(part, rv=rv) for (part, _, _), rv in zip(parts, rvs, strict=True)]
        rest = [self._at_rest(part, flux, ivar) for part, (_, flux, ivar) in zip(data, parts, strict=True)]
        compresses = len(data) == 1 and self._compresses(len(rest[0][0]))
        near = points[:1].expand(len(rest[0][0]), -1)
        if self.has_error or not compresses:
            some = [[(flux[rows], ivar[rows]) for flux, ivar in rest] for rows in rows_of(len(near))]
            chosen = torch.cat([nearest(made, each, self.config.starts) for each in some])
            labels, near = points[chosen].double(), points[chosen[:, 0]]
        if compresses:
            labels = self._compressed(*rest[0])[:, None]
        extra = [torch.full((*labels.shape[:2], 1), TYPICAL[name]).double() for name in self.layout.widths]
        if self.layout.rv:
            own = data[:1] if self.shares_velocity(len(data)) else data
            extra = [part.rv[:, None, None].expand(-1, labels.shape[1], 1) for part in own] + extra
        return data, near, torch.cat([labels, *extra], dim=2)

    def _velocities(self, made: Tensor, data: Data, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return the velocity (n,) at which a candidate is most like each spectrum, and by how much."""
        if self.config.rv != "free":
            return torch.full((len(flux),), float(self.config.rv)).double(), torch.ones(len(flux))
        most = self.config.rv_limit
        few = made[torch.linspace(0, len(made) - 1, min(TEMPLATES, len(made))).long()]
        found = [
            velocities(few, self.pixels, data.observed, flux[rows], ivar[rows], most)
            for rows in rows_of(len(flux))
        ]
        return torch.cat([rv for rv, _ in found]).clamp(-most, most), torch.cat([gain for _, gain in found])

    def _at_rest(self, data: Data, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return spectra and weights (n, p) on the maker's pixels, at rest."""
        found = [
            at_rest(self.pixels, data.observed, flux[rows], ivar[rows], data.rv[rows])
            for rows in rows_of(len(flux))
        ]
        return torch.cat([one for one, _ in found]), torch.cat([weight for _, weight in found])

    def _normalised(self, exposure: Exposure) -> tuple[Data, Tensor, Tensor]:
        """Return the data, and flux and weights (n, q) over a rough continuum where that is to be fitted."""
        config, observed = self.config, torch.from_numpy(np.array(exposure.wavelength, dtype=np.float64))
        used = torch.ones(len(observed), dtype=torch.bool)
        if config.windows:
            used = torch.stack([(observed >= a) & (observed <= b) for a, b in config.windows]).any(0)
        for low, high in config.masked:
            used &= (observed < low) | (observed > high)
        ivar = torch.from_numpy(exposure.ivar * used.numpy().astype(np.float32))
        flux = torch.from_numpy(np.array(exposure.flux, dtype=np.float32))
        if not flux.sum().isfinite():
            flux.nan_to_num_()
        windows = config.windows or exposure.windows or ((float(observed[0]), float(observed[-1])),)
        data = Data(
            observed,
            flux,
            ivar,
            windows,
            torch.zeros(len(flux)).double(),
            torch.ones(len(flux)),
            torch.ones(1, 1),
        )
        if config.continuum is None:
            return data, flux, ivar
        level = torch.ones_like(flux)
        for low, high in windows:
            inside = (observed >= low) & (observed <= high)
            if inside.sum() > config.continuum + 1:
                basis = chebyshev_basis(observed[inside], config.continuum).float()
                level[:, inside] = continuum(flux[:, inside], ivar[:, inside], basis)
        level = torch.where(level > 1e-3 * level.abs().mean(1, keepdim=True), level, torch.inf)
        bare = torch.where(torch.isfinite(level), flux / level, 1.0)
        data = replace(data, level=level.nan_to_num(posinf=1.0))
        return data, bare, torch.where(torch.isfinite(level), ivar * level.square(), 0.0)

    def _candidates(self) -> Tensor:
        """Return scaled labels (k, d) of the coarse grid: training points, or even ones in the box."""
        points = self.network.points
        if len(points) == 0:
            unit = qmc.Sobol(len(self.labels), scramble=False).random(CANDIDATES)
            points = torch.from_numpy(0.8 * (unit - 0.5)).float()
        points = points[torch.linspace(0, len(points) - 1, min(CANDIDATES, len(points))).long()].clone()
        for name, value in self.config.fixed.items():
            points[:, self.labels.names.index(name)] = self._scaled(name, value)
        return points.clamp(-0.5, 0.5)

    def _spectra(self, points: Tensor) -> Tensor:
        """Return the spectra (k, p) of scaled labels (k, d), free widths being typical."""
        widths = torch.tensor([TYPICAL[name] for name in self.layout.widths]).expand(len(points), -1)
        empty = torch.zeros(1, len(self.pixels))
        problem = PixelProblem(
            self.maker, self.pixels, self.pixels, empty, empty, replace(self.layout, rv=False), step=self.step
        )
        x = torch.cat([points, widths], dim=1).double()
        return torch.cat(
            [problem.model(part, torch.zeros(len(part)).long())[0] for part in torch.split(x, 256)]
        )

    def _compresses(self, rows: int) -> bool:
        """Whether fits start in the compressed space: with linear output, where there are enough spectra."""
        return (
            isinstance(self.maker, Linear)
            and not self.layout.widths
            and rows >= ENOUGH
            and self.config.starts == 1
        )

    def _guess(self, pixels: Tensor, ivar: Tensor, noise: float = 1.0) -> Guess:
        """Return what compresses spectra on pixels (q,) with weights (q,), and guesses labels; it is kept."""
        kept = self._kept
        if kept is None or not (torch.equal(kept[0], pixels) and torch.equal(kept[1], ivar)):
            assert isinstance(self.maker, Linear)
            compression = Compression(self.maker.at(self.pixels, pixels), ivar)
            kept = self._kept = pixels, ivar, Guess(compression, self._candidates(), noise)
        return kept[2]

    def _compressed(self, flux: Tensor, ivar: Tensor) -> Tensor:
        """Return labels (n, d) of a fit with the weights that most spectra have, at rest."""
        guess = self._guess(self.pixels, ivar.median(dim=0).values)
        bad, labels = ivar <= 0, torch.zeros(1, len(self.labels))
        for _ in range(2):  # bad pixels are filled with the middle of the box, then with a guess
            flux = torch.where(bad, self.maker(labels), flux)
            short, left = guess.compression(flux)
            labels = guess(short)
        low, high = (end[: len(self.labels)] for end in self._bounds(1))
        problem = CompressedProblem(guess.compression, short, left)
        return minimise(problem, labels, low, high, tolerance=0.1, iterations=12, exact=False).x

    def _short(self, exposures: Sequence[Exposure]) -> Fit | None:
        """Return the fit in the compressed space, where it is exact: all weights alike, only labels free."""
        config, maker = self.config, self.maker
        plain = config.continuum is None and config.robust == "none" and config.jitter != "fit"
        alone = len(exposures) == 1 and not self.layout.rv and config.starts == 1
        if not (plain and alone and isinstance(maker, Linear) and not len(self.layout.widths)):
            return None
        ivar = exposures[0].ivar
        scale = ivar.max(axis=1, keepdims=True)
        if len(ivar) < ENOUGH or not (scale > 0).all():
            return None
        if not all(
            np.allclose(ivar[rows] / scale[rows], ivar[:1] / scale[:1], rtol=1e-5)
            for rows in rows_of(len(ivar))
        ):
            return None
        if self.has_error:
            return None  # another error for each star is another shape of the weights
        if (config.jitter != "none" or len(self.gap)) and np.ptp(scale) > 1e-5 * scale[0]:
            return None
        data, flux, _ = self._normalised(replace(exposures[0], ivar=ivar[:1]))
        known = torch.tensor([float(config.rv)]).double()
        data = self._with_error(replace(data, rv=known), torch.zeros(1, len(self.labels)))
        at = data.observed / doppler_factor(data.rv)[:, None]
        times = torch.from_numpy(scale[:, 0] / scale[0, 0]).float()
        guess = self._guess(at[0], data.ivar[0], float(1 / times.median()))
        short, left = guess.compression(flux)
        problem = CompressedProblem(
            guess.compression, short, left, times, pixels=int((data.ivar[0] > 0).sum())
        )
        low, high = self._bounds(1)
        solution = self.minimised(problem, guess(short), low, high)
        none = torch.zeros(len(flux), dtype=torch.bool)
        jitter = torch.full((len(flux),), config.jitter if isinstance(config.jitter, float) else 0.0)
        return outcome(self.network, self.labels, problem, solution, none, jitter, low < high)

    # --------------------------------------------------------------------- fit

    def _with_error(self, data: Data, labels: Tensor) -> Data:
        """Return data with the emulator's error at scaled labels (n, d), and the jitter, in its weights.

        Pixels that their velocity moves off the emulator's range, or near its ends, get none: which ones must
        not change while a velocity is fitted, or chi2 would jump.
        """
        variance, spread = torch.zeros(1, 1), torch.ones(len(labels))
        usual, own = self.network.uncertainty, self.has_error
        if own or len(self.gap):
            place = data.observed / doppler_factor(data.rv)[:, None]
            place = torch.searchsorted(self.wavelength, place).clamp(max=len(usual) - 1)
        if own:
            spread = self.network.error(labels.float())[:, 0] / usual[0]
            variance = self.network.scatter()[place].square() * spread[:, None].square()
        if len(self.gap):
            variance = variance + self.gap[place].square()
        if isinstance(self.config.jitter, float):
            variance = variance + self.config.jitter**2
        variance = variance * data.level.square()
        # Broadened pixels near an end have seen what is not there.
        margin = (MARGIN if self.layout.rv else 0.0) + self.reach
        first, last = (data.observed / doppler_factor(data.rv + sign * margin)[:, None] for sign in (1, -1))
        covered = torch.stack([(first >= a) & (last <= b) for a, b in self.windows]).any(0)
        return replace(data, ivar=with_variance(data.ivar, variance) * covered, spread=spread)

    def _problem(self, data: Sequence[Data], weights: Sequence[Tensor]) -> JointProblem:
        degree = self.config.continuum
        parts = [
            PixelProblem(
                self.maker, self.pixels, part.observed, part.flux, weight, self.layout,
                step=self.step,
                continuum=None if degree is None else Continuum(part.windows, degree),
                rv=None if self.layout.rv else part.rv,
                modes=self.modes,
                spread=part.spread,
            )
            for part, weight in zip(data, weights, strict=True)
        ]  # fmt: skip
        return JointProblem(parts, shared=self.shares_velocity(len(parts)))

    def minimised(self, problem: Problem, start: Tensor, low: Tensor, high: Tensor) -> Solution:
        """Lower chi2 of every row, priors included, between bounds (m,) or (n, m)."""
        config, prior = self.config, None
        if config.priors:
            mean = torch.zeros(start.shape, dtype=torch.float64)
            sigma = torch.full_like(mean, torch.inf)
            for name, (centre, width) in config.priors.items():
                number = self.labels.names.index(name)
                mean[:, number] = self._scaled(name, centre)
                sigma[:, number] = self._scaled(name, centre + width) - self._scaled(name, centre)
            prior = Prior(mean, sigma)
        return minimise(
            problem, start, low, high, prior=prior, tolerance=config.tolerance,
            iterations=config.iterations, on_step=self.on_step,
        )  # fmt: skip

    def _solved(
        self, problem: JointProblem, start: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Solution, Tensor]:
        """Return the best of the solutions, and where (n,) another one is as good."""
        found = [self.minimised(problem, start[:, number], low, high) for number in range(start.shape[1])]
        return best_of(found)
