"""The built-in samples: small, described, and what was computed."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from draper.data import samples
from draper.data.spectra import Spectra
from draper.errors import DraperError

LARGEST = 5e6
"""Bytes that a packed file may take."""

RVS_LABELS = ["teff", "logg", "fe_h", "vmic", "mg_fe", "si_fe", "s_fe", "ca_fe", "ti_fe", "ni_fe"]
SHAPES = {"sed-grid": (462, 367), "rvs-grid": (1847, 5241), "optical-grid": (1440, 12558)}


@pytest.fixture(scope="module", params=samples.SAMPLES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def rvs() -> Spectra:
    return samples.load("rvs-grid")


def test_packed_files_are_the_samples_and_small() -> None:
    packed = Path(str(files("draper.data") / "packed"))
    assert {path.stem for path in packed.iterdir()} == {*samples.SAMPLES, "lines"}
    assert max(path.stat().st_size for path in packed.iterdir()) < LARGEST


def test_loads_with_provenance(name: str) -> None:
    spectra = samples.load(name)
    assert spectra.flux.shape == SHAPES[name]
    assert np.isfinite(spectra.flux).all()
    assert (spectra.ivar == 1).all()
    assert len(set(spectra.ids)) == len(spectra)
    assert spectra.meta["source"] == name
    assert spectra.meta["licence"] == "BSD-3-Clause"
    assert "Turbospectrum" in spectra.meta["computed_with"]
    assert str(len(spectra)) in samples.descriptions()[name]


def test_rvs_grid(rvs: Spectra) -> None:
    assert (rvs.quantity, rvs.unit) == ("normalised flux", "")
    assert list(rvs.table) == ["id", *RVS_LABELS]
    assert rvs.grid.air[[0, -1]] == pytest.approx([8450.0, 8712.0], abs=1e-3)
    np.testing.assert_allclose(np.diff(rvs.grid.air), 0.05, atol=1e-4)
    labels = rvs.columns(RVS_LABELS)
    np.testing.assert_allclose(labels.min(axis=0)[:4], [4000.395, 0.504, -2.489, 0.701], atol=1e-3)
    np.testing.assert_allclose(labels.max(axis=0)[:4], [6996.887, 4.999, 0.499, 2.500], atol=1e-3)
    # The three calcium lines are where they are in air, and are the deepest.
    for line in (8498.02, 8542.09, 8662.14):
        near = np.abs(rvs.grid.air - line) < 1
        assert abs(rvs.grid.air[near][rvs.flux[:, near].mean(axis=0).argmin()] - line) < 0.06
    assert rvs.flux.max() < 1.005


def test_rvs_grid_is_what_was_computed_but_for_the_loss_it_states(rvs: Spectra, real_data: Path) -> None:
    arrays = np.load(real_data / "ours" / "rvs_grid.npz", allow_pickle=False)
    np.testing.assert_array_equal(rvs.columns(arrays["names"].tolist()), arrays["labels"])
    np.testing.assert_allclose(rvs.grid.air, arrays["wave_air"], atol=1e-6)
    error = rvs.flux - arrays["flux_u16"] * float(arrays["flux_scale"])
    rms = np.sqrt(np.mean(error**2, axis=1))
    found = {
        "loss_rms": np.sqrt(np.mean(rms**2)),
        "loss_rms_worst_spectrum": rms.max(),
        "loss_largest": np.abs(error).max(),
    }
    assert found == {name: pytest.approx(rvs.meta[name], rel=0.06) for name in found}
    assert found["loss_rms"] < 6e-5
    assert found["loss_rms_worst_spectrum"] < 1e-4
    assert found["loss_largest"] < 1e-3


def test_optical_grid_is_what_was_computed_at_its_resolution(real_data: Path) -> None:
    """Against a convolution of its own, in ln(wavelength), at some pixels."""
    arrays = np.load(real_data / "ours" / "optical_grid.npz", allow_pickle=False)
    spectra = samples.load("optical-grid")
    names = arrays["label_names"].tolist()
    np.testing.assert_array_equal(spectra.columns(names), arrays["labels"])
    wavelength, flux = arrays["wavelength_air_angstrom"], arrays["flux_u16"] * float(arrays["flux_scale"])
    assert (spectra.grid.air[[0, -1]] - wavelength[[0, -1]]) == pytest.approx([0.32, -0.42], abs=0.05)
    assert spectra.grid.resolving_power == 40_000
    np.testing.assert_allclose(np.diff(np.log(spectra.grid.vacuum)), 1 / 120_000, rtol=1e-6)
    sigma = 1 / (40_000 * np.sqrt(8 * np.log(2)))
    for number in range(500, 12_000, 333):
        kernel = np.exp(-0.5 * (np.log(wavelength / spectra.grid.air[number]) / sigma) ** 2)
        exact = flux @ (kernel / kernel.sum())
        assert np.abs(spectra.flux[:, number] - exact).max() < 1.5e-3
        assert np.sqrt(np.mean((spectra.flux[:, number] - exact) ** 2)) < 3e-4


def test_sed_grid_is_what_was_computed(real_data: Path) -> None:
    arrays = np.load(real_data / "ours" / "sed_grid.npz", allow_pickle=False)
    spectra = samples.load("sed-grid")
    np.testing.assert_array_equal(spectra.flux, arrays["surface_flux"].astype(np.float32))
    np.testing.assert_allclose(spectra.grid.air, arrays["bin_centre_air"], atol=1e-6)


def test_unknown_name() -> None:
    with pytest.raises(DraperError, match="did you mean 'rvs-grid'"):
        samples.load("rvs_grid")
