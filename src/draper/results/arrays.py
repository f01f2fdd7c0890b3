"""Named arrays in one file, .npz or .h5, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from draper.atomic_write import replacing
from draper.errors import DraperError

SUFFIXES = (".npz", ".h5")


def _known(path: Path) -> Path:
    if path.suffix not in SUFFIXES:
        raise DraperError("arrays are kept as .npz or .h5", given=path.name, expected=", ".join(SUFFIXES))
    return path


def write_arrays(arrays: Mapping[str, ArrayLike], path: str | Path, *, overwrite: bool = False) -> Path:
    """Write arrays of numbers, truth values and text under their names; a slash makes a group in HDF5."""
    path = _known(Path(path))
    held: dict[str, NDArray[Any]] = {name: np.asarray(values) for name, values in arrays.items()}
    with replacing(path, overwrite=overwrite) as part:
        if path.suffix == ".npz":
            np.savez(part, **held)  # type: ignore[arg-type]
        else:
            _write_hdf5(held, part)
    return path


def _write_hdf5(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    import h5py

    from draper.data.store import created

    with created(path) as file:
        file.attrs["names"] = json.dumps(list(arrays))  # HDF5 itself sorts them
        for name, values in arrays.items():
            is_text = values.dtype.kind == "U"
            data = values.astype(object) if is_text else values
            file.create_dataset(name, data=data, dtype=h5py.string_dtype() if is_text else None)


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file by name, in the order in which they were written."""
    path = _known(Path(path))
    return _read_npz(path) if path.suffix == ".npz" else _read_hdf5(path)


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except FileNotFoundError:
        raise DraperError("no such file", given=path, hint="check the name and the folder") from None
    except (OSError, ValueError, BadZipFile, TypeError, AttributeError) as error:
        raise DraperError("the file is damaged or truncated", given=f"{path}: {error}") from None


def _read_hdf5(path: Path) -> dict[str, NDArray[Any]]:
    from draper.data.hdf5 import opened

    with opened(path) as file:
        return {
            name: np.asarray(file[name].asstr()[()]).astype(str)
            if file[name].dtype.kind == "O"
            else np.asarray(file[name][()])
            for name in json.loads(file.attrs["names"])
        }
