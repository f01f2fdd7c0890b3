"""Air and vacuum against published lines and an independent code; units by every name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draper.data import units
from draper.errors import DraperError

# Air and vacuum wavelengths as the tables of NIST and of SDSS print them.
LINES = {
    "Ca II K": (3933.66, 3934.78),
    "H beta": (4861.33, 4862.68),
    "[O III]": (5006.84, 5008.24),
    "Mg b": (5183.60, 5185.05),
    "Na D2": (5889.95, 5891.58),
    "H alpha": (6562.80, 6564.61),
    "Ca II 8542": (8542.09, 8544.44),
    "He I 10830": (10830.34, 10833.31),
}


@pytest.mark.parametrize("line", LINES)
def test_published_lines(line: str) -> None:
    air, vacuum = LINES[line]
    assert units.air_to_vacuum(np.array([air]))[0] == pytest.approx(vacuum, abs=0.012)
    assert units.vacuum_to_air(np.array([vacuum]))[0] == pytest.approx(air, abs=0.012)


def test_agrees_with_specutils() -> None:
    theirs = pytest.importorskip("specutils.utils.wcs_utils")
    from astropy import units as u

    vacuum = np.geomspace(2100, 25000, 2000)
    ours = units.vacuum_to_air(vacuum)
    np.testing.assert_allclose(
        ours, theirs.vac_to_air(vacuum * u.AA, method="Ciddor1996").to_value(u.AA), rtol=2e-10
    )
    back = theirs.air_to_vac(ours * u.AA, scheme="iteration", method="Ciddor1996").to_value(u.AA)
    np.testing.assert_allclose(units.air_to_vacuum(ours), back, rtol=1e-9)


@given(st.floats(2001, 1e6))
def test_round_trip(vacuum: float) -> None:
    air = units.vacuum_to_air(np.array([vacuum]))
    assert air[0] < vacuum
    np.testing.assert_allclose(units.air_to_vacuum(air), vacuum, rtol=1e-13)


def test_below_2000_nothing_changes() -> None:
    far = np.array([100.0, 1215.67, 1999.0])
    assert units.vacuum_to_air(far).tolist() == far.tolist()
    assert units.air_to_vacuum(far).tolist() == far.tolist()
    assert units.refractive_index(far).tolist() == [1, 1, 1]
    assert units.refractive_index(np.array([2000.0]))[0] == pytest.approx(1.000324, abs=2e-6)


def test_vacuum_wavelengths_stay_in_order() -> None:
    air = np.arange(1900, 2100, 0.1)
    assert np.all(np.diff(units.air_to_vacuum(air)) > 0)


@pytest.mark.parametrize("name", [*units.ANGSTROM, *units.SYNONYMS])
def test_every_name_leads_to_a_unit(name: str) -> None:
    assert units.unit_name(name) in units.ANGSTROM
    assert units.unit_name(f" {name.upper()} ") == units.unit_name(name)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("\u212b", "angstrom"),
        ("Å", "angstrom"),
        ("AA", "angstrom"),
        ("µm", "um"),
        ("μm", "um"),
        ("Microns", "um"),
    ],
)
def test_signs_that_look_alike(name: str, canonical: str) -> None:
    assert units.unit_name(name) == canonical


@pytest.mark.parametrize(("unit", "length"), [("nm", 10), ("um", 1e4), ("mm", 1e7), ("cm", 1e8), ("m", 1e10)])
def test_lengths(unit: str, length: float) -> None:
    assert units.to_angstrom(np.array([2.0]), unit)[0] == 2 * length


@pytest.mark.parametrize(("wrong", "nearest"), [("angstom", "angstrom"), ("nmm", "nm"), ("mikron", "micron")])
def test_unknown_unit(wrong: str, nearest: str) -> None:
    with pytest.raises(DraperError, match=f"did you mean '{nearest}'"):
        units.unit_name(wrong)
    with pytest.raises(DraperError, match="unknown wavelength unit"):
        units.unit_name("parsec per fortnight")
