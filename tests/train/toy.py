"""A small adversarial module and helpers for the trainer's tests."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from draper.configs.train import TrainConfig
from draper.nn.module import Batch, Batches, Module
from draper.train.feed import ArrayFeed
from draper.train.trainer import Trainer

CPU = torch.device("cpu")
QUICK = TrainConfig(
    steps=40, batch_size=16, threads=1, matmul="highest", progress="none", log_every=5, validate_every=5
)


class Duel(Module):
    """A critic reads a latent that its opponent hides; dropout, noise from the feed and a buffer included."""

    players = ("critic", "encoder")

    def __init__(
        self, poison_at: int | None = None, poison: float = math.nan, infinite_gradient: bool = False
    ):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))
        self.decoder = nn.Linear(3, 6)
        self.critic = nn.Linear(3, 1)
        self.register_buffer("calls", torch.zeros(()))
        self.poison_at, self.poison, self.infinite_gradient = poison_at, poison, infinite_gradient
        self.finished = 0

    def shared(self, batch: Batch) -> dict[str, Tensor]:
        return {"z": self.encoder(batch["x"]) + 0.1 * batch["epsilon"]}

    def parameters_of(self, player: str) -> Iterable[nn.Parameter]:
        if player == "critic":
            return self.critic.parameters()
        return [*self.encoder.parameters(), *self.decoder.parameters()]

    def loss(self, batch: Batch, shared: Batch, player: str, progress: float) -> dict[str, Tensor]:
        critic = (self.critic(shared["z"])[:, 0] - batch["y"]).square().mean()
        if player == "critic":
            assert not shared["z"].requires_grad
            if self.training:
                self.calls += 1
            return {"total": critic}
        rebuilt = (self.decoder(shared["z"]) - batch["x"]).square().mean()
        if self.poison_at is not None and self.calls > self.poison_at:
            rebuilt = rebuilt * self.poison
        if self.infinite_gradient and self.calls > 12:
            rebuilt = rebuilt + torch.sqrt(0 * self.decoder.weight).sum()
        return {"total": rebuilt - 0.1 * critic, "rebuilt": rebuilt, "critic": critic}

    def finish(self, train: Batches, valid: Batches | None) -> None:
        self.finished = 0 if valid is None else sum(len(batch["x"]) for batch in valid())


def arrays(n: int = 100, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 6)).astype(np.float32)
    return {"x": x, "y": x[:, 0] + 0.1 * random.normal(size=n).astype(np.float32)}


def feed(n: int = 100, **options) -> ArrayFeed:
    return ArrayFeed(arrays(n), batch_size=16, noise={"epsilon": 3}, **options)


def trainer(config: TrainConfig = QUICK, folder=None, module: Module | None = None, **options) -> Trainer:
    torch.manual_seed(1)
    module = module or Duel()
    valid = feed(40, seed=3)
    return Trainer(module, feed(**options), valid, config, device=CPU, folder=folder)


def state_of(one: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in one.module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
