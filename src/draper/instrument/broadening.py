"""Broadening of lines by the star and the spectrograph, as products in Fourier space on ln(lambda).

Each profile has a Fourier transform in closed form, so all of them together cost one transform and its
inverse, nothing is tabulated, and all are differentiable in their widths. Pixels have equal widths in
ln(lambda), that is in velocity; spectra are continued by their end values as far as the profiles reach, so
that nothing wraps around.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
    small = u.abs() < 0.05
    v = torch.where(small, 1.0, u)  # any value will do where the series is used
    disc = torch.where(small, 0.5 - u**2 / 16 + u**4 / 384, _bessel_ratio(v))
    parabola = torch.where(small, 1 / 3 - u**2 / 30 + u**4 / 840, (torch.sin(v) - v * torch.cos(v)) / v**3)
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
    shape = (-1, *(1,) * (flux.dim() - 1))
    given: dict[str, Tensor] = {
        name: torch.as_tensor(width, dtype=flux.dtype, device=flux.device).reshape(shape)
        for name, width in widths.items()
        if width is not None
    }
    if not given:
        return flux
    p = flux.shape[-1]
    pad = min(reach(step, **{name: width.detach() for name, width in given.items()}), 4 * p)
    length = _fast_length(p + 2 * pad)
    ends = (flux[..., :1].expand(*flux.shape[:-1], pad), flux[..., -1:])
    extended = torch.cat([ends[0], flux, ends[1].expand(*flux.shape[:-1], length - p - pad)], dim=-1)
    # The transform is periodic: the continuation keeps the two ends apart.
    frequency = torch.fft.rfftfreq(length, d=step, dtype=flux.dtype, device=flux.device)
    transform: Any = 1.0
    if "vsini" in given:
        transform = transform * rotation(frequency, given["vsini"], limb_darkening)
    if "vmac" in given:
        if macroturbulence == "radial-tangential":
            transform = transform * radial_tangential(frequency, given["vmac"])
        elif macroturbulence == "gaussian":
            transform = transform * gaussian(frequency, given["vmac"] / 2**0.5)
        else:
            raise DraperError(
                "unknown macroturbulence", given=macroturbulence, expected="radial-tangential or gaussian"
            )
    if "resolving_power" in given:
        transform = transform * gaussian(frequency, SPEED_OF_LIGHT / (FWHM * given["resolving_power"]))
    broadened: Tensor = torch.fft.irfft(torch.fft.rfft(extended) * transform, n=length)[..., pad : pad + p]
    return broadened


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
        (u,) = inputs
        slope = -(2 * torch.special.bessel_j1(u) / u - torch.special.bessel_j0(u)) / u
        ctx.save_for_backward(slope)
        ctx.save_for_forward(slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        result: Tensor = grad * slope
        return result

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        result: Tensor = tangent * slope
        return result
