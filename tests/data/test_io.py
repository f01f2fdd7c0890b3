"""From any files to one set of spectra: one by one, by folders, on one grid, with labels."""

import gzip
from pathlib import Path

import numpy as np
import pytest

import draper
from draper.configs.read import ReadConfig
from draper.data import io, store
from draper.data.grid import Grid
from draper.data.parsing.source import Source
from draper.data.spectra import Correlation, Spectra
from draper.errors import DraperError

NAN = float("nan")
HINTS = {"unit": "angstrom", "medium": "vacuum"}


def text(path: Path, start: float = 5000, count: int = 5, step: float = 1, value: float = 1.0) -> Path:
    rows = (f"{start + step * k} {value + k / 10}\n" for k in range(count))
    path.write_text("".join(rows))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three stars on one grid, a hidden file and a folder inside."""
    there = tmp_path / "stars"
    (there / "deeper").mkdir(parents=True)
    for number, name in enumerate("cab"):
        text(there / f"{name}.txt", value=number)
    (there / ".hidden").write_text("not a spectrum")
    return there


# ---------------------------------------------------------------- what is read


def test_a_folder_is_its_files_in_order(folder: Path) -> None:
    spectra = draper.read(folder, **HINTS)
    assert spectra.ids.tolist() == ["a", "b", "c"]
    assert spectra.flux[:, 0].tolist() == [1, 2, 0]
    assert spectra.grid.vacuum.tolist() == [5000, 5001, 5002, 5003, 5004]
    assert dict(spectra.meta) == {"source": "a.txt", "format": "text", "medium": "vacuum"}
    assert draper.read([folder / "c.txt", folder / "a.txt"], **HINTS).ids.tolist() == ["c", "a"]
    assert draper.read(str(folder / "c.txt"), **HINTS).ids.tolist() == ["c"]


def test_a_folder_of_files_that_need_no_hints(tmp_path: Path, folder: Path) -> None:
    spectra = draper.read(folder, **HINTS)
    (tmp_path / "set").mkdir()
    draper.write(spectra[:2], tmp_path / "set" / "1.h5")
    draper.write(spectra[2:], tmp_path / "set" / "2.fits")
    assert draper.read(tmp_path / "set").ids.tolist() == ["a", "b", "c"]


def test_expand(folder: Path) -> None:
    assert [source.path.name for source in io.expand([folder, folder / "c.txt"])] == [
        "a.txt",
        "b.txt",
        "c.txt",
        "c.txt",
    ]
    with pytest.raises(DraperError, match=r"no such file[\s\S]*nowhere"):
        list(io.expand([folder / "nowhere"]))
    with pytest.raises(DraperError, match="no files to read"):
        draper.read(folder / "deeper")
    with pytest.raises(DraperError, match="no files to read"):
        draper.read([])


def test_a_folder_that_is_one_set(tmp_path: Path) -> None:
    for name, array in [
        ("X", np.ones((2, 4))),
        ("params", np.ones((2, 2))),
        ("ids", np.arange(2)),
        ("axis_labels", np.arange(5000.0, 5004)),
    ]:
        np.save(tmp_path / f"{name}.npy", array)
    assert [source.path for source in io.expand([tmp_path])] == [tmp_path]


def test_recognise(tmp_path: Path, folder: Path) -> None:
    assert io.recognise(Source(folder / "a.txt")).name == "text"
    with pytest.raises(DraperError, match=r"unknown format[\s\S]*did you mean 'text'"):
        io.recognise(Source(folder / "a.txt"), "texxt")
    (tmp_path / "empty.fits").write_bytes(b"")
    with pytest.raises(DraperError, match=r"empty\.fits: the file is empty"):
        io.recognise(Source(tmp_path / "empty.fits"))
    (tmp_path / "noise.dat").write_bytes(b"\x00\x01\xfe" * 40)
    with pytest.raises(DraperError, match=r"no reader recognises this binary file[\s\S]*draper formats"):
        io.recognise(Source(tmp_path / "noise.dat"))
    with pytest.raises(DraperError):
        draper.read(folder / "a.txt", format="draper")


def test_formats_are_named_once() -> None:
    found = io.formats()
    assert {"draper", "draper-npz", "draper-fits", "text", "npz", "gaia-xp"} <= set(found) | {"gaia-xp"}
    assert list(found)[:3] == ["draper", "draper-npz", "draper-fits"]
    assert list(found)[-1] == "text"
    for name, one in found.items():
        assert name == one.name
        assert one.what


def test_suffixes_do_not_matter(tmp_path: Path, folder: Path) -> None:
    spectra = draper.read(folder, **HINTS)
    for written, named in [("x.h5", "x.fits"), ("x.npz", "x.txt"), ("x.fits", "x.h5")]:
        draper.write(spectra, tmp_path / written, overwrite=True).rename(tmp_path / named)
        assert draper.read(tmp_path / named).flux.tolist() == spectra.flux.tolist()
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress((folder / "a.txt").read_bytes()))
    assert draper.read(packed, **HINTS).flux.tolist() == spectra[0].flux.tolist()


def test_a_native_file_is_mapped(tmp_path: Path, folder: Path) -> None:
    path = draper.write(draper.read(folder, **HINTS), tmp_path / "x.h5")
    assert isinstance(draper.read(path).flux, np.memmap)
    assert dict(draper.read(path).meta)["source"] == "a.txt"


@pytest.mark.parametrize("suffix", ["h5", "npz", "fits"])
def test_written_and_read_again(tmp_path: Path, suffix: str) -> None:
    grid = Grid.from_wavelength([5000.0, 5001, 5003], medium="air", resolving_power=[1, 2, 3]).cut([(1, 1e5)])
    spectra = Spectra(
        grid, [[1, 2, 3], [4, 5, 6]], [[1, 0, 2], [0.1, 1e-9, 1e20]], unit="Jy", quantity="flux",
        table={"id": ["é", "b"], "n": [2**60, 1], "teff": [NAN, 2.5], "ok": [True, False]},
        correlation=Correlation(np.ones((1, 3, 3)), [0, 0]), meta={"a": [1, None]},
    )  # fmt: skip
    back = draper.read(draper.write(spectra, tmp_path / f"x.{suffix}"))
    assert back.flux.tobytes() == spectra.flux.tobytes()
    assert back.ivar.tobytes() == spectra.ivar.tobytes()
    assert back.grid.to_json() == spectra.grid.to_json()
    assert (back.unit, back.quantity, dict(back.meta)) == (spectra.unit, spectra.quantity, dict(spectra.meta))
    assert back.correlation.of(1).tolist() == np.ones((3, 3)).tolist()
    for name, column in spectra.table.items():
        np.testing.assert_array_equal(back.table[name], column)


# -------------------------------------------------------------------- options


@pytest.mark.parametrize("hints", [{}, {"unit": "nm"}, {"medium": "air"}])
def test_nothing_is_guessed(folder: Path, hints) -> None:
    with pytest.raises(DraperError, match=r"does not declare[\s\S]*(unit|medium)="):
        draper.read(folder, **hints)


def test_unknown_options(folder: Path) -> None:
    with pytest.raises(DraperError, match=r"ReadConfig does not know the option 'mediun'[\s\S]*'medium'"):
        draper.read(folder, mediun="air")
    with pytest.raises(DraperError, match="'medium' of ReadConfig is not valid"):
        draper.read(folder, medium="water")


def test_labels_from_a_table_among_the_spectra(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,Teff,feh\nb.txt,2,0.2\nc.txt,3,0.3\na.txt,1,0.1\n")
    spectra = draper.read(folder, labels=folder / "labels.csv", formula="double = 2 * teff", **HINTS)
    assert spectra.table["teff"].tolist() == [1, 2, 3]
    assert spectra.table["fe_h"].tolist() == [0.1, 0.2, 0.3]
    assert spectra.table["double"].tolist() == [2, 4, 6]
    with pytest.raises(DraperError, match="has no row for 1"):
        (folder / "labels.csv").write_text("file,Teff\nb.txt,2\na.txt,1\n")
        draper.read(folder, labels=(str(folder / "labels.csv"),), key="file", **HINTS)


def test_cut_and_resolving_power(folder: Path) -> None:
    spectra = draper.read(folder, cut=[(5000, 5001), (5003, 5009)], resolving_power=500, **HINTS)
    assert spectra.grid.vacuum.tolist() == [5000, 5001, 5003, 5004]
    assert spectra.grid.windows == ((5000, 5001), (5003, 5004))
    assert spectra.grid.resolving_power == 500
    with pytest.raises(DraperError, match="no pixel lies"):
        draper.read(folder, cut=[(1, 2)], **HINTS)


def test_rejected_spectra_are_listed(folder: Path) -> None:
    (folder / "b.txt").write_text("5000 1\n5001 -1\n5002 nan\n5003 1\n5004 1\n")
    config = ReadConfig(reject=("nan", "negative"), **HINTS)
    log = io.Log()
    assert [batch.ids[0] for batch in io.stream([folder], config, log)] == ["a", "c"]
    assert log.rejected == [io.Rejection("b", "1 bad or missing pixels")]
    spectra = draper.read(folder, reject="negative", **HINTS)
    assert spectra.meta["rejected"] == [{"name": "b", "reason": "1 negative pixels"}]
    with pytest.raises(DraperError, match=r"all spectra were rejected[\s\S]*reject="):
        draper.read(folder / "b.txt", reject=("nan",), **HINTS)


def test_columns_that_some_files_lack(tmp_path: Path) -> None:
    grid = Grid.linear(5000, 5002, 1, medium="vacuum")
    one = draper.write(Spectra(grid, np.ones((1, 3)), table={"id": ["a"], "teff": [1.0]}), tmp_path / "1.h5")
    two = draper.write(Spectra(grid, np.ones((1, 3)), table={"id": ["b"], "snr": [2.0]}), tmp_path / "2.npz")
    with pytest.raises(DraperError, match=r"other columns[\s\S]*fill"):
        draper.read([one, two])
    both = draper.read([one, two], fill=True)
    np.testing.assert_array_equal(both.table["teff"], [1, NAN])
    np.testing.assert_array_equal(both.table["snr"], [NAN, 2])


def test_empty_sets(tmp_path: Path) -> None:
    grid = Grid.linear(5000, 5002, 1, medium="vacuum")
    empty = draper.write(Spectra(grid, np.ones((0, 3))), tmp_path / "0.h5")
    full = draper.write(Spectra(grid, np.ones((2, 3))), tmp_path / "2.h5")
    assert len(draper.read(empty)) == 0
    assert len(draper.read([empty, full])) == 2
    with pytest.raises(DraperError, match="no spectra"):
        draper.read([empty, empty])


# ---------------------------------------------------------------------- grids


@pytest.fixture
def arms(tmp_path: Path) -> list[Path]:
    return [
        text(tmp_path / "fine.txt", 5000, 101, 0.1),
        text(tmp_path / "coarse.txt", 5004, 20, 1),
        text(tmp_path / "other.txt", 5002, 50, 0.5),
    ]


def test_different_grids_are_listed(tmp_path: Path, arms: list[Path]) -> None:
    with pytest.raises(DraperError) as caught:
        draper.read(arms, **HINTS)
    message = str(caught.value)
    for words in ("different grids", "fine.txt: Grid(101 px, 5000.000-5010.000", "coarse.txt: Grid(20 px",
                  "other.txt", "grid='common'", "naming its file"):  # fmt: skip
        assert words in message
    many = [text(tmp_path / f"{k:02d}.txt", 5000 + k) for k in range(15)]
    with pytest.raises(DraperError, match=r"00.txt[\s\S]*11.txt[\s\S]*and 3 more"):
        draper.read(many, **HINTS)


def test_common_grid(arms: list[Path]) -> None:
    spectra = draper.read(arms, grid="common", **HINTS)
    assert spectra.grid.vacuum.tolist() == list(range(5004, 5010))  # 5010 is half outside one of them
    np.testing.assert_allclose(spectra.flux[0], 1 + np.arange(40, 91, 10) / 10, rtol=1e-6)
    np.testing.assert_allclose(spectra.flux[1], 1 + np.arange(6) / 10, rtol=1e-6)
    np.testing.assert_allclose(spectra.flux[2], 1 + np.arange(4, 15, 2) / 10, rtol=1e-6)
    assert (spectra.ivar == 1).all()
    cut = draper.read(arms, grid="common", cut=[(5005, 5007)], **HINTS)
    assert cut.grid.vacuum.tolist() == [5005, 5006, 5007]


def test_grid_of_a_file(tmp_path: Path, arms: list[Path]) -> None:
    spectra = draper.read(arms, grid=str(arms[1]), **HINTS)
    assert spectra.grid.vacuum.tolist() == list(range(5004, 5024))
    assert (spectra.ivar > 0).sum(axis=1).tolist() == [7, 20, 20]
    native = draper.write(draper.read(arms[1], **HINTS), tmp_path / "grid.h5")
    assert draper.read(arms[0], grid=str(native), format="text", **HINTS).grid.matches(spectra.grid)
    for wrong, words in [
        ("nowhere.h5", "no such file"),
        (str(text(tmp_path / "far.txt", 9000)), "do not overlap"),
    ]:
        with pytest.raises(DraperError, match=words):
            draper.read(arms, grid=wrong, **HINTS)


def test_no_common_range(tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="no wavelength range in common"):
        draper.read([text(tmp_path / "a.txt", 5000), text(tmp_path / "b.txt", 6000)], grid="common", **HINTS)


def test_rounding_does_not_make_another_grid(tmp_path: Path) -> None:
    paths = [text(tmp_path / "a.txt", 5000), text(tmp_path / "b.txt", 5000.0004)]
    assert draper.read(paths, **HINTS).grid.vacuum[0] == 5000
    first, second = io.stream(paths, ReadConfig(**HINTS))
    assert first.grid is second.grid


def test_errors_name_the_file(folder: Path) -> None:
    (folder / "b.txt").write_text("5000 1\n5000 1\n")
    with pytest.raises(DraperError, match=r"b\.txt"):
        draper.read(folder, **HINTS)
    (folder / "b.txt").write_text("")
    with pytest.raises(DraperError, match=r"b\.txt: the file is empty"):
        draper.read(folder, **HINTS)


def test_a_stream_holds_one_batch_at_a_time(tmp_path: Path) -> None:
    grid = Grid.linear(5000, 5009, 1, medium="vacuum")
    path = store.write(Spectra(grid, np.ones((10000, 10))), tmp_path / "x.h5")
    sizes = [len(batch) for batch in io.stream([path], ReadConfig(cut=((5000, 5004),)))]
    assert sum(sizes) == 10000
    assert max(sizes) <= 4096


def test_files_of_another_resolving_power_are_refused(tmp_path: Path) -> None:
    grids = [Grid.linear(5000, 5010, 1, medium="vacuum", resolving_power=power) for power in (2000, 50_000)]
    paths = [
        draper.write(Spectra(grid, np.ones((1, 11))), tmp_path / f"{number}.h5")
        for number, grid in enumerate(grids)
    ]
    with pytest.raises(DraperError, match="the resolving power does not"):
        draper.read(paths)
    assert len(draper.read(paths, resolving_power=2000)) == 2


# ------------------------------------------------------------------- bad files


@pytest.fixture
def mixed(folder: Path) -> Path:
    """The three stars, a file that is none, one that is cut short, and one on other pixels."""
    (folder / "d.txt").write_bytes(b"\x00\x01\xfe" * 40)
    (folder / "e.txt").write_text("5000 1.0\n5001 one\n")
    text(folder / "f.txt", start=6000)
    return folder


@pytest.mark.parametrize("options", [{}, {"grid": "common"}])
def test_bad_files_are_skipped_and_listed(mixed: Path, options) -> None:
    if options:
        (mixed / "f.txt").write_text("no spectrum either\n")
    with pytest.raises(DraperError):
        draper.read(mixed, **options, **HINTS)
    done: list[tuple[int, int]] = []
    spectra = draper.read(
        [mixed, mixed / "nowhere.txt"], skip_bad=True, progress=lambda *n: done.append(n), **options, **HINTS
    )
    assert spectra.ids.tolist() == ["a", "b", "c"]
    assert {Path(file["name"]).name for file in spectra.meta["skipped"]} == {
        "d.txt", "e.txt", "f.txt", "nowhere.txt"
    }  # fmt: skip
    assert all(file["reason"] for file in spectra.meta["skipped"])
    assert done[-1][0] == done[-1][1]


def test_only_bad_files_are_an_error(mixed: Path) -> None:
    with pytest.raises(DraperError, match=r"none of the 2 files can be used; .*no reader recognises"):
        draper.read([mixed / "d.txt", mixed / "e.txt"], skip_bad=True, **HINTS)
    with pytest.raises(DraperError, match=r"^.*d\.txt: no reader recognises"):
        draper.read(mixed / "d.txt", skip_bad=True, **HINTS)
    with pytest.raises(DraperError, match="all needed"):
        draper.read([mixed / "a.txt", mixed / "d.txt"], skip_bad=True, together=True, **HINTS)


def test_a_file_that_is_bad_at_its_end_is_skipped_as_a_whole(folder: Path, monkeypatch) -> None:
    batches = io._batches

    def broken(source: Source, config: ReadConfig):
        yield from batches(source, config)
        if source.name == "a":
            raise source.error("the second batch is damaged")

    monkeypatch.setattr(io, "_batches", broken)
    spectra = draper.read(folder, skip_bad=True, **HINTS)
    assert spectra.ids.tolist() == ["b", "c"]
    assert spectra.meta["skipped"][0]["reason"] == "the second batch is damaged"


# ----------------------------------------------------------------------- units


def test_files_in_different_units_are_joined(tmp_path: Path) -> None:
    """Air and nm, vacuum and Angstrom; W/m2/um and erg/s/cm2/A; a twin in Jy."""
    vacuum = np.array([5000.0, 5001, 5002])
    air = Grid.from_wavelength(vacuum, medium="vacuum").air / 10
    (tmp_path / "a.csv").write_text(
        "wave_vac [A],flux [erg/s/cm2/A],error\n" + "".join(f"{w},2e-15,1e-16\n" for w in vacuum)
    )
    (tmp_path / "b.csv").write_text(
        "wave_air [nm],flux [W/m2/um],error\n" + "".join(f"{w!r},2e-14,1e-15\n" for w in air.tolist())
    )
    jansky = 2e-15 * vacuum**2 / 2.99792458e18 * 1e23
    (tmp_path / "c.csv").write_text(
        "wave_vac [A],flux [Jy],error\n"
        + "".join(f"{w},{f},{f / 20}\n" for w, f in zip(vacuum, jansky, strict=True))
    )
    joined = draper.read([tmp_path / f"{name}.csv" for name in "abc"])
    assert joined.unit == "1e-17 erg / (s cm2 Angstrom)"
    np.testing.assert_allclose(joined.flux, 200, rtol=1e-6)
    np.testing.assert_allclose(joined.ivar, 0.01, rtol=1e-5)
    apart = [draper.read(tmp_path / f"{name}.csv") for name in "ca"]
    assert Spectra.concat(apart).unit == "Jy"
    np.testing.assert_allclose(Spectra.concat(apart).flux[1], jansky, rtol=1e-6)
    store.write(apart, tmp_path / "x.h5")
    np.testing.assert_allclose(draper.read(tmp_path / "x.h5").flux[1], jansky, rtol=1e-6)


def test_a_flux_without_unit_names_the_option_that_settles_it(tmp_path: Path, folder: Path) -> None:
    with_unit = tmp_path / "u.csv"
    with_unit.write_text("wave_vac [A],flux [Jy]\n" + "".join(f"{5000 + k},1\n" for k in range(5)))
    with pytest.raises(DraperError, match=r"a\.txt has another unit than u\.csv[\s\S]*flux_unit="):
        draper.read([with_unit, folder / "a.txt"], **HINTS)
    joined = draper.read([with_unit, folder / "a.txt"], flux_unit="mJy", **HINTS)
    assert joined.unit == "Jy"
    np.testing.assert_allclose(joined.flux[1], np.arange(10, 15) / 1e4, rtol=1e-6)
    with pytest.raises(DraperError, match="not a unit of flux"):
        draper.read(folder / "a.txt", flux_unit="parsec", **HINTS)
    normalised = tmp_path / "n.csv"
    normalised.write_text("wave_vac [A],normalised_flux\n" + "".join(f"{5000 + k},1\n" for k in range(5)))
    with pytest.raises(DraperError, match=r"another quantity[\s\S]*quantity="):
        draper.read([with_unit, normalised])


def test_depths_in_per_cent_and_ppm(tmp_path: Path) -> None:
    for name, value in (("%", "1.5,0.01"), ("ppm", "15000,100"), ("", "0.015,0.0001")):
        unit = f" ({name})" if name else ""
        rows = "".join(f"{k},{value}\n" for k in (1.0, 1.1, 1.2))
        (tmp_path / f"d{len(name)}.csv").write_text(f"wave_vac [um],transit_depth{unit},error\n{rows}")
    joined = draper.read([tmp_path / f"d{number}.csv" for number in (0, 1, 3)])
    assert joined.quantity == "transit depth"
    np.testing.assert_allclose(joined.flux, 0.015, rtol=1e-6)
    np.testing.assert_allclose(joined.ivar, 1e8, rtol=1e-5)
    built = [Spectra(joined.grid, [[value] * 3], unit=unit, quantity="transit depth")
             for value, unit in ((0.015, ""), (15000.0, "ppm"), (1.5, "%"))]  # fmt: skip
    np.testing.assert_allclose(Spectra.concat(built).flux, 0.015, rtol=1e-6)
