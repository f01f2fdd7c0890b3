"""Transforms: what they do, that they travel, and that they can be differentiated."""

import json

import numpy as np
import pytest
import torch

from draper.data.grid import Grid
from draper.data.resample import resample
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.instrument.observing import AddNoise, Broaden, Normalize, Resample, Shift
from draper.instrument.pipeline import KINDS, Pipeline
from draper.instrument.standardize import Standardize

GRID = Grid.log(8460, 8700, 1.5e-5, medium="vacuum")
P = len(GRID)
FINE, COARSE = Grid.linear(8460, 8700, 0.3, medium="vacuum"), Grid.linear(8470, 8690, 1.1, medium="vacuum")


def spectra(n: int = 3, p: int = P) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    flux = 1 - 0.3 * torch.rand(n, p, generator=generator)
    ivar = 100 + 50 * torch.rand(n, p, generator=generator)
    ivar[0, 100:110] = 0
    return flux, ivar


def made() -> list:
    return [
        Standardize(P),
        Shift(GRID, 35.5),
        Broaden(GRID, vsini=12.0, resolving_power=11_500.0),
        Resample(FINE, COARSE),
        Normalize(GRID, 3),
        Normalize(GRID, 4, "spline"),
        AddNoise(50.0, photons=True),
    ]


@pytest.mark.parametrize("transform", made(), ids=lambda transform: transform.kind)
def test_comes_back_from_json(transform) -> None:
    states = json.loads(json.dumps(Pipeline([transform]).to_json()))
    back = Pipeline.from_json(states)
    back.load_state_dict(Pipeline([transform]).state_dict())
    flux, ivar = spectra(p=len(FINE) if transform.kind == "resample" else P)
    results = []
    for one in (Pipeline([transform]), back):
        torch.manual_seed(0)
        results.append(one(flux, ivar))
    for before, after in zip(*results, strict=True):
        assert torch.equal(before, after)


def test_every_kind_is_tried() -> None:
    assert {transform.kind for transform in made()} == set(KINDS)
    with pytest.raises(DraperError, match="did you mean 'shift'"):
        Pipeline.from_json([{"kind": "shfit"}])


@pytest.mark.parametrize("transform", made()[:-1], ids=lambda transform: transform.kind)
def test_can_be_differentiated(transform) -> None:
    flux, ivar = spectra(p=len(FINE) if transform.kind == "resample" else P)
    flux.requires_grad_()
    result, weight = transform(flux, ivar)
    (result * (weight > 0)).square().sum().backward()
    assert torch.isfinite(flux.grad).all()
    assert float(flux.grad.abs().sum()) > 0


@pytest.mark.parametrize("transform", made()[1:], ids=lambda transform: transform.kind)
def test_bad_pixels_stay_bad_and_lost_information_is_said(transform) -> None:
    flux, ivar = spectra(p=len(FINE) if transform.kind == "resample" else P)
    result, weight = transform(flux, ivar)
    assert torch.isfinite(result).all()
    assert bool((weight >= 0).all())
    assert bool((transform(flux, torch.zeros_like(ivar))[1] == 0).all())
    with pytest.raises(DraperError, match="cannot be undone"):
        transform.inverse(result, weight)


def test_shift_moves_mask_and_line_together() -> None:
    flux, ivar = torch.ones(1, P), torch.ones(1, P)
    flux[0, 400], ivar[0, 400] = 0.2, 0
    step = float(np.log(GRID.vacuum[1] / GRID.vacuum[0])) * 299_792.458
    moved, weight = Shift(GRID, 7 * step)(flux, ivar)
    assert int(moved[0].argmin()) == 407
    assert 407 in torch.nonzero(weight[0] == 0).flatten().tolist()
    assert weight[0, :7].tolist() == [0] * 7
    assert float(weight[0, 20:390].min()) == 1


def test_resample_agrees_with_the_readers() -> None:
    flux, ivar = spectra(p=len(FINE))
    for source, target in ((FINE, COARSE), (FINE, FINE[10:200:1])):
        found, weight = Resample(source, target)(flux, ivar)
        expected = resample(Spectra(source, flux.numpy(), ivar.numpy()), target)
        np.testing.assert_allclose(weight.numpy(), expected.ivar, rtol=1e-4)
        good = expected.ivar > 0
        np.testing.assert_allclose(found.numpy()[good], expected.flux[good], rtol=1e-4)


def test_broadening_marks_the_ends() -> None:
    flux, ivar = spectra()
    _, weight = Broaden(GRID, resolving_power=5000.0)(flux, ivar)
    bad = (weight[1] == 0).nonzero().flatten()
    step = float(np.log(GRID.vacuum[1] / GRID.vacuum[0])) * 299_792.458
    expected = 5 * 299_792.458 / 5000 / 2.3548 / step
    assert abs(int((bad < P // 2).sum()) - expected) < 4
    with pytest.raises(DraperError, match="gaps"):
        Broaden(GRID.cut([(8460, 8500), (8600, 8700)]), vsini=3.0)


def test_noise_adds_to_the_variance() -> None:
    flux, ivar = torch.ones(4000, 20), torch.full((4000, 20), 400.0)
    torch.manual_seed(0)
    noisy, weight = AddNoise(20.0)(flux, ivar)
    assert float((noisy - flux).std()) == pytest.approx(1 / 20, rel=0.02)
    torch.testing.assert_close(weight, torch.full_like(weight, 200.0))


def test_a_model_keeps_its_transforms() -> None:
    """Broadened to a survey's resolution and brought to its pixels, in one recorded chain."""
    chain = Pipeline(
        [Broaden(GRID, resolving_power=11_500.0), Resample(GRID, COARSE), Standardize(len(COARSE))]
    )
    flux, ivar = spectra()
    back = Pipeline.from_json(chain.to_json())
    back.load_state_dict(chain.state_dict())
    torch.testing.assert_close(back(flux, ivar)[0], chain(flux, ivar)[0])
    assert back(flux, ivar)[0].shape == (3, len(COARSE))
