"""Fits of labels to spectra, from start to flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from draper.configs.fit import FitConfig
from draper.errors import DraperError, did_you_mean
from draper.infer.compressed import CompressedProblem, Compression, Guess
from draper.infer.exposures import Exposure, ExposureTensors, JointProblem, piece_ranges, row_slices
from draper.infer.fit_result import FitResult, Misfit, SolvedFit, add_model_spectra, fit_result
from draper.infer.forward import ForwardModel
from draper.infer.instrument_model import PerceptronModel, instrument_model
from draper.infer.least_squares import Problem, Solution, best_solution, minimise
from draper.infer.pixels import BOUNDS, TYPICAL, WIDE, WIDTHS, Continuum, Layout, PixelProblem
from draper.infer.places import Pixels
from draper.infer.priors import MixturePrior, named_prior
from draper.infer.start import TEMPLATES, VelocitySearch, at_rest, nearest
from draper.infer.weights import add_variance, line_depths, pixels_alike, reweight
from draper.infer.width_start import TRIALS, guess_width
from draper.instrument.broadening import broaden, reach, velocity_step
from draper.instrument.continuum import chebyshev_basis, continuum
from draper.instrument.doppler import doppler_factor
from draper.nn.error_modes import independent_error, leading

CANDIDATES = 1024
"""Largest number of points of the coarse grid that fits start from."""

ENOUGH = 16
"""Least number of spectra for whose own weights a compression is made, which costs time once."""

EQUAL, NOISY = 1e4, 0.05
"""Weight of pixels where all are taken as equal, and that over the mean below which they are taken as bad."""

MARGIN = 10.0
"""Velocity [km/s] by which a fit may move from its start without reaching pixels beyond the model's ends."""

CHANGED = 0.002
"""Change in ln(model error) between start and end of a fit above which it goes on with the new one."""

ROUNDS = 6
"""Rounds in which robust weights and jitter are measured again."""

POOR = 0.5
"""Jitter from which on a fit is a bad one, in units of the rms depth of the lines that are fitted."""


