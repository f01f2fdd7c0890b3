"""One process or several: averages and sums over all of them, in one exchange for each step of a player."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

EXIT_DELAY = 0.2
"""Time [s] given to threads of the group before and after the process leaves it."""


@dataclass(frozen=True)
class World:
    """The place of a process among those that ``torchrun`` started; rank 0 of 1 if it is alone."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device) -> World:
        """Join the process group described by the environment."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
            if device.type == "cuda":
                torch.cuda.set_device(device)
            atexit.register(_leave)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def mean_(self, tensors: Sequence[Tensor], scalars: Tensor) -> Tensor:
        """Replace tensors by their mean over all processes, in place; returns the mean of the scalars."""
        if self.size == 1:
            return scalars
        flat = torch.cat([*(tensor.reshape(-1).to(torch.float32) for tensor in tensors), scalars])
        dist.all_reduce(flat)
        flat /= self.size
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()
        return flat[start:]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def same_(self, tensors: Sequence[Tensor]) -> None:
        """Copy the first process's values to all processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def wait(self) -> None:
        """Wait until every process has reached this point."""
        if self.size > 1:
            dist.barrier()


def _leave() -> None:
    # A slower process may still be reading the last message of this one. A thread of gloo may also still need
    # the interpreter to release a tensor; if the interpreter had ended by then, the process would abort.
    time.sleep(EXIT_DELAY)
    if dist.is_initialized():
        dist.destroy_process_group()
    time.sleep(EXIT_DELAY)
