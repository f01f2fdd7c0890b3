"""Short vectors against the spectra that they stand for, and what is guessed from them."""

from __future__ import annotations

import torch
from made import drawn, network, noise, wavelength

from draper.infer.compressed import CompressedProblem, Compression, Guess
from draper.infer.instrument_model import PerceptronModel, instrument_model
from draper.infer.pixels import Layout, PixelProblem

SIGMA = 0.005


def compressed(n: int = 40) -> tuple[CompressedProblem, PixelProblem, torch.Tensor]:
    """Return the same data as short vectors and as pixels, and their labels."""
    made, lam = network(), torch.from_numpy(wavelength())
    x = drawn(n)
    flux = noise(made(x), SIGMA)
    model, change = instrument_model(made, lam, even=False, widths={})
    assert isinstance(model, PerceptronModel)
    ivar = torch.full_like(flux, SIGMA**-2)
    compression = Compression(model, ivar[0])
    pixel = PixelProblem(model, change.pixels, lam, flux, ivar, Layout(3, rv=False))
    return CompressedProblem(compression, *compression(flux)), pixel, x


def test_short_vectors_lose_nothing() -> None:
    short, pixel, x = compressed()
    rows = torch.arange(len(x))
    one, other = (problem.normal(x + 0.01, rows) for problem in (short, pixel))
    size = other.curvature.diagonal(dim1=1, dim2=2).sqrt()
    assert torch.allclose(one.chi2, other.chi2, rtol=2e-4)
    assert ((one.gradient - other.gradient) / size).abs().max() < 0.01
    assert torch.allclose(one.curvature.double(), other.curvature, rtol=1e-3, atol=1.0)


def test_slopes_are_those_of_normal_equations() -> None:
    short, pixel, x = compressed()
    rows = torch.arange(len(x))
    for problem in (short, pixel):
        normal = problem.normal(x + 0.01, rows)
        chi2, gradient = problem.chi2_and_gradient(x + 0.01, rows)
        size = normal.curvature.diagonal(dim1=1, dim2=2).sqrt()
        assert torch.allclose(chi2, normal.chi2, rtol=1e-6)
        assert ((gradient - normal.gradient) / size).abs().max() < 1e-3
    rough = short.normal(x + 0.01, rows, rough=True)
    full = short.normal(x + 0.01, rows)
    assert torch.allclose(rough.gradient, full.gradient, rtol=1e-4, atol=0.1)
    assert torch.allclose(rough.curvature, full.curvature, rtol=0.05, atol=float(full.curvature.max()) * 0.02)


def test_guesses_are_nearer_than_points() -> None:
    short, _, x = compressed()
    points = network().points
    rows = torch.arange(len(x))
    guessed = short.chi2_and_gradient(Guess(short.compression, points)(short.short), rows)[0]
    apart = torch.cdist(x, points).argmin(1)
    assert (guessed <= short.chi2_and_gradient(points[apart], rows)[0] + 0.1).all()
    assert guessed.median() < 2 * short.chi2_and_gradient(x, rows)[0].median()
