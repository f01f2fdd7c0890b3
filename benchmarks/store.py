"""The native file: conversion, training from the map, and random batches, with the memory that they take.

A set of 200,000 x 800 float32 spectra (as GANDALF keeps them: X.npy, params.npy, ids.npy, axis_labels.npy)
is converted; a model is trained on it for an epoch with the data left on disk; random batches of 256 are
drawn from the map and, for comparison, through h5py from a chunked copy. RssAnon is what the process itself
holds, without the pages of mapped files, which the system may drop at any time.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from draper.data.store import read
from draper.train.feed import ArrayFeed
from report import arguments, report

PIXELS, BATCH, DRAWS = 800, 256, 60
LABELS = ("teff", "logg", "fe_h", "alpha_fe")

WATCHED = """
import sys, threading, time
peak = 0
def anon():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024
def watch():
    global peak
    while True:
        peak = max(peak, anon())
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
from draper.cli import main
start = time.process_time()
code = main(sys.argv[1:])
print(f"\\nMEASURED {time.process_time() - start} {max(peak, anon())}")
sys.exit(code)
"""


def make(folder: Path, rows: int) -> Path:
    """Write a set as GANDALF keeps it, in pieces."""
    folder.mkdir()
    random = np.random.default_rng(0)
    params = random.uniform(size=(rows, len(LABELS)))
    flux = np.lib.format.open_memmap(folder / "X.npy", mode="w+", dtype=np.float32, shape=(rows, PIXELS))
    pattern = random.normal(size=(len(LABELS), PIXELS)).astype(np.float32)
    for start in range(0, rows, 4096):
        part = slice(start, start + 4096)
        noise = random.normal(0, 0.01, (len(params[part]), PIXELS))
        flux[part] = 1 - 0.1 * np.abs(params[part] @ pattern) + noise
    flux.flush()
    np.save(folder / "params.npy", params)
    np.save(folder / "params_names.npy", np.array(LABELS))
    np.save(folder / "ids.npy", np.array([f"star-{row}" for row in range(rows)]))
    np.save(folder / "axis_labels.npy", np.linspace(8460, 8700, PIXELS))
    return folder


def watched(*command: str) -> tuple[float, float]:
    """Run a command of draper; returns its CPU seconds and its largest RssAnon [MB]."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    measured = next(line for line in done.stdout.splitlines() if line.startswith("MEASURED"))
    seconds, anonymous = measured.split()[1:]
    return float(seconds), float(anonymous)


def random_batches(native: Path, chunked: Path) -> dict[str, float]:
    """Return the CPU milliseconds of a random batch of flux and ivar, by each way of reading."""
    spectra = read(native)
    arrays = {"flux": spectra.flux, "ivar": spectra.ivar}
    feed = ArrayFeed(arrays, batch_size=BATCH)
    random = np.random.default_rng(1)
    draws = [np.sort(random.choice(len(spectra), BATCH, replace=False)) for _ in range(DRAWS)]
    feed.load(0)  # the order of the epoch is drawn once
    times: dict[str, list[float]] = {
        "map": [],
        "map, as the trainer draws it": [],
        "h5py, contiguous": [],
        "h5py, chunks of 64 rows": [],
    }
    with h5py.File(native) as plain, h5py.File(chunked) as pieces:
        ways: dict[str, Callable[[int, np.ndarray], object]] = {
            "map": lambda step, rows: (spectra.flux[rows], spectra.ivar[rows]),
            "map, as the trainer draws it": lambda step, rows: feed.load(step),
            "h5py, contiguous": lambda step, rows: (plain["flux"][rows], plain["ivar"][rows]),
            "h5py, chunks of 64 rows": lambda step, rows: (pieces["flux"][rows], pieces["ivar"][rows]),
        }
        for step, rows in enumerate(draws):
            for way, draw in ways.items():
                start = time.process_time()
                draw(step, rows)
                times[way].append(1e3 * (time.process_time() - start))
    return {way: statistics.median(values[5:]) for way, values in times.items()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="spectra in the set")
    options = parser.parse_args()
    count = options.rows
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source, native = make(folder / "gandalf", count), folder / "native.h5"
        hints = ["--unit", "angstrom", "--medium", "vacuum"]
        seconds, anonymous = watched("convert", str(source), "-o", str(native), *hints)
        rows = [{"what": f"convert {count:,} x {PIXELS}", "CPU": f"{seconds:.1f} s", "RssAnon MB": anonymous}]
        training = [
            "--labels",
            *LABELS,
            "--train.epochs",
            "1",
            "--train.data",
            "mapped",
            "--train.threads",
            "1",
        ]
        seconds, anonymous = watched("train", "linear", str(native), "-o", str(folder / "model"), *training)
        rows.append(
            {"what": "train one epoch from the map", "CPU": f"{seconds:.1f} s", "RssAnon MB": anonymous}
        )
        chunked = folder / "chunked.h5"
        with h5py.File(native) as plain, h5py.File(chunked, "w") as pieces:
            for name in ("flux", "ivar"):
                target = pieces.create_dataset(name, shape=plain[name].shape, dtype="f4", chunks=(64, PIXELS))
                for start in range(0, count, 4096):
                    target[start : start + 4096] = plain[name][start : start + 4096]
        for way, milliseconds in random_batches(native, chunked).items():
            rows.append(
                {"what": f"random batch of {BATCH}, {way}", "CPU": f"{milliseconds:.3f} ms", "RssAnon MB": ""}
            )
    report("The native file", rows, {"threads": 1, "page cache": "warm"}, options.json)


if __name__ == "__main__":
    main()
