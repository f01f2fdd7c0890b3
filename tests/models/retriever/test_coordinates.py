"""Coordinates are one-to-one in the whole box, their volume is that of finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from draper import Label, LabelSet
from draper.configs.retriever import RetrieveConfig
from draper.models.retriever.coordinates import BoxCoordinates, Coordinates, Place, PlanetCoordinates
from draper.models.retriever.prior import Prior
from draper.models.retriever.summary import Reference
from draper.simulate.planets import Planets, opacities
from draper.simulate.transit import is_bound, relative_height, transit_depth

SETTINGS = [
    {"box": "wide"},
    {"box": "exogan"},
    {"box": "wide", "clouds": True, "haze": True, "exact_weight": True},
]
BOX = LabelSet([Label("teff", low=4000, high=7000), Label("logg", low=0, high=5)])


def drawn(planets: Planets, n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Return labels and fine spectra."""
    spectra = planets.simulate(n, seed)
    return torch.from_numpy(planets.prior.read(spectra.table)), torch.from_numpy(np.array(spectra.flux))


def references(n: int, sigma: float, seed: int = 0) -> Reference:
    """Return references around a depth of one percent."""
    generator = torch.Generator().manual_seed(seed)
    centre = math.log(0.01) / 2 + 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)
    return Reference(centre, torch.full_like(centre, sigma))


def nothing(n: int) -> Reference:
    return Reference(torch.zeros(n).double(), torch.ones(n).double())


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda one: " ".join(map(str, one.values())))
def planets(request: pytest.FixtureRequest) -> Planets:
    return Planets(**request.param)


def exact(
    planets: Planets, labels: torch.Tensor, reference: Reference, swapped: int | None = 0
) -> torch.Tensor:
    """Return the coordinates of labels in double precision, written down once more."""
    names = planets.prior.names
    columns = dict(zip(names, labels.T, strict=True))
    micron = planets.grid.vacuum / 1e4
    used = np.flatnonzero((micron >= 1.1) & (micron < 1.7))[::12]
    parts = [part[..., used] for part in opacities(torch.float64)]
    depth = transit_depth(
        labels[:, :7],
        type(opacities())(*parts),
        cloud_top=columns.get("log_cloud_top"),
        haze=columns.get("log_haze"),
        exact_weight=planets.exact_weight,
    )
    low, high = (torch.from_numpy(end) for end in (planets.prior.low, planets.prior.high))
    values = torch.special.ndtri((labels - low) / (high - low))
    if swapped is not None:
        values[:, swapped] = (relative_height(labels[:, :7], planets.exact_weight).log() + 5.5) / 1.2
    values[:, 2] = (depth.mean(1).log() / 2 - reference.centre) / reference.sigma
    return values


@pytest.mark.parametrize("swapped", [0, 1, None], ids=["mass", "temperature", "none"])
@pytest.mark.parametrize("sigma", [1e-5, 1.0])
def test_planets_come_back_from_their_coordinates(
    planets: Planets, sigma: float, swapped: int | None
) -> None:
    labels, flux = drawn(planets, 500)
    coordinates, reference = PlanetCoordinates(planets, swapped), references(500, sigma)
    values = coordinates.of(labels, flux, reference)
    expected = exact(planets, labels, reference, swapped)
    torch.testing.assert_close(values * sigma, expected * sigma, rtol=1e-5, atol=1e-6)
    place = coordinates.place(values, reference)
    assert place.inside.all()
    torch.testing.assert_close(place.labels, labels, rtol=3e-5, atol=1e-9)


@pytest.mark.parametrize("swapped", [0, 1, None], ids=["mass", "temperature", "none"])
def test_volume_is_the_determinant_of_finite_differences(planets: Planets, swapped: int | None) -> None:
    labels, flux = drawn(planets, 60, seed=3)
    reference = references(60, 0.01)
    coordinates = PlanetCoordinates(planets, swapped)
    place = coordinates.place(coordinates.of(labels, flux, reference), reference)
    columns = []
    for number, width in enumerate((planets.prior.high - planets.prior.low).tolist()):
        step = torch.zeros_like(labels)
        step[:, number] = 1e-6 * width
        above, below = (exact(planets, labels + sign * step, reference, swapped) for sign in (1, -1))
        columns.append((above - below) / (2e-6 * width))
    jacobian = torch.stack(columns, dim=2)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(place.log_volume, expected, rtol=0, atol=5e-3)


def test_samples_of_the_box_have_its_density() -> None:
    coordinates = BoxCoordinates(BOX)
    values = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    place = coordinates.place(values, nothing(1000))
    # Standard normal coordinates are the uniform prior.
    log_density = stats.norm.logpdf(values.numpy()).sum(1) + place.log_volume.numpy()
    np.testing.assert_allclose(log_density, coordinates.log_prior, atol=1e-4)
    assert coordinates.log_prior == pytest.approx(-math.log(3000 * 5))
    assert place.inside.all()
    assert BOX.inside(place.labels.numpy()).all()
    back = coordinates.of(place.labels, torch.zeros(1000, 0), nothing(1000))
    torch.testing.assert_close(back, values.double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["box", "mass", "temperature", "none"])