class Fitter:
    """Fits labels, velocity, widths and continuum to spectra.

    Parameters
    ----------
    model
        The function from labels to flux, with its pixels and labels.
    config
        What is free and what is fixed.
    on_step
        Called with the number of spectra that have not converged, after each iteration.
    """

    def __init__(
        self,
        model: ForwardModel,
        config: FitConfig | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        self.function, self.labels, self.on_step = model.function, model.labels, on_step
        function, labels = self.function, self.labels
        self.config = config = config or FitConfig()
        self.wavelength = torch.from_numpy(np.array(model.grid.vacuum, dtype=np.float64))
        self.windows = piece_ranges(model.grid)
        for name in (*config.fixed, *(config.priors if isinstance(config.priors, dict) else ())):
            if name not in labels.names:
                raise DraperError(
                    "the model has no such label",
                    given=name,
                    expected=", ".join(labels.names),
                    hint=did_you_mean(name, labels.names),
                )
        for name, value in config.fixed.items():
            if not abs(self._scaled(name, value)) <= 0.5 + 1e-6:
                label = labels[name]
                raise DraperError(
                    f"{name} = {value:g} is outside the model's range ({label.low:g} to {label.high:g})",
                    given=f"fixed={{'{name}': {value:g}}}",
                    hint="fix it within the range, or train on spectra that cover it",
                )
        options = {name: getattr(config, name) for name in WIDTHS}
        widths = tuple(name for name, value in options.items() if value == "free")
        for name in widths:
            if name in labels.names:
                raise DraperError(
                    f"{name} is a label of the model, and free already",
                    given=f"{name}='free'",
                    hint=f"leave out {name}=",
                )
        fixed = {n: torch.tensor(float(v)) for n, v in options.items() if v not in ("free", None, 0.0)}
        with torch.no_grad():
            self.flux_of, change = instrument_model(
                function, self.wavelength, even=bool(widths), widths=fixed
            )
            self.pixels = change.pixels
            modes = function.modes if config.emulator_error else function.modes[:0]
            self.modes, self.mixture = leading(change(modes))
        self.has_error = config.emulator_error and bool(function.uncertainty.isfinite().all())
        self.gap = function.gap if config.model_error else function.gap[:0]
        self.layout = Layout(len(labels), rv=config.rv == "free", widths=widths)
        self.step = velocity_step(self.pixels) if widths else 0.0
        wide = {**{name: torch.tensor(WIDE[name]) for name in widths}, **fixed}
        self.reach = 0.5 * reach(1.0, **wide) if wide else 0.0
        self._last_guess: tuple[Tensor, Tensor, Guess] | None = None
        self._templates: Tensor | None = None
        self._search: VelocitySearch | None = None
        self._named_prior: MixturePrior | None = None

    def __call__(self, exposures: Sequence[Exposure], *, models: bool = False) -> FitResult:
        """Fit n stars, each of which is in every exposure; those without enough good pixels give NaN.

        With ``models`` the result also holds the best-fitting spectra.
        """
        with torch.no_grad():
            if not models and (result := self._fit_compressed(exposures)) is not None:
                return result
            end = self.solve(exposures)
            result = fit_result(
                self.function,
                self.labels,
                end.problem,
                end.solution,
                end.several,
                end.misfit,
                end.low,
                end.high,
                end.prior,
            )
            return add_model_spectra(result, end.problem, end.solution) if models else result

    @torch.no_grad()
    def solve(self, exposures: Sequence[Exposure]) -> SolvedFit:
        """Return the problem with its final weights, and its solution."""
        config = self.config
        plain, near, start = self._start(exposures)
        data = [self._add_error(part, near) for part in plain]
        low, high = self._bounds(len(data))
        weights = [part.ivar for part in data]
        problem = self._problem(data, weights)
        solution, several = self._solve_from_starts(problem, start, low, high)
        if self.has_error:
            # Errors are those near the start; where they are others at the end, the fit goes on with these.
            again = [self._add_error(part, solution.x[:, : len(self.labels)]) for part in plain]
            moved = ((again[0].spread / data[0].spread).log().abs() > CHANGED).any()
            if moved or again[0].precision is not None:
                data, weights = again, [part.ivar for part in again]
                problem = self._problem(data, weights)
                solution = self.minimise(problem, solution.x, low, high)
        measured: Tensor | None = None
        fits_jitter = torch.full((problem.rows,), config.jitter == "fit")
        if config.jitter == "none":
            fits_jitter = torch.stack([exposure.without_errors() for exposure in exposures]).any(0)
        if config.robust != "none" or fits_jitter.any():
            for number in range(ROUNDS):
                weights, measured = reweight(
                    problem, solution.x, [part.ivar for part in data], config, number, fits_jitter
                )
                problem = self._problem(data, weights)
                solution = self.minimise(problem, solution.x, low, high)
        misfit = Misfit.of(solution, config.jitter)
        if fits_jitter.any() or len(self.gap):
            found = [part.flux - part.models(solution.x[:, place])[0] for part, place in problem.each]
            # Weights that already are too small, as noise was averaged, need not be divided again.
            reduced = (misfit.chi2 / problem.freedom().clamp(min=1)).clamp(max=1).float()
            alike = (pixels_alike(found, weights) * reduced).clamp(min=1)
            misfit = replace(misfit, alike=alike if len(self.gap) else torch.where(fits_jitter, alike, 1.0))
            if measured is not None:
                # What is different in every pixel is noise, and no fault of the fit.
                common = measured * (1 - 1 / misfit.alike).sqrt()
                poor = common > POOR * line_depths(problem, solution.x)
                misfit = replace(misfit, jitter=measured, is_poor=poor, fits_jitter=fits_jitter)
            problem = self._problem(data, [part / misfit.alike[:, None] for part in weights])
            solution = self.minimise(problem, solution.x, low, high)
        return SolvedFit(problem, solution, several, misfit, low, high, self._prior(len(low)))

    def shares_velocity(self, exposures: int) -> bool:
        """Whether all exposures of a star have one velocity."""
        return exposures == 1 or self.config.velocities == "one"

    def _bounds(self, exposures: int) -> tuple[Tensor, Tensor]:
        """Return the bounds (m,) of the parameters; those of a fixed label are equal."""
        high = torch.full((len(self.labels),), 0.5, dtype=torch.float64)
        low = -high
        for name, value in self.config.fixed.items():
            low[self.labels.names.index(name)] = high[self.labels.names.index(name)] = self._scaled(
                name, value
            )
        ends = [BOUNDS[name] for name in self.layout.widths]
        if self.layout.rv:
            limit = self.config.rv_limit
            ends = [(-limit, limit)] * (1 if self.shares_velocity(exposures) else exposures) + ends
        more = torch.tensor(ends, dtype=torch.float64).reshape(-1, 2)
        return torch.cat([low, more[:, 0]]), torch.cat([high, more[:, 1]])

    def _scaled(self, name: str, value: float) -> float:
        return float(self.labels[[name]].scale([value])[0]) - 0.5

    # ------------------------------------------------------------------- start

    def _start(self, exposures: Sequence[Exposure]) -> tuple[list[ExposureTensors], Tensor, Tensor]:
        """Return the data, labels (n, d) of the nearest candidates, and parameters (n, starts, m)."""
        points = self._candidate_labels()
        if self._templates is None:
            self._templates = self._candidate_spectra(points)
        templates = self._templates
        parts = [self._prepare(exposure) for exposure in exposures]
        rvs, gains = zip(*(self._velocities(templates, *part) for part in parts), strict=True)
        if self.shares_velocity(len(parts)):
            # The exposure with the strongest lines, relative to its noise, decides for all.
            best = torch.stack(gains).argmax(0)
            rvs = (torch.stack(rvs)[best, torch.arange(len(best))],) * len(parts)
        data = [replace(part, rv=rv) for (part, _, _), rv in zip(parts, rvs, strict=True)]
        rest = [self._at_rest(part, flux, ivar) for part, (_, flux, ivar) in zip(data, parts, strict=True)]
        compresses = len(data) == 1 and self._can_compress(len(rest[0][0]))
        near = points[:1].expand(len(rest[0][0]), -1)
        if not compresses:
            batches = [[(flux[rows], ivar[rows]) for flux, ivar in rest] for rows in row_slices(len(near))]
            chosen = torch.cat([nearest(templates, batch, self.config.starts) for batch in batches])
            labels, near = points[chosen].double(), points[chosen[:, 0]]
        typical = torch.tensor([TYPICAL[name] for name in self.layout.widths], dtype=torch.float64)
        widths = typical.repeat(len(near), 1)
        if compresses and self.layout.widths:
            near, widths[:, 0] = self._width_start(points, *rest[0])
            labels = near.double()[:, None]
        elif compresses:
            labels = self._compressed_start(*rest[0])[:, None]
            near = labels[:, 0].float()
        extra = [widths[:, None].expand(-1, labels.shape[1], -1)]
        if self.layout.rv:
            own = data[:1] if self.shares_velocity(len(data)) else data
            extra = [part.rv[:, None, None].expand(-1, labels.shape[1], 1) for part in own] + extra
        return data, near, torch.cat([labels, *extra], dim=2)

    def _velocities(
        self, templates: Tensor, data: ExposureTensors, flux: Tensor, ivar: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the velocity (n,) at which a template fits each spectrum best, and the gain in chi2."""
        if self.config.rv != "free":
            return torch.full((len(flux),), float(self.config.rv)).double(), torch.ones(len(flux))
        limit = self.config.rv_limit
        if self._search is None:
            few = templates[torch.linspace(0, len(templates) - 1, min(TEMPLATES, len(templates))).long()]
            self._search = VelocitySearch(few, self.pixels, limit)
        parts = [self._search(data.observed, flux[rows], ivar[rows]) for rows in row_slices(len(flux))]
        return torch.cat([rv for rv, _ in parts]).clamp(-limit, limit), torch.cat([gain for _, gain in parts])

    def _at_rest(self, data: ExposureTensors, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return spectra and weights (n, p) on the model's pixels, at rest."""
        parts = [
            at_rest(self.pixels, data.observed, flux[rows], ivar[rows], data.rv[rows])
            for rows in row_slices(len(flux))
        ]
        return torch.cat([rest for rest, _ in parts]), torch.cat([weight for _, weight in parts])

    def _prepare(self, exposure: Exposure) -> tuple[ExposureTensors, Tensor, Tensor]:
        """Return the data, and flux and weights (n, q) over a rough continuum if one is fitted."""
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
        data = ExposureTensors(
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

    def _candidate_labels(self) -> Tensor:
        """Return scaled labels (k, d) of the coarse grid: the model's points, or even ones in the box."""
        points = self.function.points
        if len(points) == 0:
            unit = qmc.Sobol(len(self.labels), scramble=False).random(CANDIDATES)
            points = torch.from_numpy(0.8 * (unit - 0.5)).float()
        points = points[torch.linspace(0, len(points) - 1, min(CANDIDATES, len(points))).long()].clone()
        for name, value in self.config.fixed.items():
            points[:, self.labels.names.index(name)] = self._scaled(name, value)
        return points.clamp(-0.5, 0.5)

    def _candidate_spectra(self, points: Tensor) -> Tensor:
        """Return the spectra (k, p) of scaled labels (k, d), with typical values of free widths."""
        flux = torch.cat([self.flux_of(part) for part in torch.split(points, 256)])
        typical: dict[str, Any] = {name: torch.tensor(TYPICAL[name]) for name in self.layout.widths}
        return broaden(flux, self.step, **typical) if typical else flux

    def _can_compress(self, rows: int) -> bool:
        """Whether fits start in the compressed space: with linear output, and widths only if it pays."""
        least = ENOUGH * len(TRIALS[self.layout.widths[0]]) if self.layout.widths else 0
        return isinstance(self.flux_of, PerceptronModel) and rows >= least and self.config.starts == 1

    def _guess(self, pixels: Tensor, ivar: Tensor, noise: float = 1.0) -> Guess:
        """Return the guess for spectra on pixels (q,) with weights (q,); the last one is cached."""
        last = self._last_guess
        if last is None or not (torch.equal(last[0], pixels) and torch.equal(last[1], ivar)):
            assert isinstance(self.flux_of, PerceptronModel)
            compression = Compression(self.flux_of.at(self.pixels, pixels), ivar)
            last = self._last_guess = pixels, ivar, Guess(compression, self._candidate_labels(), noise)
        return last[2]

    def _width_start(self, points: Tensor, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels (n, d) and the first free width (n,) at which fits of spectra at rest start."""
        assert isinstance(self.flux_of, PerceptronModel)
        name, *others = self.layout.widths
        typical = {other: TYPICAL[other] for other in others}
        low, high = (end[: len(self.labels)] for end in self._bounds(1))
        return guess_width(self.flux_of, self.step, name, typical, points, low, high, flux, ivar)

    def _compressed_start(self, flux: Tensor, ivar: Tensor) -> Tensor:
        """Return labels (n, d) of a fit with the weights that most spectra have, at rest."""
        # What is made for equal weights serves for any few spectra to come.
        many = len(ivar) >= ENOUGH
        guess = self._guess(
            self.pixels, ivar.median(dim=0).values if many else torch.full((ivar.shape[1],), EQUAL)
        )
        bad, labels = ivar <= 0, torch.zeros(1, len(self.labels))
        if not many:
            bad = ivar <= NOISY * ivar.mean(1, keepdim=True)
        for _ in range(2):  # bad pixels are filled with the middle of the box, then with a guess
            flux = torch.where(bad, self.flux_of(labels), flux)
            short, left = guess.compression(flux)
            labels = guess(short)
        low, high = (end[: len(self.labels)] for end in self._bounds(1))
        problem = CompressedProblem(guess.compression, short, left)
        return minimise(problem, labels, low, high, tolerance=0.1, iterations=12, exact=False).x

    def _fit_compressed(self, exposures: Sequence[Exposure]) -> FitResult | None:
        """Return the fit in the compressed space if it is exact there: equal weights, only labels free."""
        config = self.config
        plain = config.continuum is None and config.robust == "none" and config.jitter != "fit"
        if not plain or len(exposures) != 1 or self.layout.rv:
            return None
        ivar = exposures[0].ivar
        scale = ivar.max(axis=1, keepdims=True)
        if self.layout.widths or not self._can_compress(len(ivar)) or len(ivar) < ENOUGH:
            return None
        if not (scale > 0).all():
            return None
        if not all(
            np.allclose(ivar[rows] / scale[rows], ivar[:1] / scale[:1], rtol=1e-5)
            for rows in row_slices(len(ivar))
        ):
            return None
        if self.has_error or len(self.gap) or exposures[0].without_errors().any():
            return None  # weights of different shapes, or residuals are needed
        if config.jitter != "none" and np.ptp(scale) > 1e-5 * scale[0]:
            return None
        data, flux, _ = self._prepare(replace(exposures[0], ivar=ivar[:1]))
        rv = torch.tensor([float(config.rv)]).double()
        data = self._add_error(replace(data, rv=rv), torch.zeros(1, len(self.labels)))
        at = data.observed / doppler_factor(data.rv)[:, None]
        times = torch.from_numpy(scale[:, 0] / scale[0, 0]).float()
        guess = self._guess(at[0], data.ivar[0], float(1 / times.median()))
        short, left = guess.compression(flux)
        problem = CompressedProblem(
            guess.compression, short, left, times, pixels=int((data.ivar[0] > 0).sum())
        )
        low, high = self._bounds(1)
        solution = self.minimise(problem, guess(short), low, high)
        none = torch.zeros(len(flux), dtype=torch.bool)
        return fit_result(
            self.function,
            self.labels,
            problem,
            solution,
            none,
            Misfit.of(solution, config.jitter),
            low,
            high,
            self._prior(len(low)),
        )

    # --------------------------------------------------------------------- fit

    def _add_error(self, data: ExposureTensors, labels: Tensor) -> ExposureTensors:
        """Return data whose weights count the model's error at scaled labels (n, d), and the jitter.

        Pixels that the velocity moves off the model's range, or near its ends, get no weight: which ones must
        not change while a velocity is fitted, or chi2 would jump.
        """
        variance, spread, precision = torch.zeros(1, 1), torch.ones(len(labels)), None
        usual = self.function.uncertainty
        if self.has_error or len(self.gap):
            place = Pixels(self.wavelength).places(data.observed, data.rv).nearest
        if self.has_error:
            spread = self.function.error(labels.float())[:, 0] / usual[0]
            own = independent_error(usual, self.function.modes)
            variance = own[place].square() * spread[:, None].square()
            common = (
                self.function.amplitude_covariance(labels.float(), self.mixture) if len(self.modes) else None
            )
            precision = None if common is None else torch.linalg.inv(common)
        if len(self.gap):
            variance = variance + self.gap[place].square()
        if isinstance(self.config.jitter, float):
            variance = variance + self.config.jitter**2
        variance = variance * data.level.square()
        # Broadening mixes what lies beyond an end into the pixels near it.
        margin = (MARGIN if self.layout.rv else 0.0) + self.reach
        first, last = (data.observed / doppler_factor(data.rv + sign * margin)[:, None] for sign in (1, -1))
        covered = torch.stack([(first >= a) & (last <= b) for a, b in self.windows]).any(0)
        ivar = add_variance(data.ivar, variance) * covered
        return replace(data, ivar=ivar, spread=spread, precision=precision)

    def _problem(self, data: Sequence[ExposureTensors], weights: Sequence[Tensor]) -> JointProblem:
        degree = self.config.continuum
        parts = [
            PixelProblem(
                self.flux_of,
                self.pixels,
                part.observed,
                part.flux,
                weight,
                self.layout,
                step=self.step,
                continuum=None if degree is None else Continuum(part.windows, degree),
                rv=None if self.layout.rv else part.rv,
                modes=self.modes,
                spread=part.spread,
                precision=part.precision,
            )
            for part, weight in zip(data, weights, strict=True)
        ]
        return JointProblem(parts, shared=self.shares_velocity(len(parts)))

    def minimise(self, problem: Problem, start: Tensor, low: Tensor, high: Tensor) -> Solution:
        """Minimise chi2 of every row, priors included, between bounds (m,) or (n, m)."""
        config = self.config
        return minimise(
            problem,
            start,
            low,
            high,
            prior=self._prior(start.shape[1]),
            tolerance=config.tolerance,
            iterations=config.iterations,
            on_step=self.on_step,
        )

    def _prior(self, size: int) -> MixturePrior | None:
        """Return the prior of so many parameters, labels first."""
        priors = self.config.priors
        if not priors:
            return None
        if self._named_prior is None or len(self._named_prior.sigma) != size:
            if isinstance(priors, str):
                made = named_prior(priors, self.labels, self.function.points, size)
            else:
                mean, sigma = torch.zeros(size), torch.full((size,), torch.inf)
                for name, (centre, width) in priors.items():
                    number = self.labels.names.index(name)
                    mean[number] = self._scaled(name, centre)
                    sigma[number] = self._scaled(name, centre + width) - mean[number]
                made = MixturePrior.gaussian(mean, sigma)
            self._named_prior = made
        return self._named_prior

    def _solve_from_starts(
        self, problem: JointProblem, start: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Solution, Tensor]:
        """Return the best of the solutions, and where (n,) another one is as good."""
        return best_solution(
            [self.minimise(problem, start[:, number], low, high) for number in range(start.shape[1])]
        )
