"""The native file: exact, streamed, mapped, and never half there."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import draper
from draper.data import store
from draper.data.grid import Grid
from draper.data.spectra import Correlation, Spectra
from draper.errors import DraperError

NAN = float("nan")
RNG = np.random.default_rng(0)
GRID = Grid.linear(5000, 5006, 1, medium="vacuum")


def made(n: int = 9, grid: Grid = GRID, **options) -> Spectra:
    p = len(grid)
    flux = RNG.normal(1, 0.1, (n, p)).astype(np.float32)
    ivar = (RNG.uniform(0, 100, (n, p)) * (RNG.uniform(size=(n, p)) > 0.2)).astype(np.float32)
    table = {
        "id": np.array([f"étoile ☆ {k}" for k in range(n)], dtype=np.str_),
        "empty": np.array([""] * n, dtype=np.str_),
        "source_id": 2**62 + np.arange(n),
        "teff": np.where(np.arange(n) == 2, NAN, 4000.0 + np.arange(n) / 3),
        "giant": np.arange(n) % 2 == 0,
    }
    return Spectra(grid, flux, **{"ivar": ivar, "table": table, "unit": "1e-17 W / m²", **options})


def assert_same(one: Spectra, other: Spectra, *, meta: bool = True) -> None:
    assert one.flux.tobytes() == other.flux.tobytes()
    assert one.ivar.tobytes() == other.ivar.tobytes()
    assert one.grid.to_json() == other.grid.to_json()
    assert (one.quantity, one.unit) == (other.quantity, other.unit)
    assert not meta or dict(one.meta) == dict(other.meta)
    assert list(one.table) == list(other.table)
    for name, column in one.table.items():
        assert column.dtype.kind == other.table[name].dtype.kind, name
        np.testing.assert_array_equal(column, other.table[name])
    assert (one.correlation is None) == (other.correlation is None)
    if one.correlation is not None:
        assert one.correlation.of(slice(None)).tobytes() == other.correlation.of(slice(None)).tobytes()


wavelength = np.array([5000.1, 5000.7, 5001.9, 5010.0])
GRIDS = {
    "plain": GRID,
    "one pixel": Grid([5000.0]),
    "power": Grid.linear(5000, 5006, 1, medium="vacuum", resolving_power=1234.5),
    "everything": Grid(
        wavelength,
        edges=np.stack([wavelength - 0.1, wavelength + 0.2], axis=1),
        resolving_power=wavelength / 3,
        windows=((5000, 5002), (5009, 5011)),
    ),
    "coefficients": Grid.coefficients(["bp_0", "bp_é", "rp_0"]),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("n", [0, 1, 9])
def test_round_trip(tmp_path: Path, grid: str, n: int) -> None:
    spectra = made(
        n,
        GRIDS[grid],
        quantity="coefficients" if grid == "coefficients" else "flux",
        meta={"source": "é", "list": [1, 2.5, None], "deep": {"a": True}},
    )
    assert_same(store.read(store.write(spectra, tmp_path / "x.h5")), spectra)
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "one each"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_correlations(tmp_path: Path, shared: bool, kind) -> None:
    n, p = 9, len(GRID)
    templates = RNG.uniform(size=(2 if shared else n, p, p)).astype(kind)
    index = np.array([0, 1, 1, 0, 0, 1, 0, 1, 0] if shared else np.arange(n), dtype=np.int32)
    spectra = made(n, correlation=Correlation(templates, index))
    whole = store.read(store.write(spectra, tmp_path / "x.h5"))
    assert_same(whole, spectra)
    assert isinstance(whole.correlation.templates, np.memmap)
    batches = store.read(store.write(spectra.batches(2), tmp_path / "batches.h5"))
    assert_same(batches, spectra)
    assert len(batches.correlation.templates) == len(templates)
    used = store.read(store.write(spectra[[1, 2]].batches(1), tmp_path / "used.h5"))
    assert_same(used, spectra[[1, 2]])
    assert len(used.correlation.templates) == (1 if shared else 2)
    parts = [made(2, correlation=Correlation(RNG.uniform(size=(2, p, p)), [1, 0])) for _ in range(3)]
    assert_same(store.read(store.write(parts, tmp_path / "parts.h5")), Spectra.concat(parts))


@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_many_batches_are_one_write(tmp_path: Path, rows: int) -> None:
    spectra = made(23)
    assert_same(store.read(store.write(spectra.batches(rows), tmp_path / "x.h5")), spectra)


def test_empty_batches_do_not_matter(tmp_path: Path) -> None:
    spectra = made(3)
    path = store.write([spectra[:0], spectra[:2], spectra[:0], spectra[2:]], tmp_path / "x.h5")
    assert_same(store.read(path), spectra)


def test_read_maps_the_arrays(tmp_path: Path) -> None:
    spectra = store.read(store.write(made(), tmp_path / "x.h5"))
    for array in (spectra.flux, spectra.ivar, spectra[2:5].flux):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
    assert spectra.validated
    assert type(spectra[[1, 2]].flux.sum()) is np.float32


def test_default_weights_are_written_out(tmp_path: Path) -> None:
    path = store.write(Spectra(GRID, np.ones((3, 7))), tmp_path / "x.h5")
    assert store.read(path).ivar.tolist() == np.ones((3, 7)).tolist()


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ([1, 2], [0.5], [1, 2, 0.5]),
        ([True, False], [3], [1, 0, 3]),
        ([True, False], [NAN], [1, 0, NAN]),
        ([1, 2], [True], [1, 2, 1]),
        ([0.5, NAN], [7], [0.5, NAN, 7]),
        ([2**62 + 1, 1], [2**62 + 3], [2**62 + 1, 1, 2**62 + 3]),
        ([True, False], [True], [True, False, True]),
        (["a", ""], ["longer é"], ["a", "", "longer é"]),
    ],
)
def test_columns_that_widen(tmp_path: Path, first, second, wanted) -> None:
    parts = [Spectra(GRID, np.ones((len(v), 7)), table={"x": v, "y": v}) for v in (first, second)]
    table = store.read(store.write(parts, tmp_path / "x.h5")).table
    joined = Spectra.concat(parts).table
    assert list(table) == ["x", "y"]
    for column in (table["x"], table["y"]):
        np.testing.assert_array_equal(column, wanted)
        assert column.dtype.kind == joined["x"].dtype.kind


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (made(1).pixels(slice(0, 4)), "on another grid than set 0"),
        (made(1, quantity="transit depth"), "another quantity"),
        (made(1, unit=""), "another unit"),
        (made(1).with_columns(teff=None), "other columns"),
        (made(1).with_columns(more=[1]), "other columns"),
        (made(1).with_columns(teff=["hot"]), "'teff' holds text in one set and numbers in another"),
        (made(1).with_columns(id=[7]), "'id' holds text in one set and numbers in another"),
        (made(1, correlation=Correlation(np.ones((1, 7, 7)), [0])), "do not both have correlations"),
    ],
)
def test_batches_that_differ_leave_nothing(tmp_path: Path, other: Spectra, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        store.write([made(2), other], tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())


def test_fill(tmp_path: Path) -> None:
    first, second = made(2), made(1).with_columns(teff=None, id=None, source_id=None, n=[3], word=["x"])
    for parts in ([first, second], [second, first], [first[:0], second, first], [first, second, first]):
        path = store.write(parts, tmp_path / "x.h5", fill=True, overwrite=True)
        assert_same(store.read(path), Spectra.concat(parts, fill=True))


def test_any_name_of_a_column(tmp_path: Path) -> None:
    names = ["Fe/H", "/flux", ".", "..", "a", "a/b", "", "%", "%2F", "é ☆", "[x]", "text", "order"]
    spectra = Spectra(GRID, np.ones((1, 7)), table={name: [float(k)] for k, name in enumerate(names)})
    assert_same(store.read(store.write(spectra, tmp_path / "x.h5")), spectra)


def test_text_that_hdf5_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="'x' holds text that HDF5 cannot"):
        store.write(Spectra(GRID, np.ones((1, 7)), table={"x": ["a\0b"]}), tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())


def test_long_provenance(tmp_path: Path) -> None:
    spectra = made(1, meta={"rejected": ["x" * 100] * 5000})
    assert_same(store.read(store.write(spectra, tmp_path / "x.h5")), spectra)


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    with h5py.File(store.write(made(), tmp_path / "x.h5")) as file:
        assert file["flux"].dtype == file["ivar"].dtype == np.float32
        assert file["flux"].chunks is None
        assert dict(file["wavelength"].attrs) == {"unit": "Angstrom", "medium": "vacuum"}
        assert set(file["table"]) == {"id", "empty", "source_id", "teff", "giant"}
        assert json.loads(file.attrs["meta"]) == {}


@pytest.mark.parametrize("compression", ["gzip", None])
def test_a_file_that_another_program_has_repacked(tmp_path: Path, compression: str | None) -> None:
    spectra = made()
    path = store.write(spectra, tmp_path / "x.h5")
    with h5py.File(path) as source, h5py.File(tmp_path / "packed.h5", "w") as target:
        target.attrs.update(dict(source.attrs))
        for name in source:
            if name in ("flux", "ivar"):
                target.create_dataset(name, data=source[name][:], chunks=(2, 7), compression=compression)
            else:
                source.copy(name, target)
    assert_same(store.read(tmp_path / "packed.h5"), spectra)


# ------------------------------------------------------------- damaged files


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_truncated(tmp_path: Path, fraction: float) -> None:
    path = store.write(made(200), tmp_path / "x.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(DraperError, match="truncated"):
        store.read(path)
    with pytest.raises(DraperError, match="truncated"):
        draper.read(path)


def test_files_that_are_not_draper_s(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with pytest.raises(DraperError, match="no such file"):
        store.read(path)
    for content in (b"", b"hello", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(DraperError, match="damaged or truncated"):
            store.read(path)
    path.unlink()
    with h5py.File(path, "w") as file:
        file["flux"] = np.ones((2, 3))
    with pytest.raises(DraperError, match="not written by draper"):
        store.read(path)


def edited(path: Path, edit) -> Path:
    store.write(made(), path)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def replaced(name: str, values):
    def edit(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda file: file.attrs.update(version=2), r"newer draper[\s\S]*upgrade"),
        (lambda file: file.attrs.update(version="two"), "damaged"),
        (lambda file: file.attrs.update(complete=False), "not written to its end"),
        (lambda file: file.attrs.__delitem__("complete"), "not written to its end"),
        (lambda file: file.attrs.__delitem__("quantity"), "damaged"),
        (lambda file: file.attrs.update(meta="{"), "damaged"),
        (lambda file: file.attrs.update(meta="3"), "damaged"),
        (lambda file: file.attrs.update(quantity="colour"), "unknown quantity"),
        (lambda file: file.__delitem__("flux"), "damaged"),
        (lambda file: file.__delitem__("wavelength"), "damaged"),
        (lambda file: file.__delitem__("table/teff"), "damaged"),
        (replaced("ivar", np.ones((9, 6), dtype=np.float32)), "differ in shape"),
        (replaced("wavelength", np.arange(1.0, 9)), "differ in length"),
        (replaced("wavelength", np.zeros(7)), "finite and positive"),
        (lambda file: (file.__delitem__("flux"), file.create_group("flux")), "damaged"),
        (lambda file: file["table/teff"].resize((4,)), "one value for each"),
    ],
)
def test_contents_that_do_not_fit(tmp_path: Path, edit, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        store.read(edited(tmp_path / "x.h5", edit))


# ----------------------------------------------------------------- atomicity


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("exists", [True, False])
def test_an_error_while_writing_leaves_everything_as_it_was(tmp_path: Path, error, exists: bool) -> None:
    path, before = tmp_path / "x.h5", made(2)
    if exists:
        store.write(before, path)

    def interrupted():
        yield made(3)
        assert len(list(tmp_path.iterdir())) > 1
        raise error

    with pytest.raises(error):
        store.write(interrupted(), path, overwrite=True)
    assert [one.name for one in tmp_path.iterdir()] == (["x.h5"] if exists else [])
    if exists:
        assert_same(store.read(path), before)


def test_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="no spectra to write"):
        store.write([], tmp_path / "x.h5")
    with pytest.raises(DraperError, match="folder does not exist"):
        store.write(made(), tmp_path / "no" / "x.h5")
    (tmp_path / "dir.h5").mkdir()
    with pytest.raises(DraperError, match="a folder has this name"):
        store.write(made(), tmp_path / "dir.h5")
    with pytest.raises(DraperError, match="not open"):
        store.Writer(tmp_path / "x.h5").append(made())
    assert [one.name for one in tmp_path.iterdir()] == ["dir.h5"]


def test_an_existing_file_is_replaced_while_it_is_mapped(tmp_path: Path) -> None:
    before, after = made(5), made(4)
    path = store.write(before, tmp_path / "x.h5")
    mapped = store.read(path)
    with pytest.raises(DraperError, match=r"exists already[\s\S]*overwrite=True"):
        store.write(after, path)
    store.write(after, path, overwrite=True)
    assert_same(mapped, before)
    assert_same(store.read(path), after)
    store.write(store.read(path)[1:], path, overwrite=True)
    assert_same(store.read(path), after[1:])


def run(code: str, *arguments: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


START = """
import sys, time, numpy as np
from draper.data import store
from draper.data.grid import Grid
from draper.data.spectra import Spectra
grid = Grid.linear(5000, 5999, 1, medium="vacuum")
batch = Spectra(grid, np.ones((1000, 1000)), table={"id": [str(k) for k in range(1000)], "n": range(1000)})
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    code = (
        START
        + """
with store.Writer(sys.argv[1], overwrite=True) as writer:
    while True:
        writer.append(batch)
        print("one", flush=True)
        time.sleep(0.05)
"""
    )
    path = store.write(made(2), tmp_path / "old.h5")
    before = path.read_bytes()
    for target in (tmp_path / "new.h5", path):
        process = run(code, target)
        assert process.stdout.readline() == "one\n", process.stderr.read()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "new.h5").exists()
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    code = (
        START
        + """
def held():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

start, most = held(), 0
with store.Writer(sys.argv[1]) as writer:
    for _ in range(15):
        writer.append(batch)
        most = max(most, held())
print(start, max(most, held()))
spectra = store.read(sys.argv[1])
assert len(spectra) == 15000 and spectra.flux[::1000].sum() == 15000
print(held())
"""
    )
    process = run(code, tmp_path / "big.h5")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    start, most, after = map(float, output.split())
    assert (tmp_path / "big.h5").stat().st_size > 115e6
    assert most - start < 60
    assert after - start < 60


