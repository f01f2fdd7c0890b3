"""The planet model against integrals in float64, against its limits, and against real TauREx spectra."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import draper
from draper.configs.simulators import PlanetsConfig
from draper.data.labels import LabelSet
from draper.errors import DraperError
from draper.simulate import planets, transit
from draper.simulate.base import Simulator
from draper.simulate.planets import INSTRUMENTS, Planets
from draper.simulate.transit import Opacities

WAVELENGTH = np.array([0.6, 2.7, 4.5, 9.0])
PLANET = [1.1, 1400.0, 1.2, -3.2, -5.0, -4.1, -2.5]
STEPS = np.linspace(0, 30, 1501)


def made(dtype: torch.dtype = torch.float64) -> Opacities:
    """Return opacities of four bins that are as strong, curved and bent by pressure as the packed ones."""
    random = np.random.default_rng(3)

    def draw(mean: float, spread: float, *shape: int) -> torch.Tensor:
        return torch.from_numpy(mean + spread * random.standard_normal((*shape, 4))).to(dtype)

    strength = draw(3, 3, 4, 3)
    strength[:, 1:] /= 5
    return Opacities(
        torch.from_numpy(WAVELENGTH).to(dtype),
        draw(-3, 1, 3), strength, draw(2, 1, 4, 2), draw(0, 1, 4), draw(0, 0.3, 4), draw(0, 0.2, 4),
    )  # fmt: skip


def integral(
    planet: list[float], given: Opacities, bottom: float = 1e6, haze: float = 1.0, exact_weight: bool = False
) -> NDArray[np.float64]:
    """Return transit depths (p,) by sums over the path of each ray and over rays, in SI units."""
    mass, temperature, radius = planet[0] * 1.898e27, planet[1], planet[2] * 6.9911e7
    abundance = 10.0 ** np.array(planet[3:])
    hydrogen = (1 - abundance.sum()) / 1.17647
    helium = 0.17647 * hydrogen
    displaced = abundance.sum() if exact_weight else 0.0
    weight = abundance @ [18.015, 44.0095, 16.0425, 28.0101]
    weight += (1 - displaced) * (2.01588 + 0.17647 * 4.002602) / 1.17647
    slope = 6.67408e-11 * mass * weight * 1.66054e-27 / (1.380649e-23 * temperature)

    pressure = np.geomspace(bottom, 1e-5, 4001)
    r = 1 / (1 / radius - np.log(1e6 / pressure) / slope)
    length = np.sqrt(r**3 / slope)
    path = np.hypot(r[:, None], length[:, None] * STEPS)
    density = pressure[:, None] / (1.380649e-23 * temperature) * np.exp(-slope * (1 / r[:, None] - 1 / path))
    column = 2 * length * np.trapezoid(density, STEPS) * 1e-4
    pairs = 2 * length * np.trapezoid(density**2, STEPS) * 1e-53

    theta = 1500 / temperature - 1
    collisions, strength, saturation = (
        np.exp(sum(part.numpy()[..., k, :] * theta**k for k in range(part.shape[-2])))
        for part in (given.collisions, given.strength, given.saturation)
    )
    angstrom = given.wavelength.numpy() * 1e4
    on_hydrogen = 8.14e-13 / angstrom**4 + 1.28e-6 / angstrom**6 + 1.61 / angstrom**8
    on_helium = 5.484e-14 / angstrom**4 * (1 + 2.44e5 / angstrom**2)
    depth = column[:, None] * haze * (hydrogen * on_hydrogen + helium * on_helium)
    depth += (pairs * hydrogen * (hydrogen + 0.3 * helium))[:, None] * collisions
    p = pressure[:, None] / 1e4
    for gas in range(4):
        opacity = strength[gas] * 1e-24 * (1 + p) ** given.rise[gas].numpy()
        curve = saturation[gas] * (1 + np.exp(given.onset[gas].numpy()) * p) ** -np.exp(
            given.decay[gas].numpy()
        )
        depth += (np.sqrt(1 + 2 * curve * abundance[gas] * opacity * column[:, None]) - 1) / curve
    area = r[0] ** 2 + np.trapezoid(2 * r[:, None] * (1 - np.exp(-depth)), r, axis=0)
    return np.asarray(area / 6.95508e8**2)


def ppm(difference: NDArray[np.float64]) -> float:
    return float(np.abs(difference).max() * 1e6)


CORNERS = [
    PLANET,
    [0.8, 2000.0, 1.5, -1.0, -1.0, -1.0, -1.0],
    [0.8, 2000.0, 1.5, -8.0, -8.0, -8.0, -8.0],
    [2.0, 1000.0, 0.8, -8.0, -1.0, -5.0, -3.0],
]


@pytest.mark.parametrize("planet", CORNERS)
def test_model_is_the_integral(planet: list[float]) -> None:
    exact = integral(planet, made())
    labels = torch.tensor([planet], dtype=torch.float64)
    assert ppm(transit.transit_depth(labels, made(), nodes=400).numpy()[0] - exact) < 0.02
    assert ppm(transit.transit_depth(labels, made()).numpy()[0] - exact) < 1.0
    single = transit.transit_depth(labels.float(), made(torch.float32)).double().numpy()[0]
    assert ppm(single - transit.transit_depth(labels, made()).numpy()[0]) < 0.05


EXTENDED = [[0.1, 1100.0, 1.0, -3.0, -5.0, -4.0, -2.5], [0.41, 2500.0, 2.0, -4.0, -3.0, -6.0, -3.0]]


@pytest.mark.parametrize("planet", EXTENDED)
def test_planets_at_the_limit_of_being_bound_are_the_integral(planet: list[float]) -> None:
    labels = torch.tensor([planet], dtype=torch.float64)
    rise = float(transit.relative_height(labels)) * math.log(1e11)
    assert 0.85 * transit.LARGEST_RISE < rise < transit.LARGEST_RISE
    given = frozen(made(), planet[1])
    exact = integral(planet, given)
    assert ppm(transit.transit_depth(labels, given, nodes=400).numpy()[0] - exact) < 200 * np.ptp(exact)
    assert ppm(transit.transit_depth(labels, given).numpy()[0] - exact) < 200 * np.ptp(exact)


def frozen(given: Opacities, temperature: float) -> Opacities:
    """Return opacities that have at all temperatures the values at one."""
    theta = torch.tensor(1500 / np.clip(temperature, 1000, 2000) - 1)

    def values(part: torch.Tensor) -> torch.Tensor:
        only = transit.polynomial(part, theta)[..., None, :]
        return torch.cat([only, torch.zeros_like(part[..., 1:, :])], dim=-2)

    return given._replace(
        collisions=values(given.collisions),
        strength=values(given.strength),
        saturation=values(given.saturation),
    )


@pytest.mark.parametrize(("temperature", "end"), [(2400.0, 2000.0), (600.0, 1000.0), (1400.0, 1400.0)])
def test_opacities_end_with_their_range(temperature: float, end: float) -> None:
    labels = torch.tensor([[2.0, temperature, *PLANET[2:]]], dtype=torch.float64, requires_grad=True)
    depth = transit.transit_depth(labels, made())
    torch.testing.assert_close(depth, transit.transit_depth(labels, frozen(made(), end)))
    depth.sum().backward()
    assert labels.grad is not None
    assert (labels.grad.abs() > 0).all()


def test_exact_weight_is_that_of_the_mixture() -> None:
    labels = torch.tensor(CORNERS, dtype=torch.float64)
    exact = transit.transit_depth(labels, made(), nodes=400, exact_weight=True).numpy()
    assert ppm(exact[1] - integral(CORNERS[1], made(), exact_weight=True)) < 0.02
    usual = transit.transit_depth(labels, made(), nodes=400).numpy()
    assert ppm(exact[1] - usual[1]) > 10
    assert ppm(exact[2] - usual[2]) < 0.01


@pytest.mark.parametrize("log_bar", [0.5, -2.3])
def test_clouds_and_haze_are_the_integral(log_bar: float) -> None:
    labels = torch.tensor([PLANET], dtype=torch.float64)
    depth = transit.transit_depth(
        labels, made(), cloud_top=labels.new_tensor([log_bar]), haze=labels.new_tensor([1.5])
    )
    assert ppm(depth.numpy()[0] - integral(PLANET, made(), 1e5 * 10**log_bar, 10**1.5)) < 1.0


def wide(n: int, seed: int = 0) -> torch.Tensor:
    """Draw labels (n, 9) of cloudy, hazy planets."""
    return torch.from_numpy(np.stack(list(Planets(clouds=True, haze=True).draw(n, seed, 0).values()), axis=1))


def from_the_deck(labels: torch.Tensor, given: Opacities, nodes: int) -> torch.Tensor:
    """Return depths (b, p) from rays that begin at the deck of each planet, at labels (b, 9)."""
    depths = []
    for planet in labels[:, None]:
        deck = min(math.log(1e6), float(planet[0, 7] + 5) * math.log(10))
        pressure = torch.linspace(deck, math.log(1e-5), nodes, dtype=torch.float64)[None]
        rays = transit.chords(planet[:, :7], pressure)
        theta = transit.TEMPERATURE / planet[:, 1, None].clamp(1000, 2000) - 1
        scattering = transit.rayleigh(given.wavelength, rays.hydrogen, rays.helium) * 10 ** planet[:, 8:]
        collisions = transit.polynomial(given.collisions, theta).exp()
        gases = [transit.polynomial(part, theta[..., None]).exp() for part in given[2:4]]
        terms = transit.pressure_terms(pressure, *given[-3:])
        depths.append(transit.disc_depth(rays, scattering, collisions, *gases, terms))
    return torch.cat(depths)


def test_a_deck_between_two_rays_is_as_good_as_a_ray_at_the_deck() -> None:
    labels, given = wide(48), planets.opacities(torch.float64)
    exact = from_the_deck(labels, given, 300)
    error = transit.transit_depth(labels[:, :7], given, cloud_top=labels[:, 7], haze=labels[:, 8]) - exact
    error[:, torch.argmin((given.wavelength - 10.009).abs())] = 0  # as below
    assert float(error.square().mean().sqrt()) < 0.15e-6
    assert float(error.abs().amax(1).quantile(0.95)) < 1e-6


def test_weights_change_steadily_with_the_deck() -> None:
    pressure = transit.log_pressures()
    node = float((pressure[0, 11] / math.log(10)) - 5)
    tops = torch.tensor([node - 1e-9, node, node + 1e-9, node + 0.17], dtype=torch.float64)
    labels = torch.tensor([PLANET] * 4, dtype=torch.float64)
    rays = transit.chords(labels, pressure, cloud_top=tops)
    torch.testing.assert_close(rays.weight[0], rays.weight[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(rays.weight[2], rays.weight[1], rtol=1e-6, atol=1e-12)
    # All that an opaque atmosphere blocks does not depend on where the deck is.
    total = rays.base + rays.weight.sum(1, keepdim=True)
    assert ppm((total - total[0]).numpy()) < 0.1


def test_gradient() -> None:
    labels = torch.tensor(CORNERS[:1], dtype=torch.float64, requires_grad=True)
    extra = [torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (-1.2, 0.7)]
    parts = [part.clone().requires_grad_() for part in made()[1:]]

    def depth(labels, cloud_top, haze, *parts):  # type: ignore[no-untyped-def]
        given = Opacities(made().wavelength, *parts)
        return 1e3 * transit.transit_depth(labels, given, cloud_top=cloud_top, haze=haze)

    assert torch.autograd.gradcheck(depth, (labels, *extra, *parts), eps=1e-6, atol=1e-6)


def test_model_maps_over_planets() -> None:
    labels = torch.tensor(CORNERS, dtype=torch.float64)
    batched = transit.transit_depth(labels, made())
    mapped = torch.func.vmap(lambda one: transit.transit_depth(one[None], made())[0])(labels)
    torch.testing.assert_close(mapped, batched)


def test_without_absorbers_only_hydrogen_and_helium_are_left() -> None:
    clear = torch.tensor([[1.0, 1500.0, 1.0, -30, -30, -30, -30]], dtype=torch.float64)
    none = made()._replace(strength=made().strength - 200)
    got = transit.transit_depth(clear, made()).numpy()
    assert ppm(got - transit.transit_depth(clear, none).numpy()) < 1e-6
    # Rayleigh's slope: d depth / d ln wavelength = 2 R (-4 H), to first order in H / R.
    blue = none._replace(wavelength=torch.full_like(none.wavelength, 0.8), collisions=none.collisions - 200)
    redder = blue._replace(wavelength=blue.wavelength * 1.01)
    change = float((transit.transit_depth(clear, redder) - transit.transit_depth(clear, blue))[0, 0])
    radius = math.sqrt(float(transit.transit_depth(clear, blue)[0, 0])) * 6.95508e8
    weight = (2.01588 + 0.17647 * 4.002602) / 1.17647 * 1.66054e-27
    height = 1.380649e-23 * 1500 * radius**2 / (6.67408e-11 * 1.898e27 * weight)
    assert change == pytest.approx(-8 * radius * height * math.log(1.01) / 6.95508e8**2, rel=0.03)


def test_opaque_deck_is_a_flat_line_at_its_radius() -> None:
    labels = torch.tensor([PLANET], dtype=torch.float64)
    flat = transit.transit_depth(labels, made(), cloud_top=labels.new_tensor([-9.999])).numpy()[0]
    rays = transit.chords(
        labels, torch.tensor([[math.log(10**-4.999), math.log(1e-5)]] * 1).double().repeat(1, 4)
    )
    assert np.ptp(flat) * 1e6 < 0.2
    assert flat[0] == pytest.approx(float(rays.base), rel=1e-5)
    for below in (1.0, 2.0):
        deep = transit.transit_depth(labels, made(), cloud_top=labels.new_tensor([below]))
        torch.testing.assert_close(deep, transit.transit_depth(labels, made()), rtol=1e-12, atol=0)


def simulated(**changes: float) -> NDArray[np.float64]:
    planet = dict(zip(planets.LABELS.names, PLANET, strict=True)) | changes
    return np.asarray(Planets().simulate({name: [value] for name, value in planet.items()}).flux[0], float)


def test_more_of_a_gas_is_deeper_everywhere() -> None:
    # Little of it, so that it does not weigh on the atmosphere.
    for gas in ("log_h2o", "log_co2", "log_ch4", "log_co"):
        low, high = simulated(**{gas: -6.0}), simulated(**{gas: -5.0})
        assert (high - low).min() > -1e-6, gas
        assert (high - low).max() > 1.5e-6, gas


def test_known_bands_stand_out() -> None:
    few = {"log_h2o": -8, "log_co2": -8, "log_ch4": -8, "log_co": -8}
    wavelength = Planets().grid.to("um")
    bands = {"log_co2": (4.3, 5), "log_ch4": (3.3, 5), "log_co": (4.65, 10), "log_h2o": (1.4, 2.3)}
    for gas, (band, end) in bands.items():
        more = simulated(**(few | {gas: -4})) - simulated(**few)
        near = np.abs(wavelength - band) < 0.15
        assert more[near].max() > 0.9 * more[wavelength < end].max(), gas


def test_features_grow_with_the_scale_height() -> None:
    def size(**changes: float) -> float:
        return float(np.ptp(simulated(**changes)))

    assert size(planet_mass=0.8) / size(planet_mass=1.6) == pytest.approx(2.0, rel=0.2)


def test_star_radius_scales_all() -> None:
    labels = {name: [value] for name, value in zip(planets.LABELS.names, PLANET, strict=True)}
    small, large = (Planets(star_radius=r).simulate(labels) for r in (1.0, 2.0))
    np.testing.assert_allclose(small.flux, 4 * large.flux, rtol=1e-6)
    np.testing.assert_allclose(large.ivar, 16 * small.ivar, rtol=1e-6)


@pytest.mark.parametrize("suffix", ["h5", "npz", "fits", "csv", "ecsv", "dat"])
def test_files_keep_the_radius_of_the_star(tmp_path: Path, suffix: str) -> None:
    made = Planets("hst-wfc3-g141", star_radius=0.78)
    assert "star_radius" not in made.prior.names
    spectra = made.simulate(1, seed=1)
    again = draper.read(draper.write(spectra, tmp_path / f"planet.{suffix}"))
    assert again.quantity == "transit depth"
    assert again.table["star_radius"].tolist() == spectra.table["star_radius"].tolist() == [0.78]
    if suffix not in ("csv", "dat"):
        assert {name: again.table[name][0] for name in spectra.table} == {
            name: column[0] for name, column in spectra.table.items()
        }


def test_packed_opacities_keep_what_they_promise(real_data: Path) -> None:
    path = real_data / "taurex_exogan" / "train_1544.npz"
    if not path.is_file():
        pytest.skip("no TauREx spectra")
    arrays = np.load(path, allow_pickle=False)
    order = np.argsort(arrays["wavelength_um"])
    held = np.sort(np.random.default_rng(0).permutation(1544)[:309])
    labels = dict(zip(planets.LABELS.names, arrays["labels"][held].T, strict=True))
    spectra = Planets(box="exogan").simulate(labels)
    np.testing.assert_allclose(spectra.grid.to("um"), arrays["wavelength_um"][order], rtol=1e-6)
    assert not spectra.table["outside_box"].any()
    error = (spectra.flux - arrays["transit_depth"][held][:, order]) * 1e6
    assert np.sqrt(np.mean(error**2)) < 2.0
    np.testing.assert_allclose(np.sqrt(np.mean(error**2, axis=0)), planets.packed()["error"], rtol=0.01)
    np.testing.assert_allclose(spectra.ivar[0], 1e12 / planets.packed()["error"] ** 2, rtol=1e-4)


def test_rays_lie_close_enough_for_the_packed_opacities() -> None:
    unit = np.random.default_rng(0).uniform(size=(64, 7))
    labels, given = torch.from_numpy(planets.LABELS.unscale(unit)), planets.opacities(torch.float64)
    error = (transit.transit_depth(labels, given) - transit.transit_depth(labels, given, nodes=400)).numpy()
    # At 10.01 um, where sections of the training spectra meet, the fit is steep in pressure.
    odd = np.argmin(np.abs(given.wavelength.numpy() - 10.009))
    assert ppm(error[:, odd]) < 15
    assert ppm(np.delete(error, odd, axis=1)) < 6
    assert np.sqrt(np.mean(error**2)) < 0.2e-6


def test_depths_for_the_inference() -> None:
    simulator = Planets(clouds=True, haze=True)
    labels = wide(40).requires_grad_()
    slow = simulator.depth(labels)
    with torch.no_grad():
        fast, some = simulator.depth(labels), simulator.depth(labels, slice(30, 250))
    assert ppm((fast - slow).detach().numpy()) < 0.05
    torch.testing.assert_close(some, fast[:, 30:250], rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(slow.sum(), labels)
    assert torch.isfinite(gradient).all()
    table = dict(zip(simulator.prior.names, labels.detach().numpy().T, strict=True))
    np.testing.assert_allclose(simulator.simulate(table).flux, fast.numpy(), rtol=1e-6)


@pytest.mark.parametrize("box", planets.BOXES)
def test_labels_are_drawn_where_atmospheres_are_bound(box: str) -> None:
    simulator = Planets(box=box)  # type: ignore[arg-type]
    drawn = [simulator.draw(256, 3, block) for block in range(12)]
    labels = np.concatenate([np.stack(list(part.values()), axis=1) for part in drawn])
    assert transit.is_bound(torch.from_numpy(labels)).all()
    assert simulator.prior.inside(labels).all()
    plain = np.concatenate(
        [np.stack(list(Simulator.draw(simulator, 256, 3, k).values()), 1) for k in range(12)]
    )
    kept = (labels == plain).all(axis=1)
    np.testing.assert_array_equal(kept, transit.is_bound(torch.from_numpy(plain)).numpy())
    assert kept.all() == (box == "exogan")
    spread = (labels - plain.min(0)) / np.ptp(plain, axis=0)
    np.testing.assert_allclose(spread.mean(0), 0.5, atol=0.03)


@pytest.mark.parametrize(
    "planet",
    [
        [0.69, 1450, 1.36], [0.28, 1100, 1.27], [0.51, 1700, 1.99],
        [0.1, 740, 0.94], [1.13, 1200, 1.13], [0.165, 1400, 1.31],
    ],
)  # fmt: skip
def test_well_known_planets_are_bound_and_in_the_box(planet: list[float]) -> None:
    labels = np.array([[*planet, -3.3, -4.3, -6.0, -4.0]])
    assert planets.WIDE.inside(labels).all()
    for exact_weight in (True, False):
        assert transit.is_bound(torch.from_numpy(labels), exact_weight).all()


def test_settings_make_the_same_simulator() -> None:
    for options in ({}, {"snr": (20, 80), "clouds": True}, {"snr": (np.inf, np.inf), "box": "exogan"}):
        made = Planets("hst-wfc3-g141", star_radius=0.3, exact_weight=True, haze=True, **options)  # type: ignore[arg-type]
        again = PlanetsConfig(**json.loads(json.dumps(made.settings, allow_nan=False))).build()
        assert again.settings == made.settings
        np.testing.assert_array_equal(again.simulate(5, seed=1).flux, made.simulate(5, seed=1).flux)


def test_packed_file_holds_only_coefficients() -> None:
    arrays = planets.packed()
    assert sum(array.nbytes for array in arrays.values()) < 1e5
    assert set(arrays) == {*Opacities._fields, "error"}
    assert all(array.shape[-1] == 362 and np.isfinite(array).all() for array in arrays.values())


@pytest.mark.parametrize("options", [{}, {"instrument": "ariel-tier2", "clouds": True, "haze": True}])
def test_same_seed_same_arrays_also_chunked(options: dict[str, object]) -> None:
    simulator = Planets(**options)  # type: ignore[arg-type]
    whole, again = simulator.simulate(300, seed=4), simulator.simulate(300, seed=4)
    np.testing.assert_array_equal(whole.flux, again.flux)
    shorter = simulator.simulate(275, seed=4)
    np.testing.assert_array_equal(whole.flux[:275], shorter.flux)
    np.testing.assert_array_equal(whole.table["log_co"][:275], shorter.table["log_co"])
    given = {name: whole.table[name] for name in simulator.prior.names}
    np.testing.assert_array_equal(simulator.simulate(given, seed=4).flux, whole.flux)
    assert not np.array_equal(whole.flux, simulator.simulate(300, seed=5).flux)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_instruments_bin_and_have_errors(name: str) -> None:
    simulator = Planets(name)
    edges = INSTRUMENTS[name].edges
    assert (edges[:, 1] / edges[:, 0]).min() > 1.00999
    assert planets.native_edges()[0, 0] <= edges.min()
    assert edges.max() <= planets.native_edges()[-1, 1]
    native = planets.native_edges()
    low, high = np.maximum(native[:, :1], edges[:, 0]), np.minimum(native[:, 1:], edges[:, 1])
    weights = np.clip(high - low, 0, None) / (edges[:, 1] - edges[:, 0])

    labels = {label: np.full(256, value) for label, value in zip(planets.LABELS.names, PLANET, strict=True)}
    noisy, clean = simulator.simulate(labels, seed=2), Planets(name, error=0).simulate(labels)
    np.testing.assert_allclose(clean.flux[0], simulated() @ weights, rtol=1e-5)
    pulls = (noisy.flux - clean.flux) * 1e6 / INSTRUMENTS[name].error
    assert pulls.std() == pytest.approx(1, abs=0.05)
    assert (1 / np.sqrt(noisy.ivar[0]) * 1e6 >= INSTRUMENTS[name].error).all()
    assert Planets(name, error=10).simulate(1).ivar.min() > noisy.ivar.max()


def test_clouds_are_labels() -> None:
    simulator = Planets(clouds=True, haze=True)
    assert isinstance(simulator.prior, LabelSet)
    assert simulator.prior.names[7:] == ("log_cloud_top", "log_haze")
    base = {name: [value] * 3 for name, value in zip(planets.LABELS.names, PLANET, strict=True)}
    made = simulator.simulate({**base, "log_cloud_top": [1.0, -3.0, 1.0], "log_haze": [0.0, 0.0, 3.0]})
    np.testing.assert_allclose(made.flux[0], simulated(), rtol=1e-6)
    assert np.ptp(made.flux[1]) < 0.7 * np.ptp(made.flux[0])
    assert (made.flux[2] >= made.flux[0] - 1e-8).all()
    assert made.flux[2, 0] - made.flux[0, 0] > 1e-4


@pytest.mark.parametrize(
    "changes",
    [{"planet_mass": 0.0}, {"temperature": np.nan}, {"log_co": 0.1}, {"planet_mass": 0.1, "log_co": -5.0}],
)
def test_impossible_planets_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(DraperError, match=r"cannot be computed|label is missing"):
        simulated(**changes)


def test_options_are_checked() -> None:
    with pytest.raises(DraperError, match="did you mean 'hst-wfc3-g141'"):
        Planets("hst-wfc3")
    with pytest.raises(DraperError, match="star_radius"):
        Planets(star_radius=-1)
    with pytest.raises(DraperError, match="unknown box"):
        Planets(box="small")  # type: ignore[arg-type]
    with pytest.raises(DraperError, match="error"):
        Planets(error=float("nan"))


def test_ratios_of_depth_to_error() -> None:
    some = Planets("jwst-nirspec-prism", snr=(20, 80)).simulate(400, seed=1)
    clean = Planets("jwst-nirspec-prism", snr=(np.inf, np.inf)).simulate(400, seed=1)
    error = np.median(some.ivar, axis=1) ** -0.5
    ratio = np.median(clean.flux, axis=1) / error
    assert 19 < ratio.min() < 22
    assert 70 < ratio.max() < 81
    pull = (some.flux - clean.flux) / error[:, None]
    assert pull.std() == pytest.approx(1, abs=0.02)
    with pytest.raises(DraperError, match="one of them"):
        Planets(error=20.0, snr=(20, 80))
