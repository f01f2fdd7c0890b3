"""chi2 of spectra against a model of labels, velocity, widths and continuum, pixel by pixel.

The gradient of chi2 is exact, so where a fit ends does not depend on the curvature. The curvature is that on
the model's own pixels, with the weights of the data brought there: spectra are smooth on the scale of the
interpolation, and the errors that follow from it are tested (pulls).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from draper.infer.instrument_model import BroadenedLinearised, InstrumentModel, Linearised, weighted_products
from draper.infer.least_squares import Normal, Problem
from draper.infer.places import Pixels, Places, SamePlaces
from draper.instrument.broadening import Kernels
from draper.instrument.doppler import SPEED_OF_LIGHT, doppler_factor

WIDTHS = ("vsini", "vmac", "resolving_power")
"""Names of the widths that a fit may have as parameters."""

BOUNDS = {"vsini": (0.0, 300.0), "vmac": (0.0, 60.0), "resolving_power": (500.0, 300_000.0)}
"""Ranges of free widths: km/s, km/s and lambda / FWHM."""

TYPICAL = {"vsini": 10.0, "vmac": 5.0, "resolving_power": 20_000.0}
"""Values at which fits of free widths start."""

WIDE = {"vsini": 30.0, "vmac": 10.0, "resolving_power": 20_000.0}
"""Values of free widths by which the margin at the ends of the model's range is set."""

DIFFERENCE, FEW = 1e-2, 3.0
"""Relative step of the derivative by a width; below so many times the least width that a spectrum tells from
none (chi2 differs by 1), it is that least width."""

RIDGE = 1e-9
"""Added to the normal equations of the continuum, relative to their size."""


@dataclass(frozen=True)
class Continuum:
    """Polynomials that multiply the model, one set for each window.

    Attributes
    ----------
    windows
        Ranges (low, high) [Angstrom]; they must not overlap.
    degree
        Of the Chebyshev polynomials.
    """

    windows: Sequence[tuple[float, float]]
    degree: int

    def __len__(self) -> int:
        return len(self.windows) * (self.degree + 1)

    def basis(self, wavelength: Tensor) -> Tensor:
        """Return the polynomials (..., k) at wavelengths (...); they are 0 outside of their window.

        Examples
        --------
        >>> Continuum([(0.0, 10.0)], 1).basis(torch.tensor([0.0, 5.0, 10.0, 11.0])).T
        tensor([[ 1.,  1.,  1.,  0.],
                [-1.,  0.,  1.,  0.]])
        """
        columns = []
        for low, high in self.windows:
            inside = ((wavelength >= low) & (wavelength <= high)).to(torch.float32)
            span = max(high - low, 1e-9 * abs(high) + 1e-30)
            # Nothing far outside: powers of it would be too large for what they are multiplied by.
            u = (2 * (wavelength - low) / span - 1).clamp(-1, 1).to(torch.float32)
            before, now = torch.ones_like(u), u
            for order in range(self.degree + 1):
                columns.append((before if order == 0 else now) * inside)
                if order > 0:
                    before, now = now, 2 * u * now - before
        return torch.stack(columns, dim=-1)


