"""torch's mode of the float32 matrix product: the fastest one that is float32-accurate.

On some processors the mode "medium" is twice as fast at float32 accuracy, on others it computes in bfloat16:
which is measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
from threadpoolctl import ThreadpoolController

Mode = Literal["highest", "medium"]

ACCURACY = 2e-6
"""Largest relative rms error against float64 that counts as float32 (measured: 2.5e-7 to 3.8e-7)."""

GAIN = 1.25
"""Least speed-up of the other mode; well above timing noise, so that all runs choose the same mode."""

HOPELESS = 5.0
"""Ratio of times from which on bfloat16 is not tried again: no first product is so much slower by chance."""

ROUNDS = 30
"""Products of each mode in the trial, which takes about a tenth of a second."""


@contextmanager
def matmul_mode(mode: Mode) -> Iterator[None]:
    """Set a mode inside the block, and restore the previous one afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(mode)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread inside the block; also a decorator of functions.

    Verbs are many small operations: several threads would wait for each other more than they compute, five
    times as long in all where other work keeps the processor busy.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _thread_pools().limit(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


@cache
def _thread_pools() -> ThreadpoolController:
    """Return the libraries with threads of their own; to look for them takes milliseconds."""
    return ThreadpoolController()


@contextmanager
def reproducible() -> Iterator[None]:
    """Compute with one thread and in full float32 inside the block, whatever a run around it has chosen."""
    with one_thread(), matmul_mode("highest"), torch.autocast("cpu", enabled=False):
        yield


@contextmanager
def fit_mode() -> Iterator[None]:
    """Compute on the CPU with one thread inside the block, in the fastest mode that is accurate."""
    with one_thread(), matmul_mode(fastest_mode()):
        yield


@cache
def fastest_mode(device: str = "cpu") -> Mode:
    """Return the fastest mode that is accurate to float32; measured once per process."""
    if torch.device(device).type != "cpu":
        return "highest"
    error, gain = trial()
    return "medium" if error < ACCURACY and gain > GAIN else "highest"


@cache
def bfloat16_helps(device: str = "cpu") -> bool:
    """Whether products in bfloat16 are faster by ``GAIN``; measured once per process."""
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
        if best[torch.bfloat16] > HOPELESS * best[torch.float32]:
            break  # processors without such products emulate them, which takes seconds in all
    return best[torch.float32] > GAIN * best[torch.bfloat16]


def trial(mode: Mode = "medium") -> tuple[float, float]:
    """Return a mode's relative rms error and its speed-up, for the product of a typical layer."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(256, 804, generator=generator)
    b = torch.randn(804, 512, generator=generator)
    exact = a.double() @ b.double()
    modes: tuple[Mode, Mode] = ("highest", mode)
    best = dict.fromkeys(modes, float("inf"))
    with one_thread():
        # In turn, and the best of many: other processes on the machine must not decide.
        for _ in range(ROUNDS):
            for each in modes:
                with matmul_mode(each):
                    start = time.perf_counter()
                    product = a @ b
                    best[each] = min(best[each], time.perf_counter() - start)
    error = (product.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    return float(error), best["highest"] / best[mode]
