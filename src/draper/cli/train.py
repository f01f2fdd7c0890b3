"""``draper train MODEL``: one subcommand for each registered model, made from its config class."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.config import Dict

from draper.cli.output import say, say_json, two_columns
from draper.config import ModelConfig
from draper.configs.read import ReadConfig
from draper.configs.train import TrainConfig
from draper.errors import DraperError
from draper.models.disentangler.gandalf import OPTION_FILE
from draper.registry import config_class, targets

Flat = Parameter(name="*")

GANDALF = "disentangler"
"""The model that GANDALF's files of options are about."""


def make_app() -> App:
    """Return the command with a subcommand for each model."""
    app = App(name="train", help="Train a model on files of spectra.")
    for name in targets():
        app.command(_command(name, config_class(name)), name=name)
    return app


def file_options(tokens: list[str]) -> tuple[Dict, ...]:
    """Return the options of the file that ``train MODEL ... --config FILE`` names, if it does.

    They are looked up here, since cyclopts wants to know them before it reads the command line. What
    GANDALF's options lose in translation is said at once.
    """
    path = _named_file(tokens)
    if path is None:
        return ()
    model = tokens[1]
    options = _content(path)
    if not OPTION_FILE.recognises(options):
        return (Dict({"train": {model: options}}, source=str(path)),)
    if model != GANDALF:
        raise DraperError(
            "these are options of GANDALF, whose model is the disentangler",
            given=f"draper train {model} --config {path}",
            hint=f"draper train {GANDALF} --config {path}",
        )
    given = {token.partition("=")[0].removeprefix("--") for token in tokens if token.startswith("--")}
    found = OPTION_FILE.translate(options, given)
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.writelines(f"note: {note}\n" for note in found.notes)
    translated = {**found.model, "train": found.train, "read": found.read}
    return (Dict({"train": {model: translated}}, source=str(path)),)


def _named_file(tokens: list[str]) -> Path | None:
    """Return the file that ``--config FILE`` or ``--config=FILE`` names; the last one counts."""
    named = [token.partition("=")[2] for token in tokens[2:] if token.startswith("--config=")]
    if "--config" in tokens[2:-1]:
        named.append(tokens[tokens.index("--config") + 1])
    return Path(named[-1]) if named else None


def _content(path: Path) -> dict[str, Any]:
    """Return what a file of options says: YAML or JSON by its suffix, TOML else."""
    import yaml

    kind = "YAML" if path.suffix.lower() in (".yaml", ".yml", ".json") else "TOML"
    try:
        text = path.read_text()
        options = yaml.safe_load(text) if kind == "YAML" else tomllib.loads(text)
    except OSError as error:
        raise DraperError("the file of options cannot be read", given=f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # tomllib's errors are values, and so are impossible dates
        raise DraperError(f"the file of options is not {kind}", given=f"{path}: {error}") from None
    if not isinstance(options, dict):
        raise DraperError("the file of options holds no names and values", given=f"{path}: {options!r:.80}")
    return options


def _data_of(config: Path | None) -> tuple[Path, ...]:
    """Return the data that a file of GANDALF's options names."""
    options = {} if config is None else _content(config)
    found = OPTION_FILE.translate(options).data if OPTION_FILE.recognises(options) else None
    return () if found is None else (found,)


def _command(name: str, config: type[ModelConfig]) -> Callable[..., None]:
    def train_model(
        *data: Path,
        out: Path,
        options: Any,
        train: Any,
        hints: Any,
        valid: str | None = None,
        start: Path | None = None,
        resume: bool = False,
        json: bool = False,
        config: Path | None = None,
    ) -> None:
        from draper.data.io import read
        from draper.models.base import load
        from draper.registry import model_class

        data = data or _data_of(config)
        if not data:
            raise DraperError("no data were named", hint=f"draper train {name} DATA... -o FOLDER")
        told = hints.model_dump(exclude_unset=True)
        spectra = read(list(data), **told)
        if start is None:
            model = model_class(name)(options)
        else:
            model = load(start)
            given = {option: getattr(options, option) for option in options.model_fields_set}
            if model.name != name or any(getattr(model.config, option) != given[option] for option in given):
                raise DraperError(
                    "the model to start from has other options",
                    given=f"{name} {given}",
                    expected=f"{model.name} {model.config}",
                )
        fraction = _fraction(valid)
        held_out = fraction if valid is None or fraction is not None else read(valid, **told)
        model.fit(spectra, valid=held_out, train=train, out=out, resume=resume)
        if os.environ.get("RANK", "0") != "0":
            return  # of several processes one speaks
        if json:
            say_json({"model": name, "path": out, **model.training})
        else:
            say(two_columns({"model": f"{out}/", **model.training["valid"]}))

    train_model.__doc__ = f"""{config.summary}

    Example: draper train {name} stars.h5 -o model/ --train.epochs 20

    Parameters
    ----------
    data
        Files of spectra, with the labels that the model asks for as columns.
    out
        Folder of the model, new or empty; checkpoints go there while training.
    valid
        Held-out spectra: a FILE, or which fraction of the objects (0.1 unless told).
    start
        Model to go on from (fine-tuning).
    resume
        Go on from the checkpoint of an interrupted run.
    json
        Print JSON.
    config
        File with the same options (TOML, YAML or JSON), or GANDALF's; those of the command line come first.
    """
    train_model.__annotations__ |= {
        "out": Annotated[Path, Parameter(name=["--out", "-o"])],
        "options": Annotated[config, Flat],
        "train": TrainConfig,
        "hints": Annotated[ReadConfig, Parameter(name="read")],
        "start": Annotated[Path | None, Parameter(name="--from")],
    }
    train_model.__kwdefaults__ = {
        **(train_model.__kwdefaults__ or {}),
        "options": config(),
        "train": TrainConfig(),
        "hints": ReadConfig(),
    }
    return train_model


app = make_app()


def _fraction(valid: str | None) -> float | None:
    """Return the number that a text is, if it is one."""
    try:
        return None if valid is None else float(valid)
    except ValueError:
        return None
