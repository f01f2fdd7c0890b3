"""One training run: its folder, the trainer, and the artifact that it writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Literal

import torch

from draper.configs.train import TrainConfig
from draper.errors import DraperError, OutputError, option_text
from draper.models import artifact
from draper.models.dataset import Dataset
from draper.models.lock import is_empty
from draper.models.protocol import Trainable
from draper.train.checkpoint import FILE
from draper.train.distributed import World
from draper.train.tracking import History, Row, read_history, trackers
from draper.train.trainer import Trainer, changed_options

State = Literal["new", "begun", "complete"]


def require_empty(folder: Path) -> None:
    """Refuse a folder that is not empty."""
    if (folder / artifact.DESCRIPTION).exists():
        raise DraperError(
            "the folder holds a model already",
            given=folder,
            hint=f"resume its training with {option_text('resume', True)}, or name another folder",
        )
    if not is_empty(folder):
        raise DraperError("the folder is not empty", given=folder, hint="name a new or empty one")


def claim_folder(
    folder: Path | None, resume: bool, model: Trainable, dataset: Dataset, train: TrainConfig
) -> State:
    """Return the state of the run in a folder; with ``resume``, the model continues from it.

    Resuming in a new or empty folder starts the run, so that a job script may always ask for it.
    """
    if folder is None:
        if resume:
            raise DraperError(
                "there is nothing to resume from", hint=f"name the artifact folder with {option_text('out')}"
            )
        return "new"
    if not resume or is_empty(folder):
        require_empty(folder)
        return "new"
    description = artifact.describe(folder)
    saved = artifact.read(folder)
    if type(saved) is not type(model) or saved.config != model.config:
        raise DraperError(
            "the folder holds a model with other options",
            given=model.config,
            expected=saved.config,
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
    model.set_up(saved.own_grid, saved.labels, saved.pipeline)
    model.load_state(saved.state())
    model.training, model.history = saved.training, saved.history
    return "complete" if description["complete"] else "begun"


@contextmanager
def continuable(folder: Path | None) -> Iterator[None]:
    """Say how to go on where a file of the run cannot be written; what was written before is whole."""
    try:
        yield
    except OutputError as error:
        if folder is None:
            raise
        if not (folder / artifact.DESCRIPTION).is_file():
            (folder / artifact.WEIGHTS).unlink(missing_ok=True)  # a new run may then start here
            raise
        hint = f"make room, then continue from the last checkpoint with {option_text('resume', True)}"
        raise OutputError(error.what, given=error.given, hint=hint) from error


def run_training(
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
    """Train a model that is set up, and keep its artifact up to date."""
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
        has_checkpoint = checkpoint is not None and (checkpoint / FILE).is_file()
        metrics, facts = _track(trainer, train, written, model, resume=resume and has_checkpoint)
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


def _track(
    trainer: Trainer, train: TrainConfig, folder: Path | None, model: Trainable, *, resume: bool
) -> tuple[dict[str, float], dict[str, object]]:
    """Run a trainer and pass its events to the trackers; returns the final held-out losses, and facts."""
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
    seconds = round(last.seconds, 3)
    return last.metrics, {"steps": trainer.step, "seconds": seconds, "threads": started.facts["threads"]}
