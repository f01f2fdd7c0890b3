"""Small files of every format that draper or its libraries can write."""

import gzip
import pickle
from pathlib import Path

import h5py
import numpy as np
from scipy.io import netcdf_file

import draper
from draper.data.grid import Grid
from draper.data.spectra import Spectra

HINTS = {"unit": "nm", "medium": "air"}


def small(folder: Path) -> dict[str, tuple[Path, dict]]:
    """Write one small file of each format that draper or its libraries can write; with the hints it needs."""
    grid = Grid.linear(5000, 5007, 1, medium="vacuum")
    spectra = Spectra(
        grid, np.ones((2, 8)), np.full((2, 8), 4.0), table={"id": ["a", "b"], "teff": [5.0, 6.0]}
    )
    made: dict[str, tuple[Path, dict]] = {
        f"draper.{suffix}": (draper.write(spectra, folder / f"s.{suffix}"), {})
        for suffix in ("h5", "npz", "fits", "parquet")
    }
    made |= {
        f"one.{suffix}": (draper.write(spectra[0], folder / f"s.{suffix}"), {}) for suffix in ("csv", "ecsv")
    }
    text = "# TSFitPy\n" + "".join(f"{wave} 0.9 1e6\n" for wave in range(5000, 5008))
    (folder / "s.spec").write_text(text)
    (folder / "s.txt").write_text("".join(f"{wave} 0.9 0.1\n" for wave in range(5000, 5008)))
    (folder / "s.txt.gz").write_bytes(gzip.compress((folder / "s.txt").read_bytes(), mtime=0))
    np.savez(folder / "p.npz", wave=np.arange(500.0, 508), flux=np.ones((2, 8)), err=np.ones((2, 8)))
    np.savez_compressed(folder / "c.npz", wave=np.arange(500.0, 508), flux=np.ones((2, 8)))
    np.save(folder / "wave.npy", np.arange(500.0, 508))
    np.save(folder / "n.npy", np.ones((2, 8)))
    with h5py.File(folder / "t.h5", "w") as file:
        file["Output/Spectra/native_wngrid"] = np.arange(1000.0, 1008)
        file["Output/Spectra/native_spectrum"] = np.ones(8)
    with h5py.File(folder / "csn.h5", "w") as file:
        for part in ("train", "val"):
            for name in ("spectra", "spectra_err", "spectra_msk"):
                file[f"{name} {part}"] = np.ones((2, 8))
            file[f"labels {part}"] = np.ones((2, 3))
    with netcdf_file(folder / "n.nc", "w") as file:
        file.createDimension("x", 8)
        for name in ("wavelength", "flux"):
            file.createVariable(name, "d", ("x",))[:] = np.arange(500.0, 508)
    entry = {"param": {"planet_radius": 7e7}, "data": {"spectrum": np.ones(515)}}
    (folder / "c.pkgz").write_bytes(gzip.compress(pickle.dumps({0: entry}), mtime=0))
    (folder / "c.pickle").write_bytes(pickle.dumps({0: entry}, protocol=2))
    made |= {
        "exogan-chunk": (folder / "c.pkgz", {}),
        "exogan-chunk, uncompressed": (folder / "c.pickle", {}),
        "turbospectrum": (folder / "s.spec", {}),
        "text": (folder / "s.txt", HINTS),
        "text.gz": (folder / "s.txt.gz", HINTS),
        "npz": (folder / "p.npz", HINTS),
        "npz, compressed": (folder / "c.npz", HINTS),
        "npy": (folder / "n.npy", {"wavelengths": folder / "wave.npy", **HINTS}),
        "cycle-starnet": (folder / "csn.h5", {"wavelengths": folder / "wave.npy", **HINTS}),
        "taurex-output": (folder / "t.h5", {}),
        "netcdf": (folder / "n.nc", HINTS),
    }
    return made
