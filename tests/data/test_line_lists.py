"""Line lists of several origins become the same lines in vacuum."""

from pathlib import Path

import numpy as np
import pytest

from draper.data.line_lists import read_lines
from draper.data.lines import strong_lines
from draper.data.masks import write_windows
from draper.errors import DraperError

LONG = """\
8460.00000, 8480.00000,2,99,2.0 Wavelength region, lines selected, lines processed, Vmicro
                                                                     Lande factors        Damping parameters
Elm Ion      WL_air(A)  log gf* E_low(eV) J lo  E_up(eV) J up   lower   upper    mean   Rad.  Stark    Waals
'Fe 1',     8468.4069,  -2.072,  2.2227,  1.0,  3.6864,  1.0,  2.500,  2.490,  2.490, 7.020,-6.280,-7.740,
'  LS     3d7.(4P).4s a5P'
'Ca 2',     8470.0000,  -1.000,  1.0000,  1.0,  3.6864,  1.0,  2.500,  2.490,  2.490, 7.020,-6.280,-7.740,
"""
SHORT = """\
Elm Ion     WL_vac(A)   Excit(eV) Vmic log gf* Rad.  Stark  Waals  factor  depth  Reference
'Fe 1',     8470.7335,  2.2227, 2.0, -2.072, 7.020,-6.280,-7.740, 2.490, 0.512, '   1 wl:K14   1 K14'
'Ca 2',     8472.3269,  1.0000, 2.0, -1.000, 7.020,-6.280,-7.740, 2.490, 0.412, '   1 wl:K14   1 K14'
"""
TABLE = """\
element,ion,wave_air_A,wave_vac_A,E_low_eV,loggf
Ca,2,8470.0000,8472.3269,1.0,-1.0
Fe,1,8468.4069,8470.7335,2.2227,-2.072
"""
SPACES = """\
species lambda_air(nm) E_low log_gf
Fe1 846.84069 2.2227 -2.072
Ca2 847.0 1.0 -1.0
"""


@pytest.mark.parametrize("text", [LONG, SHORT, TABLE, SPACES], ids=["long", "short", "table", "spaces"])
def test_lists_of_all_kinds_are_the_same_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lines.txt"
    path.write_text(text)
    lines = read_lines(path)
    assert lines.species.tolist() == ["Fe I", "Ca II"]
    np.testing.assert_allclose(lines.wavelength, [8470.7335, 8472.3269], atol=1e-3)
    np.testing.assert_allclose(lines.strength, [-2.072 - 1.008 * 2.2227, -2.008])


def test_lists_of_draper_are_read(tmp_path: Path) -> None:
    some = strong_lines().within(8498, 8670)
    back = read_lines(write_windows(tmp_path / "windows.csv", some, 0.5))
    np.testing.assert_allclose(back.wavelength, some.wavelength, atol=1e-3)
    assert back.species.tolist() == some.species.tolist()
    (tmp_path / "lines.csv").write_text("species,wavelength,strength\nCN,8500,\nFe I,8510,2\n")
    assert read_lines(tmp_path / "lines.csv").strength.tolist() == [2, 2]


def test_a_missing_medium_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "mg.csv"
    path.write_text("ll,dlam\n8470,1\n")
    with pytest.raises(DraperError, match="air or in vacuum"):
        read_lines(path)
    lines = read_lines(path, "air")
    assert lines.species.tolist() == ["unknown"]
    assert lines.wavelength[0] == pytest.approx(8472.327, abs=1e-3)
    path.write_text("wave_vac\n8470\n")
    with pytest.raises(DraperError, match="states another medium"):
        read_lines(path, "air")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("species,loggf\nFe I,-1\n", "no column of wavelengths"),
        ("wave_vac\nred\n", "no number"),
        ("wave_vac,loggf\n-1,0\n", "holds no lines"),
        ("ll,medium\n8470,water\n", "one medium"),
        ("'Fe 1', 8470.7, 2.2\n", "does not name its wavelengths"),
        ("WL_air(A)\n'Fe 1', 8470.7, 2.2\n", "cannot be read"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "lines.csv"
    path.write_text(text)
    with pytest.raises(DraperError, match=message):
        read_lines(path)
    with pytest.raises(DraperError, match="no such table"):
        read_lines(tmp_path / "none.csv")