def test_a_full_disk_gives_a_clear_error(tmp_path: Path) -> None:
    code = (
        START
        + """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
try:
    store.write([batch, batch], sys.argv[1])
except store.DraperError as error:
    print("said:", error.what)
"""
    )
    process = run(code, tmp_path / "x.h5")
    output, errors = process.communicate()
    assert output == "said: the file cannot be written\n", errors
    assert not list(tmp_path.iterdir())


def test_a_name_that_the_disk_refuses(tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="cannot be written"):
        store.write(made(), tmp_path / ("x" * 300 + ".h5"))


def test_a_random_batch_is_quick(tmp_path: Path) -> None:
    grid = Grid.linear(5000, 5499, 1, medium="vacuum")
    spectra = store.read(store.write(Spectra(grid, np.ones((4000, 500))), tmp_path / "x.h5"))
    rows = np.sort(RNG.choice(4000, 256, replace=False))
    spectra.flux[rows].sum()
    began = time.perf_counter()
    for _ in range(20):
        spectra.flux[rows].sum()
    assert (time.perf_counter() - began) / 20 < 0.02


def test_a_few_of_many_take_their_own_correlations_along(tmp_path) -> None:
    """Ten of a thousand objects must not write a thousand matrices."""
    grid = Grid.coefficients(f"c{number}" for number in range(4))
    matrices = np.random.default_rng(0).normal(size=(1000, 4, 4)).astype(np.float32)
    many = Spectra(
        grid, np.zeros((1000, 4)), quantity="coefficients", correlation=Correlation(matrices, np.arange(1000))
    )
    few = draper.read(draper.write(many[100:110], tmp_path / "few.h5"))
    assert few.correlation.templates.shape == (10, 4, 4)
    np.testing.assert_array_equal(few.correlation.of(slice(None)), matrices[100:110])