def test_no_coordinates_leave_the_prior_unnoticed(kind: str) -> None:
    planets = Planets()
    coordinates: Coordinates = BoxCoordinates(BOX)
    if kind != "box":
        coordinates = PlanetCoordinates(planets, {"mass": 0, "temperature": 1, "none": None}[kind])
    values = torch.randn(3000, len(coordinates.low), generator=torch.Generator().manual_seed(0))
    values[0], values[1], values[2, 0] = math.inf, math.nan, -math.inf
    place: Place = coordinates.place(values, references(3000, 0.3))
    assert not place.inside[:3].any()
    good = place.labels[place.inside]
    assert torch.isfinite(place.log_volume[place.inside]).all()
    assert (BOX if kind == "box" else planets.prior).inside(good.numpy()).all()
    if kind != "box":
        assert is_bound(good[:, :7]).all()
        assert 0.1 < place.inside.double().mean() < 0.995
        flux = planets.depth(good.float())
        again = coordinates.of(good, flux, Reference(*(p[place.inside] for p in references(3000, 0.3))))
        torch.testing.assert_close(again, values[place.inside].double(), rtol=1e-3, atol=1e-3)


def test_planets_outside_the_prior_are_said_to_be() -> None:
    planets = Planets(box="exogan")
    coordinates = PlanetCoordinates(planets)
    wide = Planets()
    labels, flux = drawn(wide, 400)
    labels[:, 1] = 1500.0
    flux = wide.depth(labels.float())
    reference = references(400, 0.1)
    place = coordinates.place(coordinates.of(labels, flux, reference), reference)
    inside = torch.from_numpy(planets.prior.inside(labels.numpy()))
    assert 10 < inside.sum() < 390
    assert torch.equal(place.inside, inside)


def test_coordinates_move_with_the_reference(planets: Planets) -> None:
    labels, flux = drawn(planets, 50)
    coordinates = PlanetCoordinates(planets)
    one, other = references(50, 0.01, seed=1), references(50, 0.2, seed=2)
    moved = coordinates.moved(coordinates.of(labels, flux, one), one, other)
    torch.testing.assert_close(moved, coordinates.of(labels, flux, other))
    # Where labels are known, other coordinates of the same labels serve better.
    values = coordinates.of(labels, flux, one)
    for known, swapped in (((), 0), ((1, 3), 0), ((0,), 1), ((0, 1), None)):
        suited = coordinates.suited(confining(planets.prior, known))
        assert suited.swapped == swapped
        torch.testing.assert_close(suited.recast(values, labels), suited.of(labels, flux, one))
    box = BoxCoordinates(planets.prior)
    assert box.suited(confining(planets.prior, (0, 1))) is box
    values = box.of(labels, flux, one)
    assert torch.equal(box.moved(values, one, other), values)


def confining(labels: LabelSet, known: tuple[int, ...]) -> Prior:
    """Return a prior that confines some labels to a tenth of their ranges, and others by a Gaussian."""
    options: dict[str, dict[str, tuple[float, float]]] = {"priors": {}, "bounds": {}}
    for place, number in enumerate(known):
        label = labels[number]
        width = (label.high - label.low) / 10
        middle = (label.high + label.low) / 2
        if place % 2:
            options["bounds"][label.name] = middle - width / 2, middle + width / 2
        else:
            options["priors"][label.name] = middle, width
    return Prior.of(RetrieveConfig(**options), labels)


@pytest.mark.parametrize("known", [(3, 4), (0, 3), (0, 1, 3)])
def test_no_sample_leaves_the_prior_in_confined_coordinates(planets: Planets, known: tuple[int, ...]) -> None:
    prior = confining(planets.prior, known)
    for coordinates in (PlanetCoordinates(planets).suited(prior), BoxCoordinates(planets.prior)):
        confined = coordinates.confined(prior)
        labels, flux = drawn(planets, 200)
        ends = (prior.at(np.full((1, len(prior.low)), place)) for place in (1e-3, 1 - 1e-3))
        labels = torch.from_numpy(np.clip(labels.numpy(), *ends))
        flux = planets.depth(labels.float())
        reference = references(200, 0.1)
        plain = coordinates.of(labels, flux, reference)
        values = confined.restated(plain, labels)
        torch.testing.assert_close(values, confined.of(labels, flux, reference), rtol=1e-4, atol=1e-3)
        there, here = confined.place(values, reference), coordinates.place(plain, reference)
        good = here.inside & there.inside
        assert good.float().mean() > 0.5
        torch.testing.assert_close(there.labels[good], here.labels[good], rtol=1e-3, atol=1e-3)
        alone = coordinates.log_slope(plain)[:, list(known)] - confined.log_slope(values)[:, list(known)]
        change = here.log_volume - there.log_volume
        torch.testing.assert_close(change[good], alone.sum(1)[good], rtol=1e-3, atol=0.02)
        inside = torch.randn(500, len(planets.prior), generator=torch.Generator().manual_seed(0)).double()
        drawn_labels = confined.place(inside, references(500, 0.1)).labels[:, list(known[1:])].numpy()
        own = list(known[1:])
        assert (drawn_labels >= prior.low[own]).all()
        assert (drawn_labels <= prior.high[own]).all()
