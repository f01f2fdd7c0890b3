"""Real visits of APOGEE to a star whose velocity changes, fitted jointly with a network of binspec."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import draper
from draper.data.spectra import Spectra
from draper.models.emulator.foreign.adopt import adopt


@pytest.fixture
def visits(real_data: Path) -> list[Spectra]:
    folder = real_data / "apogee_binspec"
    spectra = draper.read(
        folder / "visit_spectra_ap_id_2M06133561+2433362_.npz",
        medium="vacuum", unit="angstrom", wavelengths=folder / "apogee_wavelength.npz",
    )  # fmt: skip
    return [spectra[row : row + 1].with_columns(id=np.array(["2M06133561+2433362"])) for row in range(3)]


def test_one_velocity_an_epoch_and_a_flag_where_one_star_does_not_explain_them(
    visits: list[Spectra], real_data: Path
) -> None:
    model = adopt(real_data / "apogee_binspec" / "NN_normalized_spectra.npz")
    found = model.predict(visits, continuum=2)
    assert {"rv_1", "rv_2", "rv_3"} <= set(found.labels.names)
    velocities = np.array([found[f"rv_{epoch}"][0] for epoch in (1, 2, 3)])
    # The survey's own velocities, with its own template, of lines that two stars blend.
    assert np.abs(velocities - [17.6, -47.4, -42.6]).max() < 20
    assert np.ptp(velocities) > 60
    assert found.flags["bad_fit"][0]
    assert found.columns["reduced_chi2"][0] > 3
    # Pixels with errors near 100 have next to no weight: without them nothing changes.
    without = [replace(visit, ivar=np.where(visit.ivar < 1e-3, 0, visit.ivar)) for visit in visits]
    again = model.predict(without, continuum=2)
    assert (np.abs(again.median - found.median) < 0.2 * found.sigma).all()
