"""``draper demo``, ``samples``, ``formats``, ``info`` and ``convert`` as a user runs them."""

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import draper
from draper.cli import main
from draper.data import io, store
from draper.data.grid import Grid
from draper.data.spectra import Spectra

NAN = float("nan")
SAID = ["--unit", "angstrom", "--medium", "vacuum"]
COMMANDS = ("demo", "samples", "formats", "info", "convert", "train", "show")


def text(path: Path, start: float = 5000, count: int = 5, step: float = 1, values: str = "") -> Path:
    given = values.split() or ["1.0"] * count
    path.write_text("".join(f"{start + step * k} {value}\n" for k, value in enumerate(given)))
    return path


@pytest.fixture
def star(tmp_path: Path) -> Path:
    return text(tmp_path / "star.txt", values="1 0.5 0.25 2 1")


@pytest.fixture
def stars(tmp_path: Path) -> Path:
    """A native file with everything that a set of spectra can have, except correlations."""
    grid = Grid.from_wavelength([5000.0, 5001, 5003], medium="air", resolving_power=1000.5)
    table = {"id": ["é", "b"], "n": [2**60, 1], "teff": [NAN, 2.5], "ok": [True, False]}
    spectra = Spectra(grid, [[1, 2, 1e-30], [4, 5, 6]], [[1, 0, 2], [0.1, 3, 1e20]], table=table, unit="Jy")
    return store.write(spectra, tmp_path / "stars.h5")


def strict(output: str):
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(output, parse_constant=refuse)


def run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "draper", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# ------------------------------------------------------------------- the help


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys) -> None:
    assert main([command, "--help"]) == 0
    output = capsys.readouterr().out
    assert f"Usage: draper {command}" in output


@pytest.mark.parametrize("command", ["demo", "samples", "formats", "info", "convert", "show"])
def test_help_has_an_example(command: str, capsys) -> None:
    assert main([command, "--help"]) == 0
    assert re.search(rf"draper {command} [\w-]+", capsys.readouterr().out)


def test_help_of_the_program(capsys) -> None:
    for arguments in ([], ["--help"]):
        assert main(arguments) == 0
        output = capsys.readouterr().out
        assert all(command in output for command in COMMANDS)
        assert "Exit codes: 0 success; 2" in output
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == draper.__version__


# ------------------------------------------------- demo, samples and formats


