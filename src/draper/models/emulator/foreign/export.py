"""Export an emulator as the npz file of one_payne."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from draper.atomic_write import replacing
from draper.data.labels import Label
from draper.errors import DraperError
from draper.infer.forward import ForwardModel
from draper.nn.spectral import Perceptron


def export(
    model: ForwardModel,
    training: Mapping[str, Any],
    path: Path,
    medium: Literal["air", "vacuum"] = "air",
    *,
    overwrite: bool = False,
) -> Path:
    """Write the weights with the keys of one_payne, and the medium of the wavelengths beside them.

    Parameters
    ----------
    model
        A network with SiLU in the hidden layers and a bounded output, the only form that one_payne has.
    training
        Facts about its training, which go into the file.
    path
        The file (.npz) to write.
    medium
        Medium of the wavelengths in the file.
    overwrite
        Whether a file that exists is replaced.
    """
    if path.suffix != ".npz":
        raise DraperError("the file of a one_payne network must be .npz", given=path, hint="-o FILE.npz")
    network = _one_payne_network(model)
    last, level = network.readout()
    layers = [(layer.weight, layer.bias) for layer in network.layers] + [(last, level)]
    arrays: dict[str, NDArray[Any]] = {}
    for number, (weight, bias) in enumerate(layers):
        arrays[f"w_array_{number}"] = torch.as_tensor(weight).detach().cpu().numpy()
        arrays[f"b_array_{number}"] = torch.as_tensor(bias).detach().cpu().numpy()
    units = np.array([1e3 if label.name == "teff" else 1.0 for label in model.labels])
    arrays |= {
        "x_min": model.labels.low / units,
        "x_max": model.labels.high / units,
        "wavelength": model.grid.to(medium=medium),
        "label_names": np.array([_one_payne_name(label) for label in model.labels]),
        "medium": np.array(medium),
        **{
            # None would be written as a Python object.
            name: np.array(np.nan if value is None else value)
            for name, value in _facts(training, network.layers[0].out_features, len(network.layers)).items()
        },
    }
    with replacing(path, overwrite=overwrite) as part:
        np.savez(part, **arrays)  # type: ignore[arg-type]
    return path


def _one_payne_network(model: ForwardModel) -> Perceptron:
    """Return the network of a model, or raise an error that says why one_payne has no such network."""
    network = model.function
    reasons = []
    if not isinstance(network, Perceptron):
        reasons.append(f"it is a {type(network).__name__}, one_payne's is a perceptron")
    else:
        if network.activation != "silu":
            reasons.append(f"the activation is {network.activation}, one_payne's is silu")
        if not network.bounded:
            reasons.append("the output is linear, one_payne's is bounded by a sigmoid")
    reasons += [
        f"{label.name} is scaled in {label.scale}" for label in model.labels if label.scale != "linear"
    ]
    if reasons or not isinstance(network, Perceptron):
        raise DraperError(
            "one_payne has no such network",
            given="; ".join(reasons),
            hint="train one of its form: draper train emulator ... --output bounded --hidden 512 512 512",
        )
    return network


def _one_payne_name(label: Label) -> str:
    """Return feh, Mg_Fe, A_Li for fe_h, mg_fe, a_li."""
    name = label.name
    if name == "fe_h":
        return "feh"
    is_element = name.endswith(("_fe", "_h")) or name.startswith("a_")
    return "_".join(part.capitalize() for part in name.split("_")) if is_element else name


def _facts(training: Mapping[str, Any], width: Any, depth: int) -> dict[str, Any]:
    """Return one_payne's entries about a training run; unknown ones are NaN or 0."""
    config: dict[str, Any] = training.get("config", {})
    return {
        "base_lr": config.get("learning_rate", np.nan),
        "weight_decay": config.get("weight_decay", np.nan),
        "batch_size": config.get("batch_size", 0),
        "amp": False,
        "t_max": training.get("steps", 0),
        "patience": config.get("patience"),
        "check_interval": 0,
        "best_val_loss": training.get("valid", {}).get("valid/total", np.nan),
        "total_steps": training.get("steps", 0),
        "device": str(training.get("on", "cpu")),
        "checkpoint_dir": "",
        "hidden_neurons": width,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "author": "draper",
        "model_architecture": "-".join(["Linear-SiLU"] * depth + ["Linear-Sigmoid"]),
        "data_file_path": [str(training.get("source", ""))],
    }
