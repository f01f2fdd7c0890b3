"""The training loop of all models."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from draper.configs.train import TrainConfig
from draper.errors import DivergedError, DraperError, InterruptedTraining, did_you_mean, option_text
from draper.nn.module import Batch, Module
from draper.train.checkpoint import FILE, Checkpoint
from draper.train.distributed import World
from draper.train.events import Event
from draper.train.feed import Feed, Prefetch, seed_of
from draper.train.player import Average, Player, make_players
from draper.train.schedule import rate_factor
from draper.train.session import Session
from draper.train.signals import StopRequest, stop_request

STEP = 2
"""Number of the trainer's stream of random numbers; see draper.train.feed for the others."""

EARLY = 20
"""Number of first steps whose largest losses define the scale of an explosion."""

MAX_UNREAD = 32
"""Largest number of losses left on an accelerator before they are read, which waits for it."""

FREE = ("progress", "checkpoint_every", "tensorboard", "threads", "device", "data", "matmul")
"""Options that may change when a run is resumed."""


class Trainer:
    """Train a module; iterate over :meth:`events` to run it.

    Parameters
    ----------
    module
        The module to train.
    train, valid
        Feeds of the training set and of the validation set.
    config
        Options of the training.
    folder
        Folder of the checkpoints; None writes none.
    world
        The processes that share the work; by default this one alone.
    """

    def __init__(
        self,
        module: Module,
        train: Feed,
        valid: Feed | None,
        config: TrainConfig,
        *,
        device: torch.device,
        folder: Path | None = None,
        world: World | None = None,
    ) -> None:
        if valid is None and config.patience is not None:
            raise DraperError(
                "early stopping needs held-out rows",
                given=f"patience={config.patience}, and none are held out",
                hint=f"hold rows out with {option_text('valid')}, or leave out patience",
            )
        self.module, self.train, self.valid, self.config = module, train, valid, config
        self.device, self.folder, self.world = device, folder, world or World()
        self.steps = config.total_steps(train.rows, train.size)
        self.step = 0
        self.session: Session | None = None
        self.players = make_players(module, config)
        self._moving = [module.get_buffer(name) for name in module.moving]
        self.average = None if config.ema is None else Average(module, config.ema)
        self.best: dict[str, Tensor] = {}
        self.best_metric, self.stale = math.inf, 0
        self._scale: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._summed = 0
        self._pending: list[tuple[int, Player, tuple[str, ...], Tensor]] = []
        self._seconds = 0.0

    # -------------------------------------------------------------- the run

    def events(self, resume: bool = False) -> Generator[Event]:
        """Run to the end, yielding events.

        With ``resume``, continue from the checkpoint in the folder. The run ends early if it is interrupted
        by a signal, diverges, or stops improving. At the end the module has the weights of the best
        validation or the moving average, if requested; the last event holds their held-out losses.
        """
        if resume:
            self._restore()
        place = (self.world.rank, self.world.size)
        batch = self.train.ready(self.train.load(0, *place))
        if self.session is None:
            self.session = Session.choose(self.config, self.module, batch, self.device)
        self.world.same_([*self.module.parameters(), *self.module.buffers()])
        log_every = self.config.log_every or max(1, self.steps // 200)
        # Every epoch, but for small sets not more often than a log line.
        validate_every = self.config.validate_every or max(log_every, self.train.rows // self.train.size)
        checkpoint_every = self.config.checkpoint_every
        began = time.perf_counter() - self._seconds
        yield self._event("start", facts=self._facts())
        with stop_request() as request, Prefetch(self.train, self.step, self.steps, *place) as loader:
            while self.step < self.steps and not self._is_stale:
                until = min(self._next(every) for every in (log_every, validate_every, checkpoint_every))
                stopped = self._stretch(min(until, self.steps), loader, request)
                self._seconds = time.perf_counter() - began
                validates = self.step % validate_every == 0 or self.step == self.steps
                writes = self.step % checkpoint_every == 0 or stopped
                if validates or self.step % log_every == 0:
                    yield self._log(with_validation=validates)
                if writes and self.folder is not None:
                    yield self._event("checkpoint", path=self._write())
                if stopped and self.step < self.steps:
                    raise self._interrupted(request)
        if self.folder is not None and self.step % checkpoint_every:
            # The work after the last step may also fail or be killed.
            yield self._event("checkpoint", path=self._write())
        self._settle_weights()
        metrics = {} if self.valid is None else self.validate()
        self.world.wait()
        yield self._event("end", metrics=metrics, facts={"ended": self._why_ended()})

    def _next(self, every: int) -> int:
        return (self.step // every + 1) * every

    def _stretch(self, until: int, loader: Prefetch, request: StopRequest) -> bool:
        """Run until a step in one session; return whether all processes were asked to stop before it."""
        assert self.session is not None
        self.module.train()
        with torch.random.fork_rng(devices=self._rng_devices), self.session.active():
            while self.step < until:
                stopped = self._advance(loader.next(), request)
                if self.device.type == "cpu" or len(self._pending) >= MAX_UNREAD or stopped:
                    self._read()
                if stopped:
                    return True
            self._read()
        return False

    def _advance(self, batch: Batch, request: StopRequest) -> bool:
        """Do one step of every player; return whether the run was asked to stop."""
        _seed(seed_of(self.config.seed, STEP, self.step, self.world.rank), self.device)
        progress = self.step / self.steps
        factor = rate_factor(self.step, self.steps, self.config)
        alone, stopped = self.world.size == 1, request.number > 0
        shared = self.module.shared(batch)
        for player in self.players:
            for repeat in range(player.repeats):
                if repeat and player is self.players[-1]:
                    shared = self.module.shared(batch)
                terms = self.module.loss(batch, self._seen(shared, player), player.name, progress)
                values = [term.detach().reshape(()).float() for term in terms.values()]
                if not alone:
                    # All processes must stop at the same step, so the request is sent with the losses.
                    values.append(torch.full_like(values[0], float(request.number > 0)))
                means = player.step(terms["total"], torch.stack(values), factor, self.world, self._moving)
                if not alone:
                    stopped = stopped or bool(means[-1] > 0)
                self._pending.append((self.step, player, tuple(terms), means))
        self.step += 1
        self._summed += 1
        if self.average is not None:
            self.average.update(self.step)
        return stopped

    def _seen(self, shared: dict[str, Tensor], player: Player) -> dict[str, Tensor]:
        """Return the shared tensors for a player: detached except for the last one, which owns the graph."""
        if player is self.players[-1]:
            return shared
        return {name: tensor.detach() for name, tensor in shared.items()}

    def _read(self) -> None:
        """Add the losses of the last steps to their sums; raise an error if one is not finite or explodes.

        This waits for an accelerator, so there it is done only at intervals.
        """
        pending, self._pending = self._pending, []
        for step, player, terms, values in pending:
            group = player.name if len(self.players) > 1 else "train"
            for term, value in zip(terms, values.tolist(), strict=False):
                name = f"{group}/{term}"
                if not math.isfinite(value):
                    raise self._diverged(step, f"the term '{term}' of player '{player.name}' is {value}")
                if step < EARLY:
                    self._scale[name] = max(self._scale.get(name, 1e-3), abs(value))
                elif abs(value) > self.config.explosion * self._scale.get(name, math.inf):
                    raise self._diverged(
                        step,
                        f"the term '{term}' of player '{player.name}' is {value:.3g}, "
                        f"its largest value in the first {EARLY} steps was {self._scale[name]:.3g}",
                    )
                self._sums[name] = self._sums.get(name, 0.0) + value / player.repeats

    # ---------------------------------------------------- events and validation

    def _event(self, kind: Any, **details: Any) -> Event:
        epoch = self.step * self.train.size / self.train.rows
        return Event(kind, self.step, self.steps, epoch, self._seconds, **details)

    def _log(self, with_validation: bool) -> Event:
        metrics = {name: total / max(1, self._summed) for name, total in self._sums.items()}
        metrics["rate"] = self.config.learning_rate * rate_factor(self.step - 1, self.steps, self.config)
        self._sums, self._summed = {}, 0
        if with_validation and self.valid is not None:
            measured = self.validate()
            metrics |= measured
            self._judge(measured)
        return self._event("log", metrics=metrics)

    def validate(self) -> dict[str, float]:
        """Return the mean of every term over the validation set, with the averaged weights if there are any.

        Gradients are available inside a loss (for a critic's penalty), but are not kept.
        """
        assert self.valid is not None
        assert self.session is not None
        if self.average is not None:
            self.average.swap()
        self.module.eval()
        totals: dict[str, float] = {}
        rows, progress = 0, self.step / self.steps
        with torch.random.fork_rng(devices=self._rng_devices), self.session.active():
            _seed(seed_of(self.config.seed, STEP), self.device)
            for batch in self.valid.sweep(self.world.rank, self.world.size):
                count = len(next(iter(batch.values())))
                shared = self.module.shared(batch)
                rows += count
                for player in self.players:
                    terms = self.module.loss(batch, self._seen(shared, player), player.name, progress)
                    group = "valid" if player is self.players[-1] else f"valid/{player.name}"
                    for term, value in terms.items():
                        name = f"{group}/{term}"
                        totals[name] = totals.get(name, 0.0) + float(value.detach()) * count
        if self.average is not None:
            self.average.swap()
        reduced = self.world.sum(torch.tensor([*totals.values(), float(rows)], dtype=torch.float64)).tolist()
        means = {name: total / reduced[-1] for name, total in zip(totals, reduced, strict=False)}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise self._diverged(self.step, f"the held-out loss '{name}' is {mean}")
        return means

    def _judge(self, measured: dict[str, float]) -> None:
        """Store the best weights, and count the validations since."""
        if self.config.patience is None:
            return
        if self.config.metric not in measured:
            raise DraperError(
                "the metric of early stopping does not exist",
                given=self.config.metric,
                hint=did_you_mean(self.config.metric, measured),
            )
        value = measured[self.config.metric]
        if value < self.best_metric:
            self.best_metric, self.stale = value, 0
            self.best = {name: tensor.clone() for name, tensor in self._result().items()}
        else:
            self.stale += 1

    def _facts(self) -> dict[str, str]:
        assert self.session is not None
        facts = {name: str(value) for name, value in self.session.to_json().items()}
        return {**facts, "processes": str(self.world.size), "parameters": f"{_count(self.module):,}"}

    def _why_ended(self) -> str:
        if self._is_stale:
            return f"no improvement of {self.config.metric} in {self.stale} validations"
        return "all steps done"

    @property
    def _is_stale(self) -> bool:
        return self.config.patience is not None and self.stale >= self.config.patience

    @property
    def _rng_devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    def _require_finite(self) -> None:
        """Raise an error before weights that are not finite are written."""
        for player in self.players:
            if not all(bool(torch.isfinite(parameter).all()) for parameter in player.parameters):
                raise self._diverged(self.step, f"the weights of player '{player.name}' are not finite")

    def _diverged(self, step: int, what: str) -> DivergedError:
        has_checkpoint = self.folder is not None and (self.folder / FILE).is_file()
        kept = (
            f"the checkpoint in {self.folder} is from before the divergence"
            if has_checkpoint
            else "no checkpoint was written"
        )
        return DivergedError(
            f"training diverged at step {step}: {what}",
            hint=f"lower the learning rate, or clip the gradient (clip=1.0); {kept}",
        )

    def _interrupted(self, request: StopRequest) -> InterruptedTraining:
        hint = (
            f"continue with {option_text('resume', True)}"
            if self.folder
            else f"give {option_text('out')} to be able to resume"
        )
        return InterruptedTraining(
            request.number or 15, f"training was interrupted at step {self.step}", hint=hint
        )

    # --------------------------------------------------------------- the state

    def _result(self) -> dict[str, Tensor]:
        """Return the current weights of the model: averaged parameters if there are any, and buffers."""
        state = {name: tensor.detach() for name, tensor in self.module.state_dict().items()}
        return state if self.average is None else self.average.instead_of(state)

    def _settle_weights(self) -> None:
        self._require_finite()
        self.module.load_state_dict(self.best or {name: t.clone() for name, t in self._result().items()})
        self.average = None

    def _write(self) -> Path:
        assert self.folder is not None
        assert self.session is not None
        self._require_finite()
        groups: dict[str, dict[str, Tensor]] = {"weights": self.module.state_dict(), "best": self.best}
        if self.average is not None:
            groups["average"] = self.average.held
        groups |= {f"optimizer/{player.name}": player.tensors() for player in self.players}
        tensors = {
            f"{group}/{name}": value
            for group, group_tensors in groups.items()
            for name, value in group_tensors.items()
        }
        state = {
            "step": self.step,
            "seconds": self._seconds,
            "session": self.session.to_json(),
            "best_metric": self.best_metric if math.isfinite(self.best_metric) else None,
            "stale": self.stale,
            "scale": self._scale,
            "sums": self._sums,
            "summed": self._summed,
            "config": self.config.to_json(),
        }
        if self.world.is_first:
            Checkpoint(tensors, state).write(self.folder)
        self.world.wait()
        return self.folder

    def _restore(self) -> None:
        if self.folder is None:
            raise DraperError(
                "there is no folder to resume from", hint=f"give the artifact's folder: {option_text('out')}"
            )
        checkpoint = Checkpoint.read(self.folder)
        state = checkpoint.state
        changed_options(state["config"], self.config)
        self.module.load_state_dict(checkpoint.group("weights"))
        for player in self.players:
            player.restore(checkpoint.group(f"optimizer/{player.name}"))
        if self.average is not None:
            for name, tensor in checkpoint.group("average").items():
                self.average.held[name].copy_(tensor)
        self.best = {name: tensor.to(self.device) for name, tensor in checkpoint.group("best").items()}
        self.best_metric = math.inf if state["best_metric"] is None else state["best_metric"]
        self.step, self.stale, self._scale = state["step"], state["stale"], state["scale"]
        self._sums, self._summed = state["sums"], state["summed"]
        self._seconds = state["seconds"]
        chosen = state["session"]
        if chosen["device"] == self.device.type:
            self.session = Session(**chosen)


def changed_options(before: dict[str, Any], config: TrainConfig) -> None:
    """Raise an error if options of a run that affect its result have changed."""
    now = config.to_json()
    changed = [name for name in now if name not in FREE and now[name] != before.get(name)]
    if changed:
        raise DraperError(
            "the run was started with other options",
            given=", ".join(f"{name}={now[name]!r}" for name in changed),
            expected=", ".join(f"{name}={before.get(name)!r}" for name in changed),
            hint="resume with the same options, or start a new run in another folder",
        )


def _seed(seed: int, device: torch.device) -> None:
    """Seed the random generators that a step may use.

    ``torch.manual_seed`` would seed those of every device, and queue the call with a traceback if CUDA is not
    initialised: a third of a millisecond and some memory for each step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _count(module: Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
