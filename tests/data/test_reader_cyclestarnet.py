"""Training files of Cycle-StarNet: three parts, errors and masks that may be missing, known pixels."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import draper
from draper.data.parsing.payne import LABELS, apogee_grid
from draper.errors import DraperError

COUNTS = {"train": 4, "val": 2, "test": 1}
PIXELS = 6


def write(path: Path, pixels: int = PIXELS, **changes: np.ndarray | None) -> Path:
    """Write observed spectra; ``changes`` replaces arrays (``labels_val`` is "labels val") or drops them."""
    random = np.random.default_rng(1)
    arrays: dict[str, np.ndarray | None] = {}
    for part, n in COUNTS.items():
        arrays |= {
            f"spectra_{part}": random.uniform(0.8, 1, (n, pixels)),
            f"spectra_err_{part}": np.full((n, pixels), 0.01),
            f"spectra_msk_{part}": np.ones((n, pixels)),
            f"labels_{part}": random.uniform(0, 1, (n, 25)),
            f"snr_{part}": np.full((n, 1), 100.0),
        }
    with h5py.File(path, "w") as file:
        for name, values in (arrays | changes).items():
            if values is not None:
                file[" ".join(name.rsplit("_", 1))] = values
    return path


@pytest.fixture
def axis(tmp_path: Path) -> dict[str, object]:
    """Hints with wavelengths for small files."""
    np.savetxt(tmp_path / "pixels.txt", 15200 + np.arange(PIXELS))
    return {"wavelengths": tmp_path / "pixels.txt", "unit": "angstrom", "medium": "vacuum"}


def test_all_parts_with_the_labels_of_the_payne(tmp_path: Path, axis: dict) -> None:
    spectra = draper.read(write(tmp_path / "csn.h5"), **axis)
    assert (spectra.meta["format"], spectra.quantity) == ("cycle-starnet", "normalised flux")
    assert list(spectra.table) == ["id", *LABELS, "snr", "part"]
    assert spectra.table["part"].tolist() == ["train"] * 4 + ["val"] * 2 + ["test"]
    assert spectra.ids[[0, 4, 6]].tolist() == ["csn-train-0", "csn-val-0", "csn-test-0"]
    assert spectra.table["snr"].tolist() == [100] * 7
    np.testing.assert_allclose(spectra.ivar, 1e4, rtol=1e-6)
    with h5py.File(tmp_path / "csn.h5") as file:
        np.testing.assert_array_equal(spectra.flux[:4], file["spectra train"][:].astype("f4"))
        np.testing.assert_array_equal(spectra.table["vmic"][4:6], file["labels val"][:, 2])
        np.testing.assert_array_equal(spectra.table["vmac"][4:6], file["labels val"][:, 24])


def test_the_pixels_of_the_payne_are_known(tmp_path: Path) -> None:
    path = write(tmp_path / "csn.h5", pixels=7214)
    spectra = draper.read(path)
    assert spectra.grid.matches(apogee_grid())
    assert len(spectra.grid.segments()) == 3
    # 7167 could be others than the last ones.
    with pytest.raises(DraperError, match=r"no wavelengths(.|\n)*7167(.|\n)*wavelengths="):
        draper.read(write(tmp_path / "cut.h5", pixels=7167))


def test_one_part_is_selected_and_no_other_is_read(tmp_path: Path, axis: dict) -> None:
    path = write(
        tmp_path / "csn.h5", labels_train=np.array(["no numbers"], dtype="S10"), snr_train=np.zeros(9)
    )
    with pytest.raises(DraperError, match="'labels train' is no array of numbers"):
        draper.read(path, **axis)
    path = write(tmp_path / "csn.h5", snr_train=np.zeros(9))
    assert len(draper.read(path, select="part=val", **axis)) == 2
    with pytest.raises(DraperError, match="all spectra were rejected"):
        draper.read(write(tmp_path / "csn.h5"), select="part=valid", **axis)


def test_spectra_without_errors_have_equal_weights(tmp_path: Path, axis: dict) -> None:
    path = write(tmp_path / "csn.h5", spectra_err_train=None, spectra_err_val=np.zeros((2, PIXELS)))
    assert set(draper.read(path, **axis).ivar[:6].ravel()) == {1.0}


def test_a_mask_of_0_is_a_bad_pixel(tmp_path: Path, axis: dict) -> None:
    mask = np.ones((4, PIXELS))
    mask[1, 2] = 0
    error = np.full((4, PIXELS), 0.01)
    error[0, 1] = 0  # beside good ones it is no error
    changes = {"spectra_msk_train": mask, "spectra_err_train": error, "spectra_msk_val": None}
    spectra = draper.read(write(tmp_path / "csn.h5", **changes), **axis)
    assert np.argwhere(spectra.ivar == 0).tolist() == [[0, 1], [1, 2]]
    synthetic = draper.read(write(tmp_path / "csn.h5", **changes | {"spectra_err_train": None}), **axis)
    assert synthetic.ivar[1, :4].tolist() == [1, 1, 0, 1]


def test_columns_that_a_part_lacks_are_unknown(tmp_path: Path, axis: dict) -> None:
    path = write(tmp_path / "csn.h5", labels_train=None, snr_val=None, spectra_test=None)
    spectra = draper.read(path, **axis)
    assert np.isnan(spectra.table["teff"]).tolist() == [True] * 4 + [False] * 2
    assert np.isnan(spectra.table["snr"]).tolist() == [False] * 4 + [True] * 2


def test_other_labels_have_names_of_the_user(tmp_path: Path, axis: dict) -> None:
    labels = {f"labels_{part}": np.zeros((n, 2)) for part, n in COUNTS.items()}
    path = write(tmp_path / "csn.h5", **labels)
    assert list(draper.read(path, **axis).table)[1:3] == ["param_0", "param_1"]
    assert list(draper.read(path, columns=("Teff", "M_H"), **axis).table)[1:3] == ["teff", "fe_h"]
    with pytest.raises(DraperError, match="2 label columns and 1 names"):
        draper.read(path, columns=("teff",), **axis)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spectra_train": np.zeros(3)}, "'spectra train' is no array of numbers with 2 axes"),
        ({"spectra_msk_val": np.ones((2, 5))}, "'spectra val' and 'spectra_msk val' differ in shape"),
        ({"spectra_val": np.ones((2, 5))}, "differ in shape"),
        ({"labels_test": np.zeros((3, 25))}, "one row for each spectrum"),
        ({"snr_train": np.zeros(3)}, "'snr train' does not have one number"),
    ],
)
def test_wrong_arrays_are_explained(tmp_path: Path, axis: dict, changes: dict, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        draper.read(write(tmp_path / "csn.h5", **changes), **axis)


def test_another_file_is_no_training_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["flux"] = np.zeros(3)
    with pytest.raises(DraperError, match=r"no spectra of Cycle-StarNet(.|\n)*flux"):
        draper.read(tmp_path / "other.h5", format="cycle-starnet")