FULL = """
import resource, sys
import numpy as np
from draper.data import store
from draper.data.grid import Grid
from draper.data.spectra import Spectra
from draper.errors import OutputError
from draper.results.arrays import write_arrays

ids = np.array([f"star-{row}" for row in range(600)])
spectra = Spectra(Grid.linear(5000, 5003, 1, medium="vacuum"), np.ones((600, 4)), table={"id": ids})
refused = 0
for room in range(4096, 100_000, 8192):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    for write in (
        lambda: store.write(spectra, "x.h5"),
        lambda: write_arrays({"id": ids, "x": np.ones(9000)}, "y.h5"),
    ):
        try:
            write()
        except OutputError as error:
            assert "File too large" in str(error), error
            refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(refused)
"""


def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    """HDF5 crashes the process, at its end at the latest, if it cannot write what it holds back."""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", FULL], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 15
    assert {path.name for path in tmp_path.iterdir()} <= {"x.h5", "y.h5"}


# ----------------------------------------------------------------- pixels that draper has not written itself


def changed(path: Path, name: str, value: float, rows: object = slice(None)) -> Path:
    """Write a native file and change pixels of it with another program."""
    draper.write(made(ivar=np.ones((9, 7))), path)
    with h5py.File(path, "r+") as file:
        file[name][rows] = value
    return path


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("flux", NAN, "flux is not finite where ivar is positive"),
        ("flux", np.inf, "flux is not finite where ivar is positive"),
        ("ivar", -4, "ivar must be finite and not negative"),
        ("ivar", NAN, "ivar must be finite and not negative"),
    ],
)
def test_pixels_that_were_changed_elsewhere_are_validated(tmp_path, name, value, words):
    for rows in (slice(None), 4):
        path = changed(tmp_path / f"{rows}.h5", name, value, rows)
        with pytest.raises(DraperError, match=words):
            draper.read(path)
        with pytest.raises(DraperError, match=words):
            draper.read([path], select="teff=0,9999")


