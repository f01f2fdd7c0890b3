"""Gaia XP, photometry and parallax of simulated stars."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

import draper
from draper.errors import DraperError
from draper.simulate.photometry import BANDS, Band, magnitude_error
from draper.simulate.xp import LowResolution, Preset

SUN = {
    "teff": 5777.0,
    "logg": 4.438,
    "fe_h": 0.0,
    "alpha_fe": 0.0,
    "mass": 1.0,
    "a_v": 0.0,
    "magnitude": 10.0,
}


@pytest.fixture(scope="module")
def survey() -> LowResolution:
    return LowResolution()


def many(n: int, **labels: float) -> dict[str, np.ndarray]:
    return {name: np.full(n, value) for name, value in (SUN | labels).items()}


def test_the_sun_is_where_it_should_be(survey: LowResolution) -> None:
    table = survey.simulate(many(1), seed=1).table
    assert table["radius"][0] == pytest.approx(1.0, abs=0.005)
    # Absolute magnitudes of the Sun (Willmer 2018; Casagrande & VandenBerg 2018).
    absolute = {
        name: table[f"{name}_mag_true"][0] - 5 * np.log10(table["distance"][0] / 10) for name in BANDS
    }
    # What the documents admit: J 0.05 mag too faint, H 0.2, Ks 0.1, W1 right, W2 0.1 too bright.
    admitted = {"j": 3.67 + 0.05, "h": 3.32 + 0.2, "ks": 3.27 + 0.12, "w1": 3.26, "w2": 3.28 - 0.11}
    assert absolute == pytest.approx(admitted, abs=0.02)
    assert 10 - 5 * np.log10(table["distance"][0] / 10) == pytest.approx(4.66, abs=0.04)
    assert table["bp_mag_true"][0] - table["rp_mag_true"][0] == pytest.approx(0.818, abs=0.07)


def test_magnitude_distance_and_parallax_agree(survey: LowResolution) -> None:
    table = survey.simulate(600, seed=2).table
    assert np.allclose(table["g_mag_true"], table["magnitude"], atol=1e-6)
    assert np.allclose(table["parallax_true"] * table["distance"], 1000)
    for name in ("parallax", "g_mag", "ks_mag"):
        pull = (table[name] - table[f"{name}_true"]) / table[f"{name}_err"]
        assert 0.9 < pull.std() < 1.1
        assert abs(pull.mean()) < 0.13


def test_noise_has_the_stated_covariance(survey: LowResolution) -> None:
    spectra = survey.simulate(many(1500, magnitude=15.0), seed=3)
    assert spectra.correlation is not None
    truth = survey.coefficients(torch.from_numpy(survey.prior.read(many(1))) + torch.tensor([0] * 6 + [5.0]))
    pull = (spectra.flux - truth.numpy()) * np.sqrt(spectra.ivar)
    assert np.abs(pull.std(axis=0) - 1).max() < 0.09
    chi2 = np.einsum("ni,nij,nj->n", pull, np.linalg.inv(spectra.correlation.of(slice(None))), pull)
    assert chi2.mean() == pytest.approx(110, abs=1.2)
    assert chi2.var() == pytest.approx(220, rel=0.15)
    related = np.corrcoef(pull.T) - spectra.correlation.of(0)
    assert np.abs(related).max() < 0.15


def test_blocks_share_their_correlations(survey: LowResolution, tmp_path: Path) -> None:
    draper.write(survey.stream(600, seed=1), tmp_path / "xp.h5")
    found = draper.read(tmp_path / "xp.h5").correlation
    assert found is not None
    held = survey.simulate(600, seed=1).correlation
    assert held is not None
    assert len(held.templates) == 99
    assert 20 < len(found.templates) < 60
    assert len(np.unique(found.index)) == len(found.templates)
    assert np.array_equal(found.of(slice(None)), held.of(slice(None)))


def test_fainter_stars_are_noisier(survey: LowResolution) -> None:
    ratio = []
    for magnitude in (9.0, 13.0, 17.0):
        spectra = survey.simulate(many(8, magnitude=magnitude), seed=1)
        ratio.append(np.median(spectra.flux[:, 0] * np.sqrt(spectra.ivar[:, 0])))
    # Bright stars are limited by calibration, faint ones by photons.
    assert ratio[1] > 0.5 * ratio[0]
    assert ratio[2] < 0.5 * ratio[1]


def test_rows_do_not_depend_on_how_they_are_cut(survey: LowResolution) -> None:
    whole, part = survey.simulate(300, seed=4), survey.simulate(260, seed=4)
    assert np.array_equal(whole.flux[:260], part.flux)
    assert np.array_equal(whole.ivar[:260], part.ivar)
    assert np.array_equal(whole.table["parallax"][:260], part.table["parallax"])
    assert not np.array_equal(whole.flux, survey.simulate(300, seed=5).flux)


def test_labels_that_are_left_out_are_drawn(survey: LowResolution) -> None:
    stellar = {name: np.full(400, SUN[name]) for name in ("teff", "logg", "fe_h", "alpha_fe")}
    table = survey.simulate(stellar, seed=1).table
    assert np.ptp(table["magnitude"]) > 6
    assert table["a_v"].min() >= 0
    assert (table["teff"] == 5777).all()
    assert (survey.simulate(stellar | {"a_v": np.zeros(400)}, seed=1).table["a_v"] == 0).all()
    with pytest.raises(DraperError, match="logg"):
        survey.simulate({"teff": [5777.0]})


def test_dust_reddens_by_its_law(survey: LowResolution) -> None:
    bare, dusty = (
        survey.flux(torch.tensor([[5777, 4.438, 0, 0, 1, a_v]], dtype=torch.float64))[0].numpy()
        for a_v in (0.0, 1.0)
    )
    lost = -2.5 * np.log10(dusty / bare)
    assert np.interp(5500, survey.wavelength, lost) == pytest.approx(1.0, abs=0.03)
    assert np.all(np.diff(lost[survey.wavelength > 6500]) < 0.01)
    assert np.interp(21500, survey.wavelength, lost) == pytest.approx(0.11, abs=0.03)


def test_samples_are_those_of_the_coefficients() -> None:
    stars = many(4, magnitude=12.0)
    sampled = LowResolution("gaia-xp-sampled").simulate(stars, seed=1)
    survey = LowResolution()
    coefficients = survey.simulate(stars, seed=1)
    assert sampled.quantity == "flux"
    assert sampled.correlation is None
    assert np.allclose(sampled.flux, survey.xp.resampled(coefficients).flux)
    assert np.array_equal(sampled.table["g_mag"], coefficients.table["g_mag"])


def test_noise_can_be_left_out_or_asked_for() -> None:
    none = LowResolution(snr=(np.inf, np.inf)).simulate(many(3), seed=1)
    assert np.ptp(none.flux[:, 0]) == 0
    assert (none.ivar == 1).all()
    assert (none.table["parallax"] == none.table["parallax_true"]).all()
    errors = [values for name, values in none.table.items() if name.endswith("_err")]
    assert len(errors) == 9
    assert not np.any(errors)
    assert "transits" not in none.table
    sampled = LowResolution("gaia-xp-sampled", snr=(np.inf, np.inf)).simulate(many(3), seed=1)
    assert (sampled.ivar == 1).all()
    assert sampled.ivar.shape == (3, 343)
    some = LowResolution(snr=(50, 200)).simulate(many(300), seed=1)
    ratio = some.flux[:, 55] * np.sqrt(some.ivar[:, 55])
    assert ratio.min() > 45
    assert ratio.max() < 210
    assert np.median(ratio) == pytest.approx(100, rel=0.15)


def test_box_covers_what_the_grid_does() -> None:
    stars = LowResolution(Preset("coefficients", (10, 12)), population="box").simulate(300, seed=1)
    assert not stars.table["extrapolated"].any()
    assert np.ptp(stars.table["teff"]) > 2500
    assert stars.table["magnitude"].max() < 12


def test_wrong_input_is_refused() -> None:
    with pytest.raises(DraperError, match="preset"):
        LowResolution("gaia-pq")
    with pytest.raises(DraperError, match="population"):
        LowResolution(population="universe")  # type: ignore[arg-type]
    with pytest.raises(DraperError, match="R_V"):
        LowResolution(r_v=12.0)
    with pytest.raises(DraperError, match="missing"):
        LowResolution().simulate(many(2, teff=np.nan))


@pytest.mark.parametrize(("name", "value"), [("teff", 0.0), ("mass", -1.0), ("a_v", -0.1)])
def test_what_no_star_has_is_refused_by_name_and_row(survey: LowResolution, name: str, value: float) -> None:
    labels = many(300)
    labels[name][270] = value
    with pytest.raises(DraperError, match=rf"{name} of row 270[\s\S]*{value:g}"):
        survey.simulate(labels)


def test_archive_name_of_the_magnitude(survey: LowResolution) -> None:
    labels = many(2, magnitude=12.5)
    labels["phot_g_mean_mag"] = labels.pop("magnitude")
    table = survey.simulate(labels, seed=1).table
    assert (table["magnitude"] == 12.5).all()
    assert "phot_g_mean_mag" not in table


def test_columns_that_are_simulated_cannot_be_given(survey: LowResolution) -> None:
    with pytest.raises(DraperError, match=r"parallax, radius[\s\S]*parallax_given"):
        survey.simulate(many(2) | {"parallax": np.ones(2), "radius": np.ones(2), "note": np.ones(2)})
    kept = survey.simulate(many(2) | {"Note": np.array([3.0, 4.0]), "id": np.array(["a", "b"])})
    assert kept.table["note"].tolist() == [3, 4]
    assert kept.ids.tolist() == ["a", "b"]


@pytest.mark.parametrize("population", ["box", "galaxy"])
def test_what_is_drawn_apart_is_independent(population: Literal["box", "galaxy"]) -> None:
    survey = LowResolution(population=population)
    table = [survey.draw(256, 3, block) for block in range(8)]
    drawn = {name: np.concatenate([part[name] for part in table]) for name in survey.prior.names}
    ranks = {name: values.argsort().argsort() for name, values in drawn.items()}
    for own in ("mass", "a_v", "magnitude"):
        for other in set(survey.prior.names) - {own}:
            # 2,048 stars: five sigma, which any reuse of the numbers passes by far.
            assert abs(np.corrcoef(ranks[own], ranks[other])[0, 1]) < 5 / np.sqrt(2048)
            assert abs(np.corrcoef(ranks[own][1:], ranks[other][:-1])[0, 1]) < 5 / np.sqrt(2048)
    # Numbers that are used twice are the same numbers, wherever they stand.
    mass = (drawn["mass"] - 0.8) / 0.4
    labels = survey.seds.prior.scale(np.stack([drawn[name] for name in survey.seds.prior.names], axis=1))
    assert not np.isin(mass.round(12), labels.round(12)).any()


def test_gradients_are_those_of_finite_differences(survey: LowResolution) -> None:
    labels = torch.from_numpy(survey.prior.read(many(1, a_v=0.4, teff=5200.0)))
    steps = {"teff": 1.0, "logg": 1e-3, "fe_h": 1e-3, "alpha_fe": 1e-3, "mass": 1e-3, "a_v": 1e-3,
             "magnitude": 1e-3}  # fmt: skip
    gradient = torch.func.jacrev(survey.coefficients)(labels)[0, :, 0]
    for number, (name, step) in enumerate(steps.items()):
        move = torch.zeros_like(labels)
        move[0, number] = step
        change = (survey.coefficients(labels + move) - survey.coefficients(labels - move))[0] / (2 * step)
        if name == "mass":  # a larger star at a fixed magnitude is only farther away
            assert gradient[:, number].abs().max() < 1e-9 * survey.coefficients(labels).abs().max()
            continue
        assert torch.allclose(gradient[:, number], change, rtol=1e-4, atol=1e-4 * float(change.abs().max()))


def test_a_band_of_a_black_body() -> None:
    wavelength = np.linspace(9000, 50000, 4000)
    flux = 1e8 / (wavelength**5 * np.expm1(1.438776877e8 / wavelength / 9700))
    vega = BANDS["j"].magnitude(wavelength, flux[None])[0]
    # All Vega magnitudes of a hot star are nearly equal.
    others = [BANDS[name].magnitude(wavelength, flux[None])[0] for name in ("h", "ks", "w1")]
    assert np.abs(np.array(others) - vega).max() < 0.1
    narrow = Band(2.0e4, 2.001e4, 1000.0).magnitude(
        np.array([1e4, 3e4]), np.array([[1.0, 1.0], [10.0, 10.0]])
    )
    assert narrow[0] - narrow[1] == pytest.approx(2.5)


@pytest.mark.parametrize("band", ["g", "bp", "rp", "j", "h", "ks", "w1", "w2"])
def test_errors_grow_with_magnitude(band: str) -> None:
    errors = magnitude_error(band, np.arange(5.0, 20.0))
    assert (np.diff(errors) >= 0).all()
    assert errors[0] < 0.03
