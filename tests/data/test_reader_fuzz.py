"""Whatever the bytes: draper.read returns spectra or raises a DraperError, and warns of nothing."""

import gzip
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_files import HINTS, small

import draper
from draper.data import io
from draper.data.spectra import Spectra
from draper.errors import DraperError

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

MAGIC = (
    b"", b"SIMPLE  =                    T", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"PK\x05\x06",
    b"\x93NUMPY\x01\x00v\x00",
    b"CDF\x01", b"CDF\x02", b"\x1f\x8b\x08", b"<?xml version='1.0'?>", b"<VOTABLE>", b"# %ECSV 1.0\n# ---\n",
    b"wave,flux,err\n", b"5000 1.0 0.5\n", b"# turbospectrum\n", b"source_id,wavelength,flux,flux_error\n",
    b"Obj\x01", b"\x80\x02}q\x00K\x00}q\x01(U\x05paramU\x08spectrum", b"(dp0\n",
)  # fmt: skip


def attempt(path, **options):
    """Return the spectra, or None where draper refused the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = draper.read(path, **options)
        except DraperError:
            return None
    assert isinstance(found, Spectra)
    assert np.isfinite(found.flux).all()
    assert np.isfinite(found.ivar).all()
    return found


@QUICK
@given(start=st.sampled_from(MAGIC), tail=st.binary(max_size=400))
def test_magic_bytes_and_noise(tmp_path, start, tail):
    path = tmp_path / "noise"
    path.write_bytes(start + tail)
    attempt(path)
    attempt(path, **HINTS)


@QUICK
@given(start=st.sampled_from(MAGIC), tail=st.binary(max_size=100))
def test_noise_inside_gzip(tmp_path, start, tail):
    path = tmp_path / "noise.gz"
    path.write_bytes(gzip.compress(start + tail, mtime=0))
    attempt(path, **HINTS)


@pytest.mark.parametrize("name", sorted(io.formats()))
@settings(QUICK, max_examples=6)
@given(start=st.sampled_from(MAGIC), tail=st.binary(max_size=200))
def test_noise_under_every_format_by_name(tmp_path, name, start, tail):
    path = tmp_path / "noise"
    path.write_bytes(start + tail)
    attempt(path, format=name, **HINTS)


cell = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(["", "nan", "inf", "-1", "x", "1e400", "#"]),
)


@QUICK
@given(
    rows=st.lists(st.lists(cell, min_size=1, max_size=5), min_size=1, max_size=6),
    mark=st.sampled_from([" ", ",", ";", "\t"]),
    header=st.sampled_from(
        ["", "wave flux err\n", "wave[nm],flux,ivar\n", "# wave_um dppm dppm_err\n", "a;b;c\n"]
    ),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_tables_of_wrong_cells(tmp_path, rows, mark, header, end):
    path = tmp_path / "table.txt"
    path.write_text(header + end.join(mark.join(row) for row in rows), newline="")
    attempt(path, **HINTS)
    for name in ("turbospectrum", "taurex", "exogan"):
        attempt(path, format=name)


array = st.sampled_from(
    [
        np.arange(1.0, 4),
        np.ones((2, 3)),
        np.ones((3, 2), np.float32),
        np.zeros(()),
        np.array("text"),
        np.array(["a", "b"]),
        np.full((2, 3), np.nan),
        np.ones((2, 2, 2)),
        np.empty((0, 3)),
        np.array([1 + 2j]),
        np.array([True, False]),
        np.arange(3, dtype=np.uint64),
    ]
)

arrays = st.dictionaries(
    st.sampled_from(
        [
            "wave",
            "wavelength_um",
            "flux",
            "spectra",
            "flxn",
            "ivar",
            "err",
            "labels",
            "label_names",
            "id",
            "flux_scale",
            "mask",
            "draper",
            "w_array_0",
            "meta",
            "unit",
            "quantity",
            "table/x",
        ]
    ),
    array,
    max_size=6,
)


@QUICK
@given(content=arrays, compressed=st.booleans())
def test_archives_of_wrong_arrays(tmp_path, content, compressed):
    path = tmp_path / "set.npz"
    (np.savez_compressed if compressed else np.savez)(path, **content)
    attempt(path, **HINTS)
    attempt(path)


@QUICK
@given(content=arrays, place=st.sampled_from(["Output/Spectra/native_", "Output/Spectra/", "", "table/"]))
def test_hdf5_of_wrong_datasets(tmp_path, content, place):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.attrs["_NCProperties"] = "version=2"
        file["Output/Spectra/native_spectrum"] = np.ones(3)
        for name, values in content.items():
            if values.dtype.kind != "U":
                file[f"{place}{name.replace('/', '_')}"] = values
    attempt(path, **HINTS)
    attempt(path, format="netcdf", **HINTS)


PARTS = [
    f"{name} {part}" for name in ("spectra", "spectra_err", "labels", "snr") for part in ("train", "val")
]


@QUICK
@given(content=st.dictionaries(st.sampled_from(PARTS), array, max_size=6))
def test_parts_of_wrong_arrays(tmp_path, content):
    np.save(tmp_path / "wave.npy", np.arange(500.0, 503))
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for name, values in content.items():
            if values.dtype.kind != "U":
                file[name] = values
    attempt(tmp_path / "set.h5", wavelengths=tmp_path / "wave.npy", **HINTS)
    attempt(tmp_path / "set.h5", format="cycle-starnet")


# ------------------------------------------------------------------------- truncated files of every format


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return small(tmp_path_factory.mktemp("small"))


KINDS = (
    "draper.h5", "draper.npz", "draper.fits", "draper.parquet", "one.csv", "one.ecsv", "turbospectrum",
    "text", "text.gz", "npz", "npz, compressed", "npy", "taurex-output", "netcdf", "exogan-chunk",
    "exogan-chunk, uncompressed", "cycle-starnet",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read_and_cut_ones_refused_or_read(files, tmp_path, kind):
    path, hints = files[kind]
    assert attempt(path, **hints) is not None
    content = path.read_bytes()
    cut = tmp_path / path.name
    for size in sorted({0, 1, 7, 64, *np.linspace(0, len(content) - 1, 12).astype(int).tolist()}):
        cut.write_bytes(content[:size])
        attempt(cut, **hints)


@pytest.mark.parametrize("kind", KINDS)
@settings(QUICK, max_examples=15)
@given(data=st.data())
def test_damaged_files_are_refused_or_read(files, tmp_path, kind, data):
    path, hints = files[kind]
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / path.name
    damaged.write_bytes(content)
    attempt(damaged, **hints)


REAL = (
    "gaia_rvs/Kepler-93.csv", "gaia_xp/XP_SAMPLED_RAW_dr3int6.ecsv", "gaia_xp/XP_CONTINUOUS_RAW.fits",
    "gaia_xp/XP_SAMPLED_RAW_votable_dr3int6.xml", "lamost/spec-55862-B6212_sp06-003.fits",
    "harps/HARPS.Archive_18Sco_R32K.fits", "sdss_spec/spec-0266-51602-0031.fits", "taurex/quickstart.dat",
)  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_files_cut_short(real_data, tmp_path, name):
    content = (real_data / name).read_bytes()
    cut = tmp_path / Path(name).name
    for size in (100, 2880, len(content) // 3, len(content) - 1):
        cut.write_bytes(content[:size])
        attempt(cut, **HINTS)
        attempt(cut)
