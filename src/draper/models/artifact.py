"""A model on disk: a folder of JSON, safetensors, CSV and a card to read. No pickle, no code."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from draper import atomic_write
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.errors import DraperError, did_you_mean
from draper.registry import config_class, model_class

if TYPE_CHECKING:
    from draper.models.protocol import Trainable

FORMAT = "draper-model"
VERSION = 3
CHECKED = 3
"""Version since which a description holds a checksum; that of older ones cannot be checked."""
DESCRIPTION, WEIGHTS, HISTORY = "model.json", "weights.safetensors", "history.csv"
CARD, CHECKPOINT = "README.md", "checkpoint"
BUILTIN = "builtin:"
"""Prefix of the names of models that draper ships."""

RENAMED: dict[str, dict[str, str]] = {
    "emulator": {"form": "architecture"},
    "disentangler": {"rate": "information_limit"},
}
"""Options of version 1 by model, and their names since version 2."""

LARGE = 500_000
"""Numbers from which on an array is large: these may be written in half precision."""

PACKAGES = ("draper", "torch", "numpy", "safetensors")


class Description(BaseModel):
    """What the entries of ``model.json`` must be before anything is done with them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["draper-model"]
    version: int = Field(ge=1, le=VERSION)
    model: str
    complete: bool
    config: dict[str, Any]
    grid: dict[str, Any]
    labels: list[dict[str, Any]]
    transforms: list[dict[str, Any]]
    weights_sha256: str
    sha256: str = ""
    made: dict[str, str]
    training: dict[str, Any]


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
        number = description.get("version") if isinstance(description, dict) else None
        if type(number) is int and number > VERSION:
            raise DraperError(
                "the model was written by a newer draper",
                given=f"version {number}",
                expected=f"at most {VERSION}",
                hint="upgrade draper",
            )
        Description.model_validate(description)
        if description["version"] >= CHECKED and description.get("sha256") != checksum(description):
            raise _damaged(path, "it has been changed since draper wrote it")
    except DraperError:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    return migrated(description)


def _damaged(path: Path, error: object) -> DraperError:
    return DraperError(
        "the description of the model is damaged",
        given=f"{path}: {error}",
        hint="copy the whole folder again, or train the model again; options are changed by training",
    )


def checksum(description: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a description, and so of the weights, whose own is in it.

    Spacing and order do not matter, nor does the entry ``sha256``, which holds the result.
    """
    checked = {name: value for name, value in description.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(checked, sort_keys=True).encode()).hexdigest()


def migrated(description: dict[str, Any]) -> dict[str, Any]:
    """Return what an older draper wrote with the names of today."""
    names = RENAMED.get(description["model"], {}) if description["version"] == 1 else {}
    config = {names.get(option, option): value for option, value in description["config"].items()}
    return {**description, "version": VERSION, "config": config}


def write(model: Trainable, folder: Path, *, complete: bool, half: bool = False) -> None:
    """Write description, weights and card; each file replaces the one before in one step.

    With ``half``, large arrays of single precision are written in half precision; reading turns them back.
    """
    import torch
    from safetensors.torch import save

    from draper.models.card import card

    # Clones, since a parameter may have two names.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state().items()}
    if half:
        tensors = {
            name: tensor.half() if tensor.dtype == torch.float32 and tensor.numel() > LARGE else tensor
            for name, tensor in tensors.items()
        }
    weights = save(tensors)
    folder.mkdir(parents=True, exist_ok=True)
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
    plain = json.loads(json.dumps(description, allow_nan=False))
    text = json.dumps({**plain, "sha256": checksum(plain)}, indent=1)
    atomic_write.write(folder / WEIGHTS, weights)
    atomic_write.write(folder / DESCRIPTION, text)
    if complete:
        atomic_write.write(folder / CARD, card(description, model.citation(), model.card_sections()))


def read(folder: str | Path) -> Trainable:
    """Return the model that an artifact holds."""
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
    except DraperError:
        raise
    except Exception as error:  # each model reads its own state, and a damaged one raises anything
        raise DraperError("the model is damaged", given=f"{folder}: {error}", hint="copy it again") from error
    return model
