"""Transforms of the instrument, which do the same to every spectrum of a set.

Widths and velocities that differ between spectra are arguments of the functions in the other files.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from torch import Tensor

from draper.data.grid import Grid
from draper.data.resample import operator_between
from draper.errors import DraperError
from draper.instrument import broadening, continuum, noise
from draper.instrument.doppler import doppler_factor, shift
from draper.instrument.resample import Operator
from draper.instrument.transform import Transform


class Shift(Transform):
    """Move all spectra by one radial velocity [km/s].

    The weight of a new pixel is the smaller one of its two neighbours; pixels from beyond the ends are bad.

    Examples
    --------
    >>> grid = Grid.linear(5000, 5010, 1, medium="vacuum")
    >>> flux, ivar = Shift(grid, rv=100.0)(torch.ones(1, 11), torch.ones(1, 11))
    >>> ivar[0, :4]
    tensor([0., 0., 1., 1.])
    """

    kind = "shift"

    def __init__(self, grid: Grid, rv: float) -> None:
        super().__init__()
        self.grid, self.rv = grid, rv
        self.wavelength: Tensor
        # Double precision: at 9000 A a thousandth of a pixel is lost in float32.
        self.register_buffer("wavelength", torch.tensor(grid.vacuum, dtype=torch.float64), persistent=False)

    def forward(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return spectra that recede with the velocity."""
        rv = torch.full((len(flux),), self.rv, dtype=torch.float64, device=flux.device)
        moved, inside = shift(flux.double(), self.wavelength, rv)
        at = (self.wavelength / doppler_factor(rv[:1])).clamp(self.wavelength[0], self.wavelength[-1])
        right = torch.searchsorted(self.wavelength, at).clamp(1, len(at) - 1)
        weight = torch.minimum(ivar[:, right - 1], ivar[:, right])
        on_pixel = at == self.wavelength[right]
        weight = torch.where(on_pixel, ivar[:, right], weight)
        return moved.to(flux.dtype), torch.where(inside, weight, 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return grid and velocity."""
        return {"grid": self.grid.to_json(), "rv": self.rv}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Return the transform that :meth:`to_json` described."""
        return cls(Grid.from_json(state["grid"]), state["rv"])


class Broaden(Transform):
    """Broaden all spectra by the same rotation, macroturbulence [km/s] and line-spread function.

    The grid must be even in ln(lambda) and without gaps. Pixels near the ends, beyond which the profiles
    reach, become bad; the weights of the others stay, although their noise is now smoothed and correlated.
    """

    kind = "broaden"

    def __init__(
        self,
        grid: Grid,
        *,
        vsini: float | None = None,
        vmac: float | None = None,
        resolving_power: float | None = None,
        limb_darkening: float = 0.6,
    ) -> None:
        super().__init__()
        if len(grid.segments()) > 1:
            raise DraperError(
                "a grid with gaps cannot be broadened", given=repr(grid), hint="cut it into pieces"
            )
        self.grid, self.limb_darkening = grid, limb_darkening
        self.step = broadening.velocity_step(torch.tensor(grid.vacuum))
        widths = {"vsini": vsini, "vmac": vmac, "resolving_power": resolving_power}
        self.widths = {name: float(width) for name, width in widths.items() if width is not None}

    def forward(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return broadened flux, and weights that are 0 near the ends."""
        widths: dict[str, Any] = {name: torch.tensor(width) for name, width in self.widths.items()}
        broadened = broadening.broaden(flux, self.step, limb_darkening=self.limb_darkening, **widths)
        far = min(broadening.reach(self.step, **widths), flux.shape[1]) if widths else 0
        place = torch.arange(flux.shape[1], device=flux.device)
        return broadened, torch.where((place >= far) & (place < flux.shape[1] - far), ivar, 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return grid and widths."""
        return {"grid": self.grid.to_json(), "limb_darkening": self.limb_darkening, **self.widths}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Return the transform that :meth:`to_json` described."""
        options = {name: value for name, value in state.items() if name not in ("grid", "kind")}
        return cls(Grid.from_json(state["grid"]), **options)


class Resample(Transform):
    """Resample all spectra to another grid, as :func:`draper.data.resample.resample`, but differentiably."""

    kind = "resample"

    def __init__(self, source: Grid, target: Grid) -> None:
        super().__init__()
        self.source, self.target = source, target
        matrix, self.filled = operator_between(source, target)
        self.operator = Operator.from_matrix(matrix)

    def forward(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux and weights (n, q)."""
        return self.operator.with_errors(flux, ivar, self.filled)

    def to_json(self) -> dict[str, Any]:
        """Return both grids."""
        return {"source": self.source.to_json(), "target": self.target.to_json()}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Return the transform that :meth:`to_json` described."""
        return cls(Grid.from_json(state["source"]), Grid.from_json(state["target"]))


class Normalize(Transform):
    """Divide each spectrum by its continuum: a clipped fit of Chebyshev polynomials or splines.

    Examples
    --------
    >>> grid = Grid.linear(5000, 5100, 1, medium="vacuum")
    >>> flux = 3 + torch.linspace(0, 1, 101)[None]
    >>> Normalize(grid, degree=2)(flux, torch.ones_like(flux))[0][0, :2]
    tensor([1., 1.])
    """

    kind = "normalize"

    def __init__(
        self, grid: Grid, degree: int = 4, basis: Literal["chebyshev", "spline"] = "chebyshev"
    ) -> None:
        super().__init__()
        self.grid, self.degree, self.basis = grid, degree, basis
        if basis not in ("chebyshev", "spline"):
            raise DraperError("unknown basis", given=basis, expected="chebyshev or spline")
        functions = continuum.chebyshev_basis if basis == "chebyshev" else continuum.spline_basis
        self.functions: Tensor
        values = functions(torch.tensor(grid.vacuum, dtype=torch.float64), degree)
        self.register_buffer("functions", values, persistent=False)

    def forward(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return flux over continuum, and its weights; pixels whose continuum is not positive are bad."""
        level = continuum.continuum(flux, ivar, self.functions)
        good = (level > 0) & (ivar > 0)
        divisor = torch.where(good, level, 1.0)
        return torch.where(good, flux / divisor, 0.0), torch.where(good, ivar * divisor.square(), 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return grid, degree (or pieces) and basis."""
        return {"grid": self.grid.to_json(), "degree": self.degree, "basis": self.basis}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Return the transform that :meth:`to_json` described."""
        return cls(Grid.from_json(state["grid"]), state["degree"], state["basis"])


class AddNoise(Transform):
    """Add independent noise of one signal-to-noise ratio, for augmentation; the weights include it.

    Random numbers come from torch's generator, which the trainer seeds at every step.
    """

    kind = "add-noise"

    def __init__(self, snr: float, *, photons: bool = False) -> None:
        super().__init__()
        if not snr > 0:
            raise DraperError("the signal-to-noise ratio must be positive", given=snr)
        self.snr, self.photons = snr, photons

    def forward(self, flux: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
        """Return noisier flux, and weights of the sum of both variances."""
        snr = torch.full((len(flux),), self.snr, dtype=flux.dtype, device=flux.device)
        added = noise.ivar_from_snr(flux, snr, photons=self.photons)
        good = ivar > 0
        noisy = noise.add_noise(flux, torch.where(good, added, 0.0), torch.randn_like(flux))
        return noisy, torch.where(good, ivar * added / (ivar + added), 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return the ratio and the kind of noise."""
        return {"snr": self.snr, "photons": self.photons}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """Return the transform that :meth:`to_json` described."""
        return cls(state["snr"], photons=state["photons"])
