"""One run of training: the folder it writes to, the loop, and what is kept of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from shutil import rmtree
from typing import Literal

import torch

from draper.configs.train import TrainConfig
from draper.errors import DraperError
from draper.models import artifact
from draper.models.dataset import Dataset
from draper.models.protocol import Trainable
from draper.train.distributed import World
from draper.train.tracking import History, Row, read_history, trackers
from draper.train.trainer import Trainer, changed_options

State = Literal["new", "begun", "complete"]


def require_empty(folder: Path) -> None:
    """Refuse a folder that holds something."""
    if (folder / artifact.DESCRIPTION).exists():
        raise DraperError(
            "the folder holds a model already",
            given=folder,
            hint="resume its training with resume=True (--resume), or name another folder",
        )
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise DraperError("the folder is not empty", given=folder, hint="name a new or empty one")


def claim(folder: Path | None, resume: bool, model: Trainable, dataset: Dataset, train: TrainConfig) -> State:
    """Look at what a folder holds already; with ``resume``, let the model take it over.

    Resuming in a folder that is not there yet starts the run, so that a queue may always say ``resume``.
    """
    if folder is None:
        if resume:
            raise DraperError(
                "there is nothing to resume from", hint="name the artifact folder with out= (-o)"
            )
        return "new"
    if not resume or not folder.exists():
        require_empty(folder)
        return "new"
    description = artifact.describe(folder)
    held = artifact.read(folder)
    if type(held) is not type(model) or held.config != model.config:
        raise DraperError(
            "the folder holds a model with other options",
            given=model.config,
            expected=held.config,
            hint="resume with the same options, or train into another folder",
        )
    training = description["training"]
    if training["fingerprint"] != dataset.fingerprint:
        raise DraperError(
            "the run was started with other data",
            given=f"fingerprint {dataset.fingerprint}",
            expected=f"fingerprint {training['fingerprint']}",
            hint="resume with the same files and the same held-out part",
        )
    changed_options(training["config"], train)
    model.set_up(held.own_grid, held.labels, held.pipeline)
    model.load_state(held.state())
    model.training, model.history = held.training, held.history
    return "complete" if description["complete"] else "begun"


def learn(
    model: Trainable,
    dataset: Dataset,
    train: TrainConfig,
    device: torch.device,
    world: World,
    folder: Path | None,
    *,
    prepare: bool,
    resume: bool,
) -> None:
    """Run the trainer on a model that is set up, and keep the artifact up to date."""
    module = model.own_module.to(device)
    model.pipeline.to(device)
    try:
        place = {"device": device, "world": world.size}
        feed = model.feed(dataset, dataset.training, train, **place)
        valid = model.feed(dataset, dataset.held_out, train, **place) if dataset.has_held_out else None
        if prepare:
            with torch.no_grad():
                module.prepare(feed.sweep)
        checkpoint = None if folder is None else folder / artifact.CHECKPOINT
        seen, seen_valid = feed, valid
        if module.condenses:
            seen = feed.condensed(module.condense)
            seen_valid = None if valid is None else valid.condensed(module.condense)
        trainer = Trainer(module, seen, seen_valid, train, device=device, folder=checkpoint, world=world)
        model.training = {**dataset.facts, "config": train.to_json()}
        written = folder if world.is_first else None
        if written is not None and not resume:
            artifact.write(model, written, complete=False)
        # A run that was killed before its first checkpoint starts again from the weights in the folder.
        metrics, facts = _listen(
            trainer, train, written, model, resume=resume and checkpoint is not None and checkpoint.is_dir()
        )
        with torch.no_grad():
            module.finish(feed.sweep, None if valid is None else valid.sweep)
    finally:
        module.eval().to("cpu")
        model.pipeline.to("cpu")
    model.training |= {**facts, "valid": metrics, "on": f"{device}, {facts['threads']} threads"}
    if written is not None:
        artifact.write(model, written, complete=True)
        rmtree(written / artifact.CHECKPOINT, ignore_errors=True)
    world.wait()


def _listen(
    trainer: Trainer, train: TrainConfig, folder: Path | None, model: Trainable, *, resume: bool
) -> tuple[dict[str, float], dict[str, object]]:
    """Run a trainer and tell its trackers; returns the held-out losses of the result, and facts."""
    record = None if folder is None else folder / artifact.HISTORY
    with closing(trainer.events(resume)) as events:
        started = next(events)
        rows: list[Row] = read_history(record, up_to=started.step) if record is not None and resume else []
        history = History(record, rows)
        listeners = trackers(train, folder, history) if trainer.world.is_first else [history]
        try:
            for listener in listeners:
                listener.note(started)
            last = started
            for last in events:
                for listener in listeners:
                    listener.note(last)
        finally:
            for listener in listeners:
                listener.close()
            model.history = history.rows
    return last.metrics, {
        "steps": trainer.step, "seconds": round(last.seconds, 3), "threads": started.facts["threads"],
    }  # fmt: skip
