"""Parquet partitions: exact, one at a time, in order, and never half there."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from any_spectra import assert_identical, sets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import draper
from draper.data import partitions
from draper.data.grid import Grid
from draper.data.partitions import Partitions, write_file, write_partitions
from draper.data.spectra import Spectra
from draper.errors import DraperError

GRID = Grid.linear(5000, 5006, 1, medium="vacuum", resolving_power=2000.0)
RNG = np.random.default_rng(1)


def made(n: int = 9, grid: Grid = GRID, **columns) -> Spectra:
    flux = RNG.normal(1, 0.1, (n, len(grid)))
    table = {"id": [f"é{k}" for k in range(n)], "teff": np.arange(n) / 3, **columns}
    return Spectra(grid, flux, np.full(flux.shape, 4.0), table=table, quantity="normalised flux")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spectra=sets(), batch=st.integers(1, 5), rows=st.integers(1, 5), data=st.data())
def test_any_spectra_come_back_exactly(tmp_path_factory, spectra, batch, rows, data) -> None:
    folder = tmp_path_factory.mktemp("stars") / "stars"
    batches = spectra.batches(batch) if len(spectra) else [spectra]
    found = Partitions(write_partitions(batches, folder, rows=rows))
    assert len(found) == len(spectra)
    assert found.columns == tuple(spectra.table)
    assert set(found.counts[:-1].tolist()) <= {rows}
    parts = [found.read(number) for number in range(len(found.counts))]
    assert_identical(Spectra.concat(parts), spectra)
    assert_identical(Spectra.concat(list(found.batches())), spectra)
    chosen = data.draw(st.lists(st.integers(0, int(found.counts[0]) - 1), max_size=4)) if len(spectra) else []
    assert_identical(found.read(0, np.array(chosen, dtype=int)), parts[0][np.array(chosen, dtype=int)])
    for name, column in spectra.table.items():
        np.testing.assert_array_equal(found.column(name), column)


def test_only_the_needed_row_groups_are_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(partitions, "rows_within", lambda shape: 4)
    spectra = made(10)
    found = Partitions(write_partitions(spectra, tmp_path / "stars"))
    asked = []
    read = parquet.ParquetFile.read_row_group
    monkeypatch.setattr(
        parquet.ParquetFile,
        "read_row_group",
        lambda self, group: read(self, asked.append(group) or group),
    )
    assert_identical(found.read(0, [9, 1, 8]), spectra[[9, 1, 8]])
    assert_identical(found.read(0, spectra.table["teff"] > 2), spectra[7:])
    assert asked == [0, 2, 1, 2]


def test_columns_are_read_without_the_spectra(tmp_path: Path, monkeypatch) -> None:
    found = Partitions(write_partitions(made(5), tmp_path / "stars", rows=2))
    monkeypatch.delattr(parquet.ParquetFile, "read_row_groups")
    assert found.column("id").tolist() == ["é0", "é1", "é2", "é3", "é4"]
    assert list(found.table()) == ["id", "teff"]
    with pytest.raises(DraperError, match=r"no column 'tef'[\s\S]*did you mean 'teff'"):
        found.column("tef")


def test_a_column_has_one_kind_in_all_partitions(tmp_path: Path) -> None:
    parts = [made(2, k=[1, 2]), made(2, k=[0.5, np.nan]), made(2)]
    found = Partitions(write_partitions(parts, tmp_path / "stars", rows=2, fill=True))
    whole = Spectra.concat(parts, fill=True)
    assert found.read(0).table["k"].dtype == np.float64
    np.testing.assert_array_equal(found.column("k"), whole.table["k"])
    assert_identical(Spectra.concat([found.read(number) for number in range(3)]), whole)


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    spectra = made(5)

    def mark(name: str, spectra: Spectra) -> str:
        return Partitions(write_partitions(spectra, tmp_path / name, rows=2)).fingerprint

    first = mark("a", spectra)
    assert mark("b", spectra) == first
    others = [spectra[::-1], spectra.with_columns(teff=np.zeros(5)), spectra.with_columns(k=np.zeros(5))]
    marks = [mark(f"other{number}", other) for number, other in enumerate(others)]
    assert len({first, *marks}) == 4


def test_partitions_on_different_grids_are_refused(tmp_path: Path) -> None:
    write_partitions(made(3), tmp_path / "stars")
    other = Grid.linear(5000, 5006.6, 1.1, medium="vacuum", resolving_power=2000.0)
    draper.write(made(2, other), tmp_path / "stars" / "zz.parquet")
    with pytest.raises(DraperError, match=r"zz\.parquet[\s\S]*another grid[\s\S]*5006\.600[\s\S]*5006\.000"):
        Partitions(tmp_path / "stars")
    with pytest.raises(DraperError, match="another grid"):
        write_partitions([made(2), made(2, other)], tmp_path / "mixed", rows=1)
    assert [path.name for path in tmp_path.iterdir()] == ["stars"]


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    def breaks():
        yield made(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_partitions(breaks(), tmp_path / "stars", rows=2)
    assert not list(tmp_path.iterdir())
    (tmp_path / "stars").mkdir()
    write_partitions(made(4), tmp_path / "stars", rows=2)
    with pytest.raises(DraperError, match="new folder"):
        write_partitions(made(4), tmp_path / "stars")
    with pytest.raises(DraperError, match="no spectra to write"):
        write_partitions([], tmp_path / "none")
    with pytest.raises(DraperError, match="at least one spectrum"):
        write_partitions(made(4), tmp_path / "none", rows=0)
    assert [path.name for path in tmp_path.iterdir()] == ["stars"]


def test_read_and_write_know_the_folder_and_the_file(tmp_path: Path) -> None:
    spectra = made(5)
    path = draper.write(spectra.batches(2), tmp_path / "stars.parquet")
    path.rename(tmp_path / "stars.dat")  # the content decides
    assert_identical(draper.read(tmp_path / "stars.dat"), spectra)
    folder = draper.write(spectra, tmp_path / "stars")
    assert [file.name for file in folder.iterdir()] == ["part-000000.parquet"]
    assert draper.read(folder).flux.tobytes() == spectra.flux.tobytes()
    assert len(Partitions(tmp_path / "stars.dat")) == 5
    assert repr(Partitions(folder)).startswith("Partitions(5 x 7 px in 1 files, normalised flux")


def test_parquet_is_plain_to_other_tools(tmp_path: Path) -> None:
    spectra = made(3, IVAR=np.ones(3), ok=np.array([True, False, True]))
    table = parquet.read_table(draper.write(spectra, tmp_path / "stars.parquet"))
    assert table.schema.names == ["flux", "ivar", "id", "teff", "table/IVAR", "ok"]
    assert table["teff"].to_pylist() == spectra.table["teff"].tolist()
    np.testing.assert_array_equal(np.float32(table["flux"].to_pylist()), spectra.flux)
    chunk = parquet.ParquetFile(tmp_path / "stars.parquet").metadata.row_group(0).column(0)
    assert chunk.compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" in chunk.encodings


def test_what_is_no_parquet_of_spectra_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"teff": [1.0]}), path)
    with pytest.raises(
        DraperError, match=r"x\.parquet[\s\S]*draper\.write|draper has written[\s\S]*x\.parquet"
    ):
        draper.read(path)
    whole = draper.write(made(3), path, overwrite=True).read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DraperError, match="damaged or truncated"):
        draper.read(path)
    with pytest.raises(DraperError, match="no such file or folder"):
        Partitions(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DraperError, match="no Parquet files here"):
        Partitions(tmp_path / "empty")
    with pytest.raises(DraperError, match="no such partition"):
        Partitions(draper.write(made(3), path, overwrite=True)).read(1)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DraperError, match=r"draper\[parquet\]"):
        draper.write(made(3), tmp_path / "stars")
    with pytest.raises(DraperError, match=r"draper\[parquet\]"):
        draper.write(made(3), tmp_path / "stars.parquet")
    assert not list(tmp_path.iterdir())


def test_partitions_in_another_unit_are_refused_since_pixels_are_read_as_they_are(tmp_path: Path) -> None:
    for name, unit in (("a", "Jy"), ("b", "mJy")):
        part = Spectra(Grid.linear(5000, 5003, 1, medium="vacuum"), np.ones((2, 4)), unit=unit)
        write_file(part, tmp_path / f"{name}.parquet")
    with pytest.raises(DraperError, match=r"b\.parquet[\s\S]*unit"):
        Partitions(tmp_path)


@pytest.mark.parametrize("facts", [b"\xed", b"{}", b"[]", b'{"version": "one"}', b'{"version": 1}'])
def test_damaged_metadata_are_refused(tmp_path: Path, facts: bytes) -> None:
    table = parquet.read_table(draper.write(made(), tmp_path / "a.parquet"))
    damaged = table.replace_schema_metadata({**table.schema.metadata, partitions.KEY: facts})
    parquet.write_table(damaged, tmp_path / "a.parquet")
    with pytest.raises(DraperError, match="damaged or truncated"):
        Partitions(tmp_path / "a.parquet")
