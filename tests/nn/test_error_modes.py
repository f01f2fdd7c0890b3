"""Errors that pixels have in common, and where they are larger."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from draper.nn.error_modes import CommonErrors, common_errors, error_width
from draper.nn.module import Batch
from draper.nn.nearby import nearby_covariance
from draper.nn.spectral import SpectralNetwork

PIXELS = 60
SHAPES = torch.linalg.qr(torch.randn(PIXELS, 2, generator=torch.Generator().manual_seed(0))).Q.T


class Flat(SpectralNetwork):
    """Flux of 1, and slopes that are steep in the first label."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), PIXELS)

    def jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self(x), torch.tensor([1.0, 0.01]).expand(len(x), PIXELS, 2)

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        raise NotImplementedError


def found(sizes: Tensor, noise: float = 0.0) -> CommonErrors:
    """Return the errors of spectra in which two shapes have these sizes (n, 2)."""
    random = torch.Generator().manual_seed(1)
    n = len(sizes)
    x = torch.stack([torch.linspace(-0.5, 0.5, n), torch.rand(n, generator=random) - 0.5], dim=1)
    flux = 1 - sizes * torch.randn(n, 2, generator=random) @ SHAPES
    flux += noise * torch.randn(n, PIXELS, generator=random)
    ivar = torch.full_like(flux, 1 / noise**2 if noise else 1.0)

    def batches() -> Iterator[Batch]:
        yield {"labels": x, "flux": flux, "ivar": ivar}

    return common_errors(Flat(2, PIXELS), batches, torch.ones(n))


def where(n: int = 1800) -> Tensor:
    """Return sizes of errors: at low values of the first label those of the first shape are large."""
    low = (torch.arange(n) < n / 2).float()
    return torch.stack([low + 0.1, 1.1 - low], dim=1)


def test_errors_are_those_of_spectra_nearby() -> None:
    errors = found(where())
    width = error_width(Flat(2, PIXELS), errors)
    assert width[0] < 0.5 < width[1]
    x = torch.tensor([[-0.35, 0.0], [0.35, 0.0]])
    own = nearby_covariance(x, errors.labels, errors.amplitudes, width).float()
    near = torch.einsum("ap,nab,bq->npq", errors.modes, own, errors.modes)
    seen = torch.einsum("ap,npq,aq->na", SHAPES, near, SHAPES)
    assert seen[0, 0] == pytest.approx(1.21, rel=0.25)
    assert seen[1, 1] == pytest.approx(1.21, rel=0.25)
    assert max(seen[0, 1], seen[1, 0]) < 0.15


def test_errors_that_are_the_same_everywhere_have_one_covariance() -> None:
    assert torch.isinf(error_width(Flat(2, PIXELS), found(torch.ones(1800, 2)))).all()


def test_noisy_spectra_do_not_say_where_errors_are_larger() -> None:
    errors = found(where(), noise=0.05)
    assert len(errors.modes) == 2
    assert torch.isinf(error_width(Flat(2, PIXELS), errors)).all()


def test_a_spectrum_left_out_does_not_count() -> None:
    """Also among many labels, where rounding makes a distance to itself more than nothing."""
    random = torch.Generator().manual_seed(2)
    x, sizes = torch.rand(200, 10, generator=random) - 0.5, torch.randn(200, 3, generator=random)
    rows, width = torch.arange(60), torch.full((10,), 0.05)
    found = nearby_covariance(x[rows], x, sizes, width, rows)
    for row in range(60):
        kept = torch.arange(200) != row
        without = nearby_covariance(x[row : row + 1], x[kept], sizes[kept], width)[0]
        assert torch.allclose(found[row], without, rtol=1e-4, atol=1e-6)
