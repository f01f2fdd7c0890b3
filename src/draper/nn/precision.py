"""torch's mode of the float32 matrix product: the fastest that is float32-accurate, inside a context only.

On some processors the mode "medium" reaches twice the speed at float32 accuracy, on others it computes in
bfloat16; only a trial tells.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch

Mode = Literal["highest", "medium"]

ACCURACY = 2e-6
"""Largest relative rms error against float64 that counts as float32 (measured: 2.5e-7 to 3.8e-7)."""

GAIN = 1.25
"""How much faster the other mode must be to be worth it; well above noise, so that runs choose alike."""

ROUNDS = 30
"""Products of each mode in the trial; about a tenth of a second in all."""


@contextmanager
def matmul_mode(mode: Mode) -> Iterator[None]:
    """Use a mode inside the block, and restore the process's own afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(mode)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def reproducible() -> Iterator[None]:
    """Compute with one thread and in full float32 inside the block, whatever a run around it has chosen."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with matmul_mode("highest"), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_num_threads(threads)


@cache
def fastest_mode(device: str = "cpu") -> Mode:
    """Return the fastest mode whose products agree with float64 to float32 accuracy; tried once a process."""
    if torch.device(device).type != "cpu":
        return "highest"
    error, gain = trial()
    return "medium" if error < ACCURACY and gain > GAIN else "highest"


@cache
def bfloat16_helps(device: str = "cpu") -> bool:
    """Whether products in bfloat16 are faster by ``GAIN``; tried once a process."""
    if torch.device(device).type != "cpu":
        return False
    pairs = {
        kind: (torch.ones(800, 304, dtype=kind), torch.ones(304, 512, dtype=kind))
        for kind in (torch.float32, torch.bfloat16)
    }
    best = dict.fromkeys(pairs, float("inf"))
    for _ in range(ROUNDS):
        for kind, (a, b) in pairs.items():
            start = time.perf_counter()
            torch.mm(a, b)
            best[kind] = min(best[kind], time.perf_counter() - start)
    return best[torch.float32] > GAIN * best[torch.bfloat16]


def trial(mode: Mode = "medium") -> tuple[float, float]:
    """Return a mode's relative rms error and how many times faster it is, on a typical layer's product."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(256, 804, generator=generator)
    b = torch.randn(804, 512, generator=generator)
    exact = a.double() @ b.double()
    ways: tuple[Mode, Mode] = ("highest", mode)
    best = dict.fromkeys(ways, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # In turn, and the best of many: other work on the machine must not decide.
        for _ in range(ROUNDS):
            for way in ways:
                with matmul_mode(way):
                    start = time.perf_counter()
                    product = a @ b
                    best[way] = min(best[way], time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    error = (product.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    return float(error), best["highest"] / best[mode]
