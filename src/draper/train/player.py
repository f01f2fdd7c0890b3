"""A player of a module with its parameters and optimiser, and the moving average of all weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from draper.configs.train import TrainConfig
from draper.errors import DraperError, did_you_mean
from draper.nn.module import Module
from draper.train.distributed import World


class Player:
    """Updates its own parameters only, with their own optimiser."""

    def __init__(self, name: str, module: Module, config: TrainConfig) -> None:
        self.name = name
        self.parameters = [p for p in module.parameters_of(name) if p.requires_grad]
        self.rate = config.rates.get(name, config.learning_rate)
        self.repeats = config.repeats.get(name, 1)
        self.clip = config.clip
        self.optimizer = _optimizer(self.parameters, self.rate, config)

    def step(
        self, total: Tensor, scalars: Tensor, factor: float, world: World, moving: Sequence[Tensor] = ()
    ) -> Tensor:
        """Do one optimiser step on ``total``; return the scalars averaged over all processes.

        ``moving`` are buffers that a loss changes; they are averaged too.
        """
        raw = torch.autograd.grad(total, self.parameters, allow_unused=True)
        gradients = [
            torch.zeros_like(parameter) if gradient is None and world.size > 1 else gradient
            for parameter, gradient in zip(self.parameters, raw, strict=True)
        ]
        present = [gradient for gradient in gradients if gradient is not None]
        scalars = world.mean_([*present, *moving], scalars)
        if self.clip is not None:
            norm = torch.nn.utils.get_total_norm(present)
            # To look costs an accelerator more than to multiply by 1, and the CPU nothing.
            if norm.device.type != "cpu" or norm > self.clip:
                shrink = torch.clamp(self.clip / (norm + 1e-12), max=1.0)
                for gradient in present:
                    gradient.mul_(shrink)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * factor
        self.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        return scalars

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimiser's state as named tensors, ``INDEX/NAME``."""
        state = self.optimizer.state_dict()["state"]
        return {f"{index}/{name}": value for index, values in state.items() for name, value in values.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore the optimiser's state that :meth:`tensors` returned."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            index, _, name = key.partition("/")
            state.setdefault(int(index), {})[name] = value
        whole: dict[str, Any] = {**self.optimizer.state_dict(), "state": state}
        self.optimizer.load_state_dict(whole)


class Average:
    """An exponential moving average of all parameters of a module."""

    def __init__(self, module: Module, decay: float) -> None:
        self.module = module
        self.live = dict(module.named_parameters())
        self.held = {name: parameter.detach().clone() for name, parameter in self.live.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the current weights, faster in the first steps to forget the initial ones."""
        decay = min(self.decay, (1 + step) / (10 + step))
        live = [parameter.detach() for parameter in self.live.values()]
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move(list(self.held.values()), live, step)

    def instead_of(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a state with the average in place of each parameter, under all its names."""
        averages = {id(parameter): self.held[name] for name, parameter in self.live.items()}
        names = self.module.named_parameters(remove_duplicate=False)
        return {**state, **{name: averages[id(parameter)] for name, parameter in names}}

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the current weights."""
        for name, parameter in self.live.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.held[name])
            self.held[name].copy_(kept)


def make_players(module: Module, config: TrainConfig) -> list[Player]:
    """Return the players of a module in the order of their steps."""
    for option in ("rates", "repeats"):
        for name in getattr(config, option):
            if name not in module.players:
                raise DraperError(
                    f"{option} names '{name}', which is not a player of this model",
                    given=name,
                    hint=did_you_mean(name, module.players),
                )
    return [Player(name, module, config) for name in module.players]


def _optimizer(
    parameters: list[torch.nn.Parameter], rate: float, config: TrainConfig
) -> torch.optim.Optimizer:
    decay = config.weight_decay
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, rate, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)
        case "radam":
            return torch.optim.RAdam(parameters, rate, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay, fused=True)