@dataclass(frozen=True)
class Layout:
    """The parameters of a fit: scaled labels first, then velocity, then widths.

    Attributes
    ----------
    labels
        Number of labels.
    rv
        Whether there is a velocity [km/s].
    widths
        The ``WIDTHS`` that are parameters.
    fixed : mapping of str to Tensor ()
        Fixed widths.
    """

    labels: int
    rv: bool = True
    widths: tuple[str, ...] = ()
    fixed: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.labels + self.rv + len(self.widths)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return labels (n, d), velocity (n,) and widths of parameters (n, m)."""
        rv = x[:, self.labels] if self.rv else torch.zeros_like(x[:, 0])
        widths = {
            name: x[:, self.labels + self.rv + number].float() for number, name in enumerate(self.widths)
        }
        return x[:, : self.labels], rv, {**self.fixed, **widths}


@dataclass(frozen=True)
class ProfiledFlux:
    """Model spectra with the best coefficients of continuum and error modes, in which they are linear.

    Attributes
    ----------
    total, level : Tensor (n, q)
        The flux that is compared with the data, and the continuum in it.
    coefficients : Tensor (n, k, 1)
        Of the continuum first, then amplitudes of the modes, which are of order 1.
    count
        How many are of the continuum.
    precision : Tensor (n, r, r) or None
        Inverse covariance of these amplitudes; that of unit variances if None.
    """

    total: Tensor
    level: Tensor
    coefficients: Tensor
    count: int
    precision: Tensor | None = None

    @property
    def penalty(self) -> Tensor:
        """The chi2 (n,) of the amplitudes of the modes."""
        amplitudes = self.coefficients[:, self.count :].double()
        pulled = amplitudes if self.precision is None else self.precision @ amplitudes
        penalty: Tensor = (amplitudes * pulled).sum((1, 2))
        return penalty


@dataclass(frozen=True)
class Evaluation:
    """chi2 and its gradient at some parameters, and what the curvature is computed from.

    Attributes
    ----------
    local, best
        Spectra on the model's pixels with their derivatives, and the flux that is compared with the data.
    rv, places
        Velocities (n,), and where the pixels of the data are.
    by_rv, by_width : Tensor (n, 0 or 1, p), (n, e, p)
        Derivatives.
    chi2, gradient : Tensor (n,), (n, m)
    """

    local: Linearised
    rv: Tensor
    places: Places
    by_rv: Tensor
    by_width: Tensor
    best: ProfiledFlux
    chi2: Tensor
    gradient: Tensor


class PixelProblem(Problem):
    """chi2 of spectra whose pixels have weights of their own.

    Parameters
    ----------
    flux_of
        The forward model: flux of scaled labels.
    wavelength : Tensor (p,) float64
        The pixels of that flux; even in ln(lambda) where something is broadened.
    observed : Tensor (q,) float64
        Pixels of the data.
    flux, ivar : Tensor (n, q)
        The data; pixels beyond the model's range must have no weight.
    layout
        The parameters.
    continuum
        Polynomials that multiply the model; their coefficients are profiled: they take their best values.
    step
        Width of the model's pixels [km/s], where something is broadened.
    rv : Tensor (n,), optional
        Fixed velocities.
    modes : Tensor (r, p), optional
        Errors that the model's pixels have in common; their amplitudes are profiled, too.
    spread : Tensor (n,), optional
        Standard deviations of these amplitudes; 1 unless given.
    precision : Tensor (n, r, r), optional
        Inverse covariance of these amplitudes in units of ``spread``; they are independent unless given.
    """

    chunk = 32

    def __init__(
        self,
        flux_of: InstrumentModel,
        wavelength: Tensor,
        observed: Tensor,
        flux: Tensor,
        ivar: Tensor,
        layout: Layout,
        *,
        step: float = 0.0,
        continuum: Continuum | None = None,
        rv: Tensor | None = None,
        modes: Tensor | None = None,
        spread: Tensor | None = None,
        precision: Tensor | None = None,
    ) -> None:
        self.modes = torch.zeros(0, len(wavelength)) if modes is None else modes
        self.spread = torch.ones(len(flux)) if spread is None else spread
        self.precision = precision
        self.flux_of, self.layout, self.continuum, self.step = flux_of, layout, continuum, step
        self.rows = len(flux)
        # The same for all rows, whatever their widths: where spectra end, results depend on it a little.
        widest = {name: torch.tensor(BOUNDS[name][name != "resolving_power"]) for name in layout.widths}
        self.kernels = Kernels(len(wavelength), step, {**layout.fixed, **widest}) if widest else None
        self.least = {name: torch.full((len(flux),), torch.nan) for name in layout.widths}
        self.weight = ivar.sum(1) if continuum is None else (ivar * flux.square()).sum(1)
        self.rv = rv
        self.observed, self.flux, self.ivar = observed, flux, ivar
        self.same = len(observed) == len(wavelength) and bool(torch.allclose(observed, wavelength, rtol=1e-9))
        self.wavelength, self.pixels = wavelength, Pixels(wavelength)
        self.by_velocity = -1 / SPEED_OF_LIGHT / torch.log(wavelength[2:] / wavelength[:-2]).float()

    def normal(self, x: Tensor, rows: Tensor, *, rough: bool = False) -> Normal:
        """Return the normal equations of some rows (k,) at parameters (k, m)."""
        with torch.no_grad():
            at = self._evaluate(x, rows)
            best, flux, m = at.best, at.local.flux, at.gradient.shape[1]
            others = torch.cat([at.by_rv, at.by_width, *self._nuisances(flux, at.rv, rows, best)], dim=1)
            density = at.places.spread(self.ivar[rows] * best.level.square())
            curvature = self._curvature(at.local, density, others, rows, rough).double()
            cross, own = curvature[:, :m, m:], regularise(curvature[:, m:, m:], best.count, best.precision)
            curvature = curvature[:, :m, :m]
            if own.shape[1]:
                curvature = curvature - cross @ torch.linalg.solve(own, cross.transpose(1, 2))
        return Normal(at.chi2, at.gradient, curvature)

    def chi2_and_gradient(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return chi2 (k,) and its gradient (k, m) alone."""
        with torch.no_grad():
            at = self._evaluate(x, rows)
        return at.chi2, at.gradient

    def _evaluate(self, x: Tensor, rows: Tensor) -> Evaluation:
        """Return chi2 and its gradient for some rows (k,) at parameters (k, m)."""
        labels, rv, widths = self.layout.split(x)
        local, by_width = self._broadened(self.flux_of.linearise(labels.float()), widths, rows)
        places = self._places(rv, rows)
        model, by_velocity = places.interpolate(local.flux)
        best = self._profile(model, places, rows)
        residual = best.total - self.flux[rows]
        weighted = self.ivar[rows] * residual
        levelled = weighted * best.level
        from_flux = places.transpose(levelled)
        by_rv = self._velocity_derivative(local.flux)
        gradient = torch.cat(
            [
                local.project(from_flux),
                (levelled * by_velocity).sum(1, keepdim=True)[:, : by_rv.shape[1]],
                (by_width @ from_flux[:, :, None])[:, :, 0],
            ],
            dim=1,
        )
        chi2 = (weighted * residual).double().sum(1) + best.penalty
        return Evaluation(local, rv, places, by_rv, by_width, best, chi2, gradient)

    def _curvature(
        self, local: Linearised, density: Tensor, others: Tensor, rows: Tensor, rough: bool
    ) -> Tensor:
        """Return products (n, k, k) of derivatives by labels, by others (n, e, p), and by the modes."""
        curvature = local.curvature(density, others, self.modes, rough=rough)
        scale = torch.ones(curvature.shape[:2])
        scale[:, scale.shape[1] - len(self.modes) :] = self.spread[rows, None]
        return curvature * scale[:, :, None] * scale[:, None]

    def _nuisances(self, flux: Tensor, rv: Tensor, rows: Tensor, best: ProfiledFlux) -> list[Tensor]:
        """Return derivatives (n, e, p) by coefficients of the continuum, over it, on the model's pixels."""
        if self.continuum is None:
            return []
        there = self.continuum.basis(self.wavelength * self._doppler(rv, rows))
        level = (there @ best.coefficients[:, : there.shape[2]])[:, :, 0]
        share = torch.where(level.abs() > 0, flux / level, 0.0)
        return [share[:, None] * there.transpose(1, 2)]

    def _doppler(self, rv: Tensor, rows: Tensor) -> Tensor:
        """Return observed over emitted wavelength (n, 1)."""
        return doppler_factor(rv if self.rv is None else self.rv[rows])[:, None]

    def _profile(self, model: Tensor, places: Places, rows: Tensor) -> ProfiledFlux:
        """Return models (n, q) with the best coefficients of continuum and modes."""
        data, weight = self.flux[rows], self.ivar[rows]
        precision = None if self.precision is None else self.precision[rows]
        if self.continuum is None:
            level, columns, target = torch.ones(()), model[:, :, None][:, :, :0], data - model
        else:
            basis = self.continuum.basis(self.observed)
            columns, target = model[:, :, None] * basis, data
            # Modes are multiplied by the continuum: by that without them, so that all stays linear.
            level = (basis @ solve_linear(columns, weight, data))[:, :, 0]
        count = columns.shape[2]
        if count + len(self.modes) == 0:
            return ProfiledFlux(model, level, torch.zeros(len(model), 0, 1), 0)
        amplitude = (self.spread[rows, None] * level).expand_as(data)
        near = places.nearest.expand_as(data)

        def on_model_pixels(values: Tensor) -> Tensor:
            return torch.zeros(len(data), len(self.wavelength)).scatter_add_(1, near, values)

        # Modes are the same for all rows: their products need no copy of them for each row.
        weighted, scaled = weight[:, :, None] * columns, weight * amplitude
        own = torch.zeros(len(data), count + len(self.modes), count + len(self.modes), dtype=torch.float64)
        own[:, :count, :count] = weighted.transpose(1, 2) @ columns
        for number in range(count):
            cross = on_model_pixels(scaled * columns[:, :, number]) @ self.modes.T
            own[:, number, count:] = own[:, count:, number] = cross.double()
        own[:, count:, count:] = weighted_products(self.modes, on_model_pixels(scaled * amplitude))
        known = [weighted.transpose(1, 2) @ target[:, :, None]]
        known.append((on_model_pixels(scaled * target) @ self.modes.T)[:, :, None])
        coefficients = torch.linalg.solve(regularise(own, count, precision), torch.cat(known, dim=1).double())
        coefficients = coefficients.float()
        errors = (coefficients[:, count:, 0] @ self.modes).gather(1, near) * amplitude
        total = (columns @ coefficients[:, :count])[:, :, 0] + errors
        if self.continuum is None:
            return ProfiledFlux(total + model, level, coefficients, count, precision)
        level = (basis @ coefficients[:, :count])[:, :, 0]
        return ProfiledFlux(total, level, coefficients, count, precision)

    def model(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the flux that is compared with the data (k, q), and the continuum in it."""
        labels, rv, widths = self.layout.split(x)
        with torch.no_grad():
            flux = self.flux_of(labels.float())
            if self.kernels is not None:
                flux = self.kernels.convolve(flux, self.kernels.transform(widths))
            places = self._places(rv, rows)
            best = self._profile(model := places.interpolate(flux)[0], places, rows)
            return best.total, best.level.expand_as(model)

    def flux_and_derivatives(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return spectra (k, q) with a continuum of 1 as the data see them, and derivatives (k, m, q)."""
        labels, rv, widths = self.layout.split(x)
        with torch.no_grad():
            local, by_width = self._broadened(self.flux_of.linearise(labels.float()), widths, rows)
            by_rv = self._velocity_derivative(local.flux)
            columns = torch.cat([local.flux[:, None], local.columns(slice(None)), by_rv, by_width], dim=1)
            k, m, p = columns.shape
            places = self._places(rv.repeat_interleave(m), rows.repeat_interleave(m))
            moved, _ = places.interpolate(columns.reshape(k * m, p))
            moved = moved.reshape(k, m, -1)
        return moved[:, 0], moved[:, 1:]

    def models(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return :meth:`model` for all rows (n, q)."""
        parts = [self.model(x[rows], rows) for rows in torch.split(torch.arange(self.rows), self.chunk)]
        empty = self.flux[:0]
        return torch.cat([empty, *(a for a, _ in parts)]), torch.cat([empty, *(b for _, b in parts)])

    def _broadened(
        self, local: Linearised, widths: Mapping[str, Tensor], rows: Tensor
    ) -> tuple[Linearised, Tensor]:
        """Return spectra and derivatives after broadening, and the derivatives (n, e, p) by free widths."""
        if self.kernels is None:
            return local, local.flux[:, None][:, :0]
        kernels = self.kernels
        bare = kernels.spectrum(local.flux)
        broadened = BroadenedLinearised(local, kernels, kernels.transform(widths), bare)

        def change(name: str, less: Tensor, more: Tensor) -> Tensor:
            ends = [kernels.transform({**widths, name: width}) for width in (less, more)]
            return kernels.back(bare * (ends[1] - ends[0]))

        by_width = [local.flux[:, None][:, :0]]
        for name in self.layout.widths:
            width = widths[name]
            apart = DIFFERENCE * width
            if name != "resolving_power":
                new = self.least[name][rows].isnan()
                if new.any():
                    pixel = torch.full_like(width, self.step)
                    power = change(name, torch.zeros_like(width), pixel).square().mean(1) * self.weight[rows]
                    # Spectra change with the square of a small width: at zero, the derivative is none.
                    self.least[name][rows[new]] = self.step * power[new].clamp(min=1e-12).pow(-0.25)
                least = self.least[name][rows]
                apart = torch.where(width < FEW * least, least, apart).clamp(max=BOUNDS[name][1] / FEW)
            less, more = (width - apart).clamp(min=0), width + apart
            by_width.append((change(name, less, more) / (more - less)[:, None])[:, None])
        return broadened, torch.cat(by_width, dim=1)

    def _velocity_derivative(self, flux: Tensor) -> Tensor:
        """Return the derivative (n, 1, p) by velocity; none (n, 0, p) where that is fixed."""
        if not self.layout.rv:
            return flux[:, None][:, :0]
        derivative = torch.zeros_like(flux)
        derivative[:, 1:-1] = (flux[:, 2:] - flux[:, :-2]) * self.by_velocity
        return derivative[:, None]

    def _places(self, rv: Tensor, rows: Tensor) -> Places:
        """Return where the pixels of the data are among those of the model."""
        if self.rv is not None:
            rv = self.rv[rows]
        still = not self.layout.rv and self.same and bool((rv == 0).all())
        return SamePlaces(self.pixels) if still else self.pixels.places(self.observed, rv)


def regularise(own: Tensor, count: int, precision: Tensor | None = None) -> Tensor:
    """Return normal matrices (n, k, k) with what is known beforehand of their coefficients.

    The first ``count`` are free; the others have a prior of unit variance, or of a ``precision`` (n, r, r).
    """
    more = torch.ones(own.shape[:2], dtype=own.dtype)
    if count:
        # A little, so that windows without data do not make the matrix singular.
        size = own.diagonal(dim1=1, dim2=2)[:, :count].mean(1, keepdim=True).clamp(min=1e-30)
        more[:, :count] = RIDGE * size
    known = torch.diag_embed(more)
    if precision is not None:
        known[:, count:, count:] = precision
    return own + known


def solve_linear(design: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Return the best coefficients (n, k, 1) of a design (n, q, k)."""
    weighted = (weight[:, :, None] * design).transpose(1, 2)
    own = regularise((weighted @ design).double(), design.shape[2])
    coefficients: Tensor = torch.linalg.solve(own, (weighted @ target[:, :, None]).double())
    return coefficients.float()