def test_demo(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--json", "-o", "there"]) == 0
    said = strict(capsys.readouterr().out)
    assert said["spectra"] > 100
    assert Path(said["plot"]).read_bytes().startswith(b"\x89PNG")


def test_samples(tmp_path: Path, capsys) -> None:
    assert main(["samples"]) == 0
    assert "sed-grid" in capsys.readouterr().out
    assert main(["samples", "--json"]) == 0
    assert "sed-grid" in strict(capsys.readouterr().out)
    assert main(["samples", "sed-grid", "-o", str(tmp_path / "s.h5"), "--json"]) == 0
    said = strict(capsys.readouterr().out)
    assert (said["name"], said["path"], said["spectra"]) == ("sed-grid", str(tmp_path / "s.h5"), 462)
    assert len(draper.read(tmp_path / "s.h5")) == 462
    assert main(["samples", "sed-grid"]) == 0
    assert "462 spectra x 367 pixels" in capsys.readouterr().out
    assert main(["samples", "sed-gird"]) == 2
    assert "did you mean 'sed-grid'" in capsys.readouterr().err


def test_formats(capsys) -> None:
    assert main(["formats", "--json"]) == 0
    assert list(strict(capsys.readouterr().out)) == list(io.formats())
    assert main(["formats"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in io.formats())


# ----------------------------------------------------------------------- info


def test_info(stars: Path, star: Path, tmp_path: Path, capsys) -> None:
    assert main(["info", str(stars), "--json", "--plot", str(tmp_path / "x.pdf")]) == 0
    said = strict(capsys.readouterr().out)[str(stars)]
    assert (said["spectra"], said["pixels"], said["bad_pixels"], said["unit"]) == (2, 3, 1, "Jy")
    assert said["columns"]["teff"] == {"kind": "float64", "missing": 1, "low": 2.5, "high": 2.5}
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert main(["info", str(star), *SAID]) == 0
    output = capsys.readouterr().out
    assert "1 spectra x 5 pixels" in output
    assert "5000.000-5004.000 A vacuum" in output
    assert main(["info", str(stars), str(stars.parent / "nowhere.h5")]) == 2


def test_info_prints_names_with_brackets(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "a [b]"
    folder.mkdir()
    path = text(folder / "x[red].txt")
    assert main(["info", str(path), *SAID]) == 0
    assert "a [b]/x[red].txt" in capsys.readouterr().out.replace("\n", "")
    assert main(["convert", str(path), "-o", str(folder / "y[red].h5"), *SAID]) == 0
    assert "y[red].h5" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize(
    ("options", "first", "pixels"),
    [
        (["--cut", "5001", "5003"], 5001, 3),
        (["--cut", "5000", "5001", "5003", "5009"], 5000, 4),
        (["--cut", "5000", "5001", "--cut", "5003", "5009"], 5000, 4),
    ],
)
def test_cut(star: Path, capsys, options: list[str], first: float, pixels: int) -> None:
    assert main(["info", str(star), *SAID, *options, "--json"]) == 0
    said = strict(capsys.readouterr().out)[str(star)]
    assert (said["first"], said["pixels"]) == (first, pixels)


def test_labels_rename_formula_and_reject(star: Path, tmp_path: Path, capsys) -> None:
    worse = text(tmp_path / "worse.txt", values="1 -1 1 1 1")
    labels = tmp_path / "labels.csv"
    labels.write_text("file,Teff,feh,li_fe\nstar.txt,5000,0.5,1\nworse.txt,4000,,2\n")
    out = tmp_path / "x.h5"
    command = [
        "convert",
        str(star),
        str(worse),
        "-o",
        str(out),
        *SAID,
        "--labels",
        str(labels),
        "--rename.Teff",
        "temperature",
        "--formula",
        "A_Li = li_fe + 1.05 + fe_h",
        "hot = temperature > 1",
    ]
    assert main(command) == 2
    assert "may only use columns" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command[:-1], "--reject", "negative", "nan", "--json"]) == 0
    said = strict(capsys.readouterr().out)
    assert said == {
        "path": str(out),
        "spectra": 1,
        "rejected": [{"name": "worse", "reason": "1 negative pixels"}],
    }
    table = draper.read(out).table
    assert {name: column[0] for name, column in table.items()} == {
        "id": "star",
        "temperature": 5000,
        "fe_h": 0.5,
        "li_fe": 1,
        "A_Li": 2.55,
    }
    assert main([*command[:-1], "--reject", "negative", "--overwrite"]) == 0
    output = capsys.readouterr().out
    assert "1 spectra were rejected" in output
    assert "worse" in output


# -------------------------------------------------------------------- convert


@pytest.mark.parametrize("suffix", ["h5", "hdf5", "fits", "npz"])
def test_convert_there_and_back(stars: Path, tmp_path: Path, suffix: str, capsys) -> None:
    there, back = tmp_path / f"there.{suffix}", tmp_path / "back.h5"
    assert main(["convert", str(stars), "-o", str(there), "--json"]) == 0
    assert strict(capsys.readouterr().out) == {"path": str(there), "spectra": 2, "rejected": []}
    assert main(["convert", str(there), "-o", str(back)]) == 0
    assert "2 spectra written to" in capsys.readouterr().out
    before, after = draper.read(stars), draper.read(back)
    assert after.flux.tobytes() == before.flux.tobytes()
    assert after.ivar.tobytes() == before.ivar.tobytes()
    assert after.grid.to_json() == before.grid.to_json()
    assert after.unit == "Jy"
    for name, column in before.table.items():
        np.testing.assert_array_equal(after.table[name], column)


def test_convert_one_spectrum_to_text(star: Path, tmp_path: Path) -> None:
    assert main(["convert", str(star), "-o", str(tmp_path / "x.csv"), *SAID]) == 0
    assert main(["info", str(tmp_path / "x.csv")]) == 0
    assert draper.read(tmp_path / "x.csv").flux.tolist() == [[1, 0.5, 0.25, 2, 1]]


def test_convert_onto_one_grid(star: Path, tmp_path: Path, capsys) -> None:
    other, out = text(tmp_path / "other.txt", 5001, 7, 0.5), tmp_path / "x.npz"
    command = ["convert", str(star), str(other), "-o", str(out), *SAID]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "star.txt: Grid(5 px" in message
    assert "other.txt: Grid(7 px" in message
    assert "--grid common" in message
    assert main([*command, "--grid", "common"]) == 0
    assert draper.read(out).grid.vacuum.tolist() == [5002, 5003]  # those that lie whole in both
    assert main([*command, "--grid", str(other), "--overwrite"]) == 0
    assert len(draper.read(out).grid) == 7


@pytest.mark.parametrize("suffix", ["h5", "fits"])
def test_convert_fills_missing_columns(stars: Path, tmp_path: Path, suffix: str, capsys) -> None:
    spectra = draper.read(stars)
    more = store.write(spectra.with_columns(teff=None, snr=[7, 8]), tmp_path / "more.h5")
    out = tmp_path / f"x.{suffix}"
    command = ["convert", str(stars), str(more), "-o", str(out)]
    assert main(command) == 2
    assert "--fill" in capsys.readouterr().err
    assert main([*command, "--fill"]) == 0
    table = draper.read(out).table
    np.testing.assert_array_equal(table["teff"], [NAN, 2.5, NAN, NAN])
    np.testing.assert_array_equal(table["snr"], [NAN, NAN, 7, 8])


def test_convert_into_itself(stars: Path) -> None:
    before = draper.read(stars).flux.tolist()
    assert main(["convert", str(stars), "-o", str(stars)]) == 2
    assert main(["convert", str(stars), "-o", str(stars), "--overwrite"]) == 0
    assert draper.read(stars).flux.tolist() == before


def wrong_files(folder: Path) -> dict[str, Path]:
    (folder / "empty.txt").write_bytes(b"")
    (folder / "blank.txt").write_text("\n\n")
    (folder / "noise.dat").write_bytes(bytes(range(256)) * 4)
    (folder / "prose.txt").write_text("This is no spectrum.\n")
    (folder / "deeper").mkdir()
    cut = store.write(Spectra(Grid([5000.0, 5001.0]), np.ones((500, 2))), folder / "cut.h5")
    cut.write_bytes(cut.read_bytes()[:-500])
    names = ("nowhere.h5", "empty.txt", "blank.txt", "noise.dat", "prose.txt", "deeper", "cut.h5")
    return {name: folder / name for name in names} | {"nan wavelength": text(folder / "nan.txt", NAN)}


@pytest.mark.parametrize(
    "case",
    ["nowhere.h5", "empty.txt", "blank.txt", "noise.dat", "prose.txt", "deeper", "cut.h5", "nan wavelength"],
)
@pytest.mark.parametrize("command", ["info", "convert"])
def test_wrong_files(tmp_path: Path, case: str, command: str, capsys) -> None:
    path = wrong_files(tmp_path)[case]
    out = tmp_path / "out.h5"
    assert (
        main([command, str(path), *SAID, *(["-o", str(out)] if command == "convert" else []), "--json"]) == 2
    )
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    assert not [left for left in tmp_path.iterdir() if "out.h5" in left.name]


def test_values_that_are_not_there_are_bad_pixels(tmp_path: Path, capsys) -> None:
    path = text(tmp_path / "nan.txt", values="1 nan 1 nan 1")
    assert main(["info", str(path), *SAID, "--json"]) == 0
    assert strict(capsys.readouterr().out)[str(path)]["bad_pixels"] == 2
    assert main(["convert", str(path), "-o", str(tmp_path / "x.h5"), *SAID, "--reject", "nan"]) == 2
    assert "all spectra were rejected" in capsys.readouterr().err


WRONG = {
    "no file": (["convert", "-o", "x.h5"], "no file was given"),
    "no file to look at": (["info"], "no file was given"),
    "no output": (["convert", "{star}"], "--out"),
    "no medium": (["info", "{star}", "--unit", "nm"], "--medium air|vacuum"),
    "option": (["info", "{star}", "--mediun", "air"], "--medium"),
    "choice": (["info", "{star}", "--medium", "water"], "air"),
    "command": (["convrt", "{star}"], "convert"),
    "window": (["info", "{star}", *SAID, "--cut", "1", "2", "3"], "--cut"),
    "number": (["info", "{star}", *SAID, "--cut", "a", "b"], "cut"),
    "no pixel": (["info", "{star}", *SAID, "--cut", "1", "2"], "no pixel"),
    "formula": (["info", "{star}", *SAID, "--formula", "x"], "NAME = EXPRESSION"),
    "rename": (["info", "{star}", *SAID, "--rename.x", "y"], "no column 'x'"),
    "labels": (["info", "{star}", *SAID, "--labels", "nowhere.csv"], "no such table"),
    "format": (["info", "{star}", *SAID, "--format", "txt"], "did you mean 'text'"),
    "grid": (["info", "{star}", *SAID, "--grid", "nowhere.h5"], "no such file"),
    "suffix": (["convert", "{star}", *SAID, "-o", "x.h6"], "did you mean '.h5'"),
    "folder": (["convert", "{star}", *SAID, "-o", "no/x.h5"], "folder does not exist"),
    "plot": (["info", "{star}", *SAID, "--plot", "x.xyz"], ".png"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(case: str, star: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    arguments, words = WRONG[case]
    assert main([argument.format(star=star) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert sorted(tmp_path.iterdir()) == before


def test_debug_shows_the_traceback(capsys) -> None:
    assert main(["info", "nowhere.h5", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["h5", "fits", "npz"])
def test_an_interrupted_conversion_leaves_nothing(
    stars: Path, tmp_path: Path, suffix: str, monkeypatch
) -> None:
    def interrupted(*_, **__):
        yield draper.read(stars)
        raise KeyboardInterrupt

    monkeypatch.setattr(io, "stream", interrupted)
    out = tmp_path / "there" / f"x.{suffix}"
    out.parent.mkdir()
    with suppress(SystemExit):
        main(["convert", str(stars), "-o", str(out)])
    assert not list(out.parent.iterdir())


def test_an_interruption_is_reported(star: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(io, "stream", interrupted)
    assert main(["convert", str(star), "-o", str(tmp_path / "x.h5")]) == 130
    assert capsys.readouterr().err == "interrupted by SIGINT\n"


# ------------------------------------------------------------- as a program


def test_the_program_keeps_output_and_errors_apart(star: Path, tmp_path: Path) -> None:
    done = run("convert", star, "-o", tmp_path / "x.h5", *SAID, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert strict(done.stdout)["spectra"] == 1
    done = run("info", tmp_path / "nowhere.h5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: no such file",
        f"  given:    {tmp_path}/nowhere.h5",
        "  hint:     check the name and the folder",
    ]


SLOW = """
import signal, sys, time
from draper.cli import main
from draper.data import io

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
stream = io.stream

def slow(*given):
    for batch in stream(*given):
        yield batch
        time.sleep(60)

io.stream = slow
sys.exit(main(sys.argv[1:]))
"""
"""draper, with a pause after each batch that is written."""


def test_control_c_leaves_nothing(tmp_path: Path) -> None:
    for number in range(5):
        text(tmp_path / f"{number}.txt", count=500)
    out = tmp_path / "there" / "x.h5"
    out.parent.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "convert", str(tmp_path), "-o", str(out), *SAID],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not list(out.parent.iterdir()):
        time.sleep(0.01)
    time.sleep(1)  # Python drops an interrupt in a destructor: wait for the pause
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not list(out.parent.iterdir())


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    command = f"{sys.executable} -m draper formats | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["info", "star.txt"], "--unit angstrom|nm|um"),
        (["convert", "star.txt", "-o", "star.h5"], "--unit angstrom|nm|um"),
        (["predict", "builtin:rvs-emulator", "star.txt", "-o", "t.csv"], "--read.unit angstrom|nm|um"),
        (["train", "linear", "star.txt", "-o", "model"], "--read.unit angstrom|nm|um"),
        (
            ["info", "star.txt", "--unit", "nm", "--medium", "air", "--reject", "negative"],
            "of --reject or --select",
        ),
        (
            [
                "train",
                "linear",
                "star.txt",
                "-o=m",
                "--read.unit=nm",
                "--read.medium=air",
                "--read.reject=negative",
            ],
            "of --read.reject or --read.select",
        ),
    ],
)
def test_hints_name_flags_as_the_command_has_them(
    tmp_path: Path, monkeypatch, capsys, command: list[str], flag: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("star.txt").write_text("".join(f"{500 + x} {-x}\n" for x in range(20)))
    assert main(command) == 2
    (hint,) = re.findall(r"hint: +(.*)", capsys.readouterr().err)
    assert flag in hint
    with pytest.raises(draper.DraperError, match="unit='angstrom' or 'nm' or 'um'"):
        draper.read("star.txt")


# ------------------------------------------------------------------- bad files


def test_info_and_convert_skip_bad_files(star: Path, tmp_path: Path, capsys) -> None:
    bad, out = tmp_path / "bad.fits", tmp_path / "x.h5"
    bad.write_bytes(b"\x00\x01\xfe" * 40)
    reason = {"name": str(bad), "reason": "no reader recognises this binary file"}
    for command in (["info", str(bad), str(star)], ["convert", str(bad), str(star), "-o", str(out)]):
        assert main([*command, *SAID]) == 2
        assert not out.exists()
        capsys.readouterr()
        assert main([*command, *SAID, "--skip-bad", "--json"]) == 4
        said, errors = capsys.readouterr()
        assert strict(said)["skipped"] == [reason]
        assert "1 file was skipped; everything else is done" in errors
        again = ["--overwrite"] if command[0] == "convert" else []
        assert main([*command, *SAID, "--skip-bad", *again]) == 4
        assert main([part for part in command if part != str(bad)] + [*SAID, "--skip-bad", *again]) == 0
        assert main([part for part in command if part != str(star)] + [*SAID, "--skip-bad", *again]) == 2
        assert "bad.fits: no reader recognises" in capsys.readouterr().err
    assert draper.read(out).ids.tolist() == ["star"]


def test_the_help_says_the_code_of_skipped_files(capsys) -> None:
    assert main(["--help"]) == 0
    assert "4 done, but bad files were skipped" in " ".join(capsys.readouterr().out.split())