def test_changes_that_are_valid_are_read(tmp_path):
    assert (draper.read(changed(tmp_path / "a.h5", "flux", 2.5)).flux == 2.5).all()


def test_a_file_without_a_checksum_is_validated(tmp_path):
    """Another program may write the format; NaN under a weight of 0 becomes 0, as everywhere."""
    path = changed(tmp_path / "a.h5", "flux", NAN, 4)
    with h5py.File(path, "r+") as file:
        del file.attrs["checksum"]
        file["ivar"][4] = 0
    spectra = draper.read(path)
    assert (spectra.flux[4] == 0).all()
    assert np.isfinite(spectra.flux).all()


def test_what_draper_wrote_is_not_validated_again(tmp_path, monkeypatch):
    """Only pieces of it are read, however large it is."""
    path = draper.write(made(1000), tmp_path / "a.h5")
    monkeypatch.setattr("draper.data.spectra.checked_flux", None)
    assert isinstance(draper.read(path).flux, np.memmap)


def test_the_checksum_of_a_large_file_is_of_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PIECE", 5)
    monkeypatch.setattr(store, "PIECES", 4)
    path = changed(tmp_path / "a.h5", "flux", NAN, slice(5, None))
    with pytest.raises(DraperError, match="not finite"):
        draper.read(path)
    assert len(draper.read(draper.write(made(1000), tmp_path / "b.h5"))) == 1000
