"""Numerical settings of a run (device, threads, matrix-product mode), chosen by timing and checkpointed."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch

from draper.configs.train import TrainConfig
from draper.errors import DraperError
from draper.nn.module import Batch, Module
from draper.nn.precision import Mode, fastest_mode, matmul_mode

TRIALS = 3
"""Number of timed steps for each number of threads."""

MIN_SPEEDUP = 1.15
"""Minimum speed-up for which more threads are used."""


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``, or with ``auto`` the best one of the machine."""
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        # Each process of a run uses its own GPU.
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DraperError("unknown device", given=name, expected="auto, cpu, cuda, cuda:N or mps") from None
    missing = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if missing or (device.type == "mps" and not torch.backends.mps.is_available()):
        raise DraperError("this machine lacks the device", given=name, hint="use device='auto' or 'cpu'")
    return device


@dataclass(frozen=True)
class Session:
    """Settings on which the last digits of a result depend."""

    device: str
    threads: int
    matmul: Mode
    precision: str

    @classmethod
    def choose(cls, config: TrainConfig, module: Module, batch: Batch, device: torch.device) -> Self:
        """Choose the settings that the config leaves open, by timing a copy of the module."""
        matmul = fastest_mode(device.type) if config.matmul == "auto" else config.matmul
        alone = cls(device.type, 1, matmul, config.precision)
        threads = config.threads or (_fastest_threads(alone, module, batch) if device.type == "cpu" else 1)
        return cls(device.type, threads, matmul, config.precision)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Apply the settings inside the block; the previous ones are restored afterwards."""
        threads = torch.get_num_threads()
        if threads != self.threads:
            torch.set_num_threads(self.threads)
        try:
            with (
                matmul_mode(self.matmul),
                torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bfloat16"),
            ):
                yield
        finally:
            if threads != self.threads:
                torch.set_num_threads(threads)


def _fastest_threads(alone: Session, module: Module, batch: Batch) -> int:
    """Time the loss and its gradient with 1, 2, 4, ... threads, up to OMP_NUM_THREADS if it is set.

    Processes of one run share the cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if processes > 1:  # torchrun sets the limit to 1 by itself
        cores = max(1, cores // processes)
    elif limit.isdigit():
        cores = min(cores, int(limit))
    best, best_seconds = 1, _seconds(alone, module, batch)
    threads = 2
    while threads <= cores:
        seconds = _seconds(Session(alone.device, threads, alone.matmul, alone.precision), module, batch)
        if seconds * MIN_SPEEDUP < best_seconds:
            best, best_seconds = threads, seconds
        threads *= 2
    return best


def _seconds(session: Session, module: Module, batch: Batch) -> float:
    # A copy, since a loss may change buffers; a forked generator, since it may draw numbers.
    trial, times = copy.deepcopy(module), []
    with session.active(), torch.random.fork_rng(devices=[]):
        for _ in range(TRIALS):
            start = time.perf_counter()
            player = trial.players[-1]
            total = trial.loss(batch, trial.shared(batch), player, 0.0)["total"]
            torch.autograd.grad(total, list(trial.parameters_of(player)), allow_unused=True)
            times.append(time.perf_counter() - start)
    return min(times)
