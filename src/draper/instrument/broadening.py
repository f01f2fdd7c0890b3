"""Broadening of lines by the star and the spectrograph, as products in Fourier space on ln(lambda).

Each profile has a Fourier transform in closed form, so all of them together cost one transform and its
inverse, nothing is tabulated, and all are differentiable in their widths. Pixels have equal widths in
ln(lambda), that is in velocity; spectra are continued by their end values as far as the profiles reach, so
that nothing wraps around.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from draper.errors import DraperError
from draper.instrument.doppler import SPEED_OF_LIGHT
from draper.instrument.resample import FWHM

EVEN = 1e-4
"""Largest relative difference between the velocity steps of a grid that counts as even."""


def velocity_step(wavelength: Tensor) -> float:
    """Return the width of the pixels (p,) in km/s; they must be even in ln(lambda).

    Examples
    --------
    >>> round(velocity_step(torch.exp(torch.arange(9.0, 9.1, 1e-3, dtype=torch.float64))), 3)
    299.792
    """
    steps = torch.diff(torch.log(wavelength.double()))
    mean = float(steps.mean())
    if float((steps - mean).abs().max()) > EVEN * mean:
        raise DraperError(
            "broadening needs pixels that are even in ln(lambda)",
            given=f"steps of {float(steps.min()):.3g} to {float(steps.max()):.3g}",
            hint="resample onto Grid.log first",
        )
    return mean * SPEED_OF_LIGHT


def gaussian(frequency: Tensor, sigma: Tensor) -> Tensor:
    """Return the transform of a Gaussian of standard deviation ``sigma`` [km/s] at frequencies [s/km]."""
    return torch.exp(-2 * (torch.pi * frequency * sigma).square())


def rotation(frequency: Tensor, vsini: Tensor, limb_darkening: float | Tensor = 0.6) -> Tensor:
    """Return the transform of the rotational profile (Gray 2005) with linear limb darkening epsilon."""
    u = 2 * torch.pi * frequency * vsini
    epsilon = torch.as_tensor(limb_darkening, dtype=u.dtype, device=u.device)
    # Below, differences of nearly equal numbers; the series are exact to 1e-10.
    small = u.abs() < 0.5
    v = torch.where(small, 1.0, u)  # any value will do where the series are used
    w = torch.where(small, u, 0.0).square()
    series = 0.5 + w * (-1 / 16 + w * (1 / 384 + w * (-1 / 18432 + w / 1474560)))
    disc = torch.where(small, series, _bessel_ratio(v))
    series = 1 / 3 + w * (-1 / 30 + w * (1 / 840 + w * (-1 / 45360 + w / 3991680)))
    inverse = 1 / v
    parabola = torch.where(small, series, (torch.sin(v) * inverse - torch.cos(v)) * inverse * inverse)
    return 2 * ((1 - epsilon) * disc + epsilon * parabola) / (1 - epsilon / 3)


def radial_tangential(frequency: Tensor, vmac: Tensor) -> Tensor:
    """Return the transform of the radial-tangential macroturbulence (Gray 2005) of width zeta = ``vmac``.

    Both streams are equally strong; the transform of 2/sqrt(pi) (exp(-x^2) - sqrt(pi) x erfc(x)) with
    x = abs(v) / zeta is (1 - exp(-w)) / w with w = (pi f zeta)^2.
    """
    w = (torch.pi * frequency * vmac).square()
    small = w < 1e-3
    v = torch.where(small, 1.0, w)
    return torch.where(small, 1 - w / 2 + w.square() / 6, -torch.expm1(-v) / v)


def broaden(
    flux: Tensor,
    step: float,
    *,
    vsini: Tensor | None = None,
    vmac: Tensor | None = None,
    resolving_power: Tensor | None = None,
    limb_darkening: float | Tensor = 0.6,
    macroturbulence: str = "radial-tangential",
) -> Tensor:
    """Broaden spectra (n, p), or several for each width (n, k, p), on pixels of equal width ``step`` [km/s].

    Parameters
    ----------
    flux : Tensor (n, p) or (n, k, p)
        Spectra.
    step
        From :func:`velocity_step`.
    vsini, vmac : Tensor (n,) or (), optional
        Projected rotation and macroturbulence [km/s]; none where left out.
    resolving_power : Tensor (n,) or (), optional
        lambda / FWHM of a Gaussian line-spread function.
    limb_darkening
        Linear coefficient epsilon.
    macroturbulence
        ``radial-tangential``, or ``gaussian``: exp(-(v / vmac)^2).

    Returns
    -------
    Tensor
        Of the shape of ``flux``. Pixels nearer to an end than :func:`reach` see continued values there.
    """
    widths = {"vsini": vsini, "vmac": vmac, "resolving_power": resolving_power}
    given = {
        name: torch.as_tensor(width, dtype=flux.dtype, device=flux.device)
        for name, width in widths.items()
        if width is not None
    }
    if not given:
        return flux
    kernels = Kernels(flux.shape[-1], step, given)
    return kernels.convolve(flux, kernels.transform(given, limb_darkening, macroturbulence))


class Kernels:
    """The linear map that :func:`broaden` is, its transpose, and the transforms of its profiles.

    Parameters
    ----------
    pixels
        Number of pixels p.
    step
        Their width [km/s].
    widest : mapping of str to Tensor
        Widths that profiles may have: no spectrum is continued further than these reach.
    """

    def __init__(self, pixels: int, step: float, widest: Mapping[str, Tensor]) -> None:
        largest: dict[str, Any] = {name: width.detach() for name, width in widest.items()}
        self.pixels, self.step = pixels, step
        # Fourier transforms are periodic: the continuation keeps the two ends apart.
        self.padding = min(reach(step, **largest), 4 * pixels)
        self.length = _fast_length(pixels + 2 * self.padding)

    def transform(
        self,
        widths: Mapping[str, Tensor],
        limb_darkening: float | Tensor = 0.6,
        macroturbulence: str = "radial-tangential",
    ) -> Tensor:
        """Return the transform (n or 1, f) of the profiles of widths (n,) or ()."""
        each = {name: width.reshape(-1, 1) for name, width in widths.items()}
        example = next(iter(each.values()))
        frequency = torch.fft.rfftfreq(self.length, d=self.step, dtype=example.dtype, device=example.device)
        transform: Any = 1.0
        if "vsini" in each:
            transform = transform * rotation(frequency, each["vsini"], limb_darkening)
        if "vmac" in each:
            if macroturbulence == "radial-tangential":
                transform = transform * radial_tangential(frequency, each["vmac"])
            elif macroturbulence == "gaussian":
                transform = transform * gaussian(frequency, each["vmac"] / 2**0.5)
            else:
                raise DraperError(
                    "unknown macroturbulence", given=macroturbulence, expected="radial-tangential or gaussian"
                )
        if "resolving_power" in each:
            sigma = SPEED_OF_LIGHT / (FWHM * each["resolving_power"])
            transform = transform * gaussian(frequency, sigma)
        result: Tensor = transform
        return result

    def spectrum(self, flux: Tensor) -> Tensor:
        """Return the transform (..., f) of spectra (..., p) that are continued by their end values."""
        before = flux[..., :1].expand(*flux.shape[:-1], self.padding)
        after = flux[..., -1:].expand(*flux.shape[:-1], self.length - self.pixels - self.padding)
        spectrum: Tensor = torch.fft.rfft(torch.cat([before, flux, after], dim=-1))
        return spectrum

    def spectrum_of_blocks(self, blocks: Iterable[tuple[slice, Tensor]], rows: Sequence[int]) -> Tensor:
        """Return the same of spectra (*rows, p) that come as slices of pixels."""
        extended = torch.empty(*rows, self.length)
        inner = extended[..., self.padding : self.padding + self.pixels]
        for pixels, values in blocks:
            inner[..., pixels] = values
        extended[..., : self.padding] = inner[..., :1]
        extended[..., self.padding + self.pixels :] = inner[..., -1:]
        spectrum: Tensor = torch.fft.rfft(extended)
        return spectrum

    def back(self, spectrum: Tensor) -> Tensor:
        """Return the spectra (..., p) of transforms (..., f)."""
        flux: Tensor = torch.fft.irfft(spectrum, n=self.length)
        return flux[..., self.padding : self.padding + self.pixels]

    def convolve(self, flux: Tensor, transform: Tensor) -> Tensor:
        """Return spectra (n, p), or several for each profile (n, k, p), broadened by profiles (n or 1, f)."""
        return self.back(self.spectrum(flux) * (transform if flux.dim() == 2 else transform[:, None]))

    def transpose(self, values: Tensor, transform: Tensor) -> Tensor:
        """Return the transpose of :meth:`convolve` applied to values (n, p)."""
        first, last = self.padding, self.padding + self.pixels
        # Profiles are symmetric, and the transpose of a continuation is a sum into the end.
        after = functional.pad(values, (first, self.length - last))
        spread: Tensor = torch.fft.irfft(torch.fft.rfft(after) * transform, n=self.length)
        total = spread[:, first:last].clone()
        total[:, 0] += spread[:, :first].sum(1)
        total[:, -1] += spread[:, last:].sum(1)
        return total


def reach(
    step: float,
    vsini: Tensor | None = None,
    vmac: Tensor | None = None,
    resolving_power: Tensor | None = None,
) -> int:
    """Return how many pixels of width ``step`` [km/s] the profiles reach, to 1e-6 of their area."""
    far = 0.0
    if vsini is not None:
        far += float(torch.as_tensor(vsini).max())
    if vmac is not None:
        far += 3.5 * float(torch.as_tensor(vmac).max())
    if resolving_power is not None:
        far += 5 * SPEED_OF_LIGHT / (FWHM * float(torch.as_tensor(resolving_power).min()))
    return int(far / step) + 2


def _fast_length(length: int) -> int:
    """Return the next length that is a product of small primes."""
    from scipy.fft import next_fast_len

    return int(next_fast_len(length, real=True))


def _bessel_ratio(u: Tensor) -> Tensor:
    ratio: Tensor = _BesselRatio.apply(u)  # type: ignore[no-untyped-call]
    return ratio


class _BesselRatio(torch.autograd.Function):
    """J1(u) / u, whose derivative is -J2(u) / u; torch has the function but not its derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor) -> Tensor:
        ratio: Tensor = torch.special.bessel_j1(u) / u
        return ratio

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def slope(u: Tensor) -> Tensor:
        slope: Tensor = -(2 * torch.special.bessel_j1(u) / u - torch.special.bessel_j0(u)) / u
        return slope

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * _BesselRatio.slope(ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent * _BesselRatio.slope(ctx.saved_tensors[0])
