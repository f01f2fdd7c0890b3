"""Damaged files of all formats: draper gives spectra, a table or a model, or refuses with a DraperError.

The real files of --data, small files that the tests write, and trained models are damaged at random (bytes,
blocks, numbers of headers, cells, declared sizes, fields of model.json) and opened as a user would. A finding
is any other exception, more than 5 s of processor time beyond what the whole file takes, more than 500 MB of
memory, a crash, or spectra that are not finite. Mutation k of a seed is the same on every machine. Processes
of their own open the files, and are replaced when one hangs or crashes.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

import draper
from draper.data import io
from draper.data.join import read_table
from draper.data.parsing.source import Source
from mutations import damaged, other_field
from report import arguments, report

ROOT = Path(__file__).resolve().parents[1]

SECONDS, MEGABYTES = 5.0, 500.0
"""What a damaged file may take: processor time beyond that of the whole file, and memory."""

PATIENCE = 60.0
"""Seconds after which a process that sleeps is given up, too."""

ROOM = 6 * 2**30
"""Address space [bytes] that a process may take beyond what it has when it starts."""

LARGEST = 3_000_000
"""Largest size [bytes] of the files that are damaged; with --full all are."""

SMALL = 200_000
"""Largest size [bytes] of the files that are also read as tables of labels."""

HINTS = {"unit": "angstrom", "medium": "vacuum"}


@dataclass
class Target:
    """A file or the folder of a model, with the options that it is read with, and what the whole one took."""

    path: Path
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


# ------------------------------------------------------------------------------- the process that opens files


def serve() -> None:
    """Open the files that standard input names, one a line, and write what came of each as a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)  # the stack of a hang, before the signal ends it
    warnings.simplefilter("ignore")
    for name in ("draper.models.base", "astropy.io.votable", "scipy.io"):
        import_module(name)
    io.formats()
    used = status("VmSize") * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (int(used) + ROOM,) * 2)
    answers.write("\n")
    answers.flush()
    for line in sys.stdin:
        job = json.loads(line)
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the memory starts anew
        before, start = status("VmRSS"), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, job["limit"])
        outcome = opened(Path(job["path"]), job["kind"], job["options"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        outcome |= {"seconds": time.process_time() - start, "growth": status("VmHWM") - before}
        answers.write(json.dumps(outcome) + "\n")
        answers.flush()


def status(name: str) -> float:
    """Return an entry of the status of this process [MB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def opened(path: Path, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the outcome ``read`` or ``refused``, or the finding with its traceback."""
    ways: list[Callable[[], object]] = [lambda: draper.load(path)]
    if kind == "spectra":
        ways = [lambda: checked(draper.read(path)), lambda: checked(draper.read(path, **options))]
        if path.stat().st_size <= SMALL:
            ways.append(lambda: read_table(path))
    refused = 0
    for way in ways:
        try:
            way()
        except draper.DraperError as error:
            refused += 1
            str(error)
        except Exception as error:  # noqa: BLE001 - which one is the finding
            return {
                "outcome": f"{type(error).__name__}: {error}"[:200],
                "trace": traceback.format_exc()[-3000:],
            }
    return {"outcome": "refused" if refused == len(ways) else "read"}


def checked(spectra: draper.Spectra) -> None:
    """Raise an error where a pixel, or its weight, is not a number."""
    for part in spectra.batches():
        if not (np.isfinite(part.flux).all() and np.isfinite(part.ivar).all() and (part.ivar >= 0).all()):
            raise ArithmeticError("spectra that are not finite")
    spectra.describe()


# ----------------------------------------------------------------------------------- the process that watches


class Opener:
    """A process that opens files, replaced when it hangs or crashes."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        """Start the process, and wait until it has imported everything."""
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._answer(10 * PATIENCE)
        return self.process

    def open(self, target: Target, path: Path) -> dict[str, Any]:
        """Return what came of opening a damaged copy of a target."""
        process = self.process or self.start()
        job = {"path": str(path), "kind": target.kind, "options": target.options}
        limit = SECONDS + target.seconds
        assert process.stdin is not None
        process.stdin.write(json.dumps({**job, "limit": limit}, default=str) + "\n")
        process.stdin.flush()
        line = self._answer(PATIENCE + limit)
        if line:
            outcome: dict[str, Any] = json.loads(line)
            if outcome["growth"] > MEGABYTES and outcome["outcome"] in ("read", "refused"):
                outcome["outcome"] = f"memory: {outcome['growth']:.0f} MB"
            return outcome
        process.kill()
        code = process.wait()
        self.log.seek(0)
        trace = self.log.read()[-3000:]
        self.close()
        hangs = code in (-signal.SIGPROF, -signal.SIGKILL)
        what = f"hang: more than {limit:.1f} s" if hangs else f"crash: signal {-code}"
        return {"outcome": what, "trace": trace, "seconds": limit, "growth": 0.0}

    def _answer(self, seconds: float) -> str:
        """Return the next line of the process; none where it has ended, or says nothing for too long."""
        assert self.process is not None
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline() if selector.select(seconds) else ""

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.log.close()
        self.process = None


def targets(data: Path, folder: Path, largest: float) -> list[Target]:
    """Return the real files, and small ones of every format that are written into a folder."""
    sys.path.insert(0, str(ROOT / "tests" / "data"))
    small = import_module("small_files").small(folder)
    found = [Target(path, "spectra", options) for path, options in small.values()]
    for path in sorted(data.rglob("*")) if data.is_dir() else []:
        if path.is_file() and 0 < path.stat().st_size <= largest:
            found.append(Target(path, "spectra", HINTS))
    models = sorted(path.parent for path in (ROOT / "tests" / "models").glob("version*/*/model.json"))
    for number, model in enumerate(models):
        found.append(Target(model, "model"))
        found.append(Target(draper.load(model).save(folder / f"model-{number}"), "model"))
    return found


def mutated(target: Target, place: Path, random: np.random.Generator) -> tuple[str, Path]:
    """Write a damaged copy of a target into a folder; returns the name of the mutation, and the copy."""
    if target.kind == "spectra":
        name, content = damaged(target.path.read_bytes(), random)
        (place / target.path.name).write_bytes(content)
        return name, place / target.path.name
    copy = Path(shutil.copytree(target.path, place / target.path.name))
    if random.random() < 0.6:
        description = copy / "model.json"
        description.write_bytes(other_field(description.read_bytes(), random))
        return "other_field", copy
    files = sorted(copy.iterdir())
    file = files[random.integers(len(files))]
    name, content = damaged(file.read_bytes(), random)
    file.write_bytes(content)
    return f"{name} of {file.name}", copy


def outcomes(
    chosen: list[Target], numbers: range, seed: int, processes: int, keep: Path | None
) -> Iterator[dict[str, Any]]:
    """Yield what came of each mutation; ``keep`` is a folder for the copies that are findings."""
    openers: SimpleQueue[Opener] = SimpleQueue()
    for _ in range(processes):
        openers.put(Opener())

    def whole(target: Target) -> None:
        opener = openers.get()
        try:
            outcome = opener.open(Target(target.path, target.kind, target.options, PATIENCE), target.path)
            target.seconds = outcome["seconds"]
            if outcome["outcome"] not in ("read", "refused"):
                raise SystemExit(f"{target.path}, undamaged: {outcome['outcome']}\n{outcome.get('trace')}")
        finally:
            openers.put(opener)

    sorts: dict[str, list[Target]] = {}
    for target in chosen:
        sorts.setdefault(sort_of(target), []).append(target)

    def one(number: int) -> dict[str, Any]:
        random = np.random.default_rng((seed, number))
        sort = sorted(sorts)[random.integers(len(sorts))]  # a rare format is tried as often as text
        target = sorts[sort][random.integers(len(sorts[sort]))]
        with tempfile.TemporaryDirectory() as folder:
            name, copy = mutated(target, Path(folder), random)
            opener = openers.get()
            try:
                outcome = opener.open(target, copy)
            finally:
                openers.put(opener)
            if keep is not None and outcome["outcome"] not in ("read", "refused"):
                shutil.move(copy, keep / f"{number}-{copy.name}")
        facts = {"number": number, "file": target.path.name, "sort": sort, "mutation": name}
        return {**facts, **outcome}

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(whole, chosen))
        yield from pool.map(one, numbers)
    while not openers.empty():
        openers.get().close()


def sort_of(target: Target) -> str:
    """Return the sort of a file."""
    if target.kind == "model":
        return "model"
    source = Source(target.path)
    return f"{source.kind} in gzip" if source.is_gzipped else source.kind


def main() -> None:
    if "--serve" in sys.argv:
        serve()
        return
    parser = arguments(__doc__ or "")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="real files")
    parser.add_argument("--mutations", type=int, help="2,000 by default, 20,000 with --full")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="damage only files of this sort, such as fits or model")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the damaged files that are findings"
    )
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    count = options.mutations or (20_000 if options.full else 2_000)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        chosen = targets(options.data, Path(folder), np.inf if options.full else LARGEST)
        if options.only is not None:
            chosen = [target for target in chosen if sort_of(target) == options.only]
        numbers = range(options.first, options.first + count)
        seen = []
        for outcome in outcomes(chosen, numbers, options.seed, options.processes, options.keep):
            seen.append(outcome)
            if outcome["outcome"] not in ("read", "refused"):
                words = (str(outcome[name]) for name in ("number", "file", "mutation", "outcome", "trace"))
                print("FINDING", *words, sep="\n  ", flush=True)
            if len(seen) % 200 == 0:
                print(f"{len(seen):,} of {count:,}, {time.monotonic() - start:.0f} s", flush=True)
    rows = []
    for sort in sorted({outcome["sort"] for outcome in seen}):
        own = [outcome for outcome in seen if outcome["sort"] == sort]
        results = [outcome["outcome"] for outcome in own]
        rows.append(
            {
                "files": sort,
                "mutations": len(own),
                "read": results.count("read"),
                "refused": results.count("refused"),
                "findings": len(own) - results.count("read") - results.count("refused"),
                "slowest [s]": max(outcome["seconds"] for outcome in own),
                "largest growth [MB]": max(outcome["growth"] for outcome in own),
            }
        )
    findings = sum(row["findings"] for row in rows)
    facts = {"files": len(chosen), "mutations": count, "findings": findings, "seed": options.seed}
    report("Damaged files", rows, {**facts, "seconds": round(time.monotonic() - start)}, options.json)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
