"""A model on disk: a folder of JSON, safetensors, CSV and a card to read. No pickle, no code."""

from __future__ import annotations

import hashlib
import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draper import atomic_write
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.errors import DraperError, did_you_mean
from draper.registry import config_class, model_class

if TYPE_CHECKING:
    from draper.models.protocol import Trainable

FORMAT = "draper-model"
VERSION = 2
DESCRIPTION, WEIGHTS, HISTORY = "model.json", "weights.safetensors", "history.csv"
CARD, CHECKPOINT = "README.md", "checkpoint"
BUILTIN = "builtin:"
"""Prefix of the names of models that draper ships."""

RENAMED: dict[str, dict[str, str]] = {
    "emulator": {"form": "architecture"},
    "disentangler": {"rate": "information_limit"},
}
"""Options of version 1 by model, and their names since version 2."""

PACKAGES = ("draper", "torch", "numpy", "safetensors")


def located(folder: str | Path) -> Path:
    """Return the folder of an artifact; that of a built-in one where it is named ``builtin:NAME``.

    Examples
    --------
    >>> located("model"), located("builtin:rvs-emulator").name
    (PosixPath('model'), 'rvs-emulator')
    """
    name = str(folder)
    if not name.startswith(BUILTIN):
        return Path(folder)
    packed = Path(str(files("draper.models").joinpath("packed")))
    known = sorted(f"{BUILTIN}{path.name}" for path in packed.iterdir())
    if name not in known:
        hint = did_you_mean(name, known)
        raise DraperError("no such model is built in", given=name, expected=", ".join(known), hint=hint)
    return packed / name.removeprefix(BUILTIN)


def describe(folder: str | Path) -> dict[str, Any]:
    """Return the content of ``model.json``, with the names of today; this needs no torch.

    Parameters
    ----------
    folder
        The artifact.
    """
    path = located(folder) / DESCRIPTION
    if not path.is_file():
        raise DraperError(
            "there is no model here",
            given=folder,
            expected=f"a folder that holds {DESCRIPTION}",
            hint="draper train MODEL DATA -o FOLDER makes one",
        )
    try:
        description: dict[str, Any] = json.loads(path.read_text())
        recognised = description["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DraperError("the description of the model is damaged", given=f"{path}: {error}") from None
    if not recognised or description["version"] > VERSION:
        raise DraperError(
            "the model was written by a newer draper",
            given=f"format {description['format']} {description['version']}",
            expected=f"{FORMAT} {VERSION}",
            hint="upgrade draper",
        )
    return migrated(description)


def migrated(description: dict[str, Any]) -> dict[str, Any]:
    """Return what an older draper wrote with the names of today."""
    if description["version"] > 1:
        return description
    names = RENAMED.get(description["model"], {})
    config = {names.get(option, option): value for option, value in description["config"].items()}
    return {**description, "version": VERSION, "config": config}


def write(model: Trainable, folder: Path, *, complete: bool) -> None:
    """Write description, weights and card; each file replaces the one before in one step."""
    from safetensors.torch import save

    from draper.models.card import card

    folder.mkdir(parents=True, exist_ok=True)
    # Clones, since a parameter may have two names.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state().items()}
    weights = save(tensors)
    description = {
        "format": FORMAT,
        "version": VERSION,
        "model": model.name,
        "complete": complete,
        "config": model.config.to_json(),
        "grid": model.own_grid.to_json(),
        "labels": model.labels.to_json(),
        "transforms": model.pipeline.to_json(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "made": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "training": model.training,
    }
    atomic_write.write(folder / WEIGHTS, weights)
    atomic_write.write(folder / DESCRIPTION, json.dumps(description, indent=1, allow_nan=False))
    if complete:
        atomic_write.write(folder / CARD, card(description, model.citation(), model.card_sections()))


def read(folder: str | Path) -> Trainable:
    """Return the model that an artifact holds."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from draper.instrument.pipeline import Pipeline
    from draper.train.tracking import read_history

    folder = located(folder)
    description = describe(folder)
    try:
        content = (folder / WEIGHTS).read_bytes()
        is_whole = hashlib.sha256(content).hexdigest() == description["weights_sha256"]
        if description["complete"] and not is_whole:
            # While training the weights may be newer: a kill between two renames must not end the run.
            raise DraperError(
                "weights and description are not of one run", given=folder, hint="train the model again"
            )
        tensors = load(content)
        name = description["model"]
        model: Trainable = model_class(name)(config_class(name).from_json(description["config"]))
        model.set_up(
            Grid.from_json(description["grid"]),
            LabelSet.from_json(description["labels"]),
            Pipeline.from_json(description["transforms"]),
        )
        model.load_state(tensors)
        model.training = description["training"]
        model.history = read_history(folder / HISTORY)
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise DraperError("the model is damaged", given=f"{folder}: {error}") from None
    return model
