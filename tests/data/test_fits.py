"""FITS headers are compared with the file before astropy believes them."""

import gzip

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from astropy.table import Table

import draper
from draper.data.parsing import fits, fits_header
from draper.errors import DraperError

HINTS = {"unit": "angstrom", "medium": "vacuum"}


@pytest.fixture
def content(tmp_path):
    """Two tables and an image: what is damaged is not always in the first header."""
    table = Table({"wavelength": np.arange(5000.0, 5010), "flux": np.ones(10)})
    image = astropy_fits.ImageHDU(np.ones((3, 4)))
    hdus = [astropy_fits.PrimaryHDU(), *(astropy_fits.BinTableHDU(table) for _ in range(2)), image]
    astropy_fits.HDUList(hdus).writeto(tmp_path / "whole.fits")
    return (tmp_path / "whole.fits").read_bytes()


def changed(content: bytes, keyword: str, value: object, extension: int) -> bytes:
    """Return a file in which a keyword of a header has another value."""
    start = 0
    for _ in range(extension):
        start = content.index(b"XTENSION", start + 1)
    place = content.index(f"{keyword:<8}=".encode(), start)
    return content[:place] + f"{keyword:<8}= {value:>20}".ljust(80).encode() + content[place + 80 :]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("keyword", "value", "extension", "words"),
    [
        ("NAXIS", 999999999, 0, "NAXIS is 999999999"),
        ("NAXIS", 999999999, 3, "NAXIS is 999999999"),
        ("NAXIS", -1, 1, "NAXIS is -1"),
        ("NAXIS", "2.5", 1, "NAXIS is 2.5"),
        ("TFIELDS", 999999999, 1, "TFIELDS is 999999999"),
        ("TFIELDS", 999999999, 2, "TFIELDS is 999999999"),
        ("NAXIS2", 999999999, 2, "NAXIS2 is 999999999"),
        ("NAXIS2", 3000, 1, "declare 5"),
        ("PCOUNT", 99999, 2, "PCOUNT is 99999"),
        ("NAXIS1", -4, 3, "NAXIS1 is -4"),
    ],
)
def test_headers_that_declare_too_much_are_refused(tmp_path, content, pack, keyword, value, extension, words):
    path = tmp_path / "a.fits"
    path.write_bytes(pack(changed(content, keyword, value, extension)))
    with pytest.raises(DraperError, match=words):
        draper.read(path, **HINTS)


def test_whole_files_pass(tmp_path, content):
    """Blanks after the last header, which some programs write, are not a header."""
    path = tmp_path / "a.fits"
    for tail in (b"", bytes(2880), b" " * 100):
        path.write_bytes(content + tail)
        assert len(draper.read(path, **HINTS).grid) == 10


def test_variable_arrays_and_groups_count_as_they_are_stored(tmp_path):
    path = tmp_path / "a.fits"
    cells = np.array([np.arange(3.0), np.arange(7.0)], dtype=object)
    column = astropy_fits.Column("flux", "PD()", array=cells)
    groups = astropy_fits.GroupData(np.ones((5, 2, 3)), bitpix=-32, parnames=["a"], pardata=[np.ones(5)])
    for hdus in ([astropy_fits.PrimaryHDU(), astropy_fits.BinTableHDU.from_columns([column])], [groups]):
        first = [astropy_fits.GroupsHDU(groups)] if hdus == [groups] else hdus
        astropy_fits.HDUList(first).writeto(path, overwrite=True)
        assert len(fits.headers(path)) == len(first)
        path.write_bytes(path.read_bytes()[:-2880])
        assert fits.headers(path) == ()


def test_compressed_images_obey_the_limit(tmp_path):
    path = tmp_path / "a.fits"
    astropy_fits.CompImageHDU(np.zeros((1000, 1000), np.float32)).writeto(path)
    assert len(fits.headers(path)) == 2
    with (
        pytest.raises(DraperError, match="unpacks to more than the limit"),
        fits.opened(path, unpacked_limit=0.001),
    ):
        pass


def test_whole_numbers_of_any_length_are_numbers_where_they_fit():
    header = {"CDELT1": 10**23, "CRVAL1": 10**400, "CRPIX1": float("nan"), "CD1_1": True}
    assert fits_header.number(header, "CDELT1") == 1e23
    assert [fits_header.number(header, name) for name in ("CRVAL1", "CRPIX1", "CD1_1")] == [None] * 3
