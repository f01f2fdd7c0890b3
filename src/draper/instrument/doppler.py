"""The relativistic Doppler shift."""

from __future__ import annotations

import torch
from torch import Tensor

from draper.instrument.resample import cubic

SPEED_OF_LIGHT = 299792.458
"""km/s."""


def doppler_factor(rv: Tensor) -> Tensor:
    """Return observed over emitted wavelength for radial velocities [km/s]; positive is receding.

    Examples
    --------
    >>> float(doppler_factor(torch.tensor(0.6 * SPEED_OF_LIGHT, dtype=torch.float64)))
    2.0
    """
    beta = rv / SPEED_OF_LIGHT
    return torch.sqrt((1 + beta) / (1 - beta))


def shift(
    flux: Tensor, wavelength: Tensor, rv: Tensor, target: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Move spectra by radial velocities, by cubic interpolation.

    Parameters
    ----------
    flux : Tensor (n, p)
        Rest-frame spectra.
    wavelength : Tensor (p,)
        Their pixels, increasing.
    rv : Tensor (n,)
        km/s.
    target : Tensor (q,), optional
        Observed pixels; the same unless given.

    Returns
    -------
    Tensor (n, q), Tensor (n, q)
        Shifted flux, and whether the pixel was inside the rest-frame range; outside stands the end's value.
    """
    observed = wavelength if target is None else target
    return cubic(flux, wavelength, observed / doppler_factor(rv)[:, None])
