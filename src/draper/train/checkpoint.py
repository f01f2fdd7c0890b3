"""A checkpoint is one file: tensors as safetensors, everything else as JSON in its header.

One file can be replaced atomically, so a run that is killed at any moment leaves a complete checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from draper.atomic_write import output_errors, remove_stale, replacing
from draper.errors import DraperError

FILE = "state.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two steps.

    Attributes
    ----------
    tensors
        ``weights/NAME``, ``average/NAME``, ``best/NAME``, ``optimizer/PLAYER/INDEX/NAME``.
    state
        Step, choices (threads, matrix-product mode), early-stopping state, configuration.
    """

    tensors: Mapping[str, Tensor]
    state: dict[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """Return the tensors under ``name/``, without that prefix."""
        prefix = f"{name}/"
        return {
            key.removeprefix(prefix): tensor for key, tensor in self.tensors.items() if key.startswith(prefix)
        }

    def write(self, folder: Path) -> Path:
        """Write the checkpoint into a folder, replacing the previous one atomically."""
        path = folder / FILE
        with output_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
        remove_stale(folder)
        # Clones, since a parameter may have two names.
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.tensors.items()}
        with replacing(path) as part:
            try:
                save_file(tensors, part, metadata={"state": json.dumps(self.state)})
            except SafetensorError as error:  # what the system refuses, such as a full disk
                raise OSError(str(error)) from error
        return path

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """Read the checkpoint of a folder."""
        path = folder / FILE
        if not path.is_file():
            raise DraperError(
                "there is no checkpoint to resume", given=folder, hint="train without resume first"
            )
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                return cls(tensors, json.loads(file.metadata()["state"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise DraperError(
                "the checkpoint is damaged",
                given=f"{path}: {error}",
                hint="train again into another folder, without resume",
            ) from None
