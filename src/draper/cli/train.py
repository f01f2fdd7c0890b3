"""``draper train MODEL``: one subcommand for each registered model, made from its config class."""

from __future__ import annotations

import configparser
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter as Argument
from inspect import Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.config import Dict

from draper.cli.inputs import POSITIONAL, input_arguments, named, sources_of
from draper.cli.output import say, say_json, two_columns
from draper.config import Config, ModelConfig
from draper.configs.read import ReadConfig
from draper.configs.train import training_class
from draper.errors import DraperError
from draper.registry import config_class, resolve, targets

if TYPE_CHECKING:
    from draper.models.dataset import Source

TEXT = """{summary}

Example: draper train {name} {example} -o model/ --train.steps 2000

Parameters
----------
spectra
    {spectra}
out
    Folder of the model, new or empty; checkpoints are written there while training.
valid
    Held-out data: a FILE, or the fraction of the objects to hold out; for a model of several inputs also
    NAME=FILE or NAME=FRACTION. The default is 0.1, of a stream at most 10,000 objects.
start
    Folder of a model to continue from (fine-tuning). Further --labels are learnt where the model can.
resume
    Continue from the checkpoint of an interrupted run.
json
    Print the result as JSON.
config
    File with the same options (TOML, YAML, JSON){foreign}; those of the command line take precedence.
"""


def make_app(tokens: Sequence[str] = ()) -> App:
    """Return the command with a subcommand for each model.

    Parameters
    ----------
    tokens
        The command line: the simulator that it names decides which options it has.
    """
    app = App(name="train", help="Train a model.")
    for name in targets():
        app.command(_command(name, config_class(name), named(tokens, "--simulator")), name=name)
    return app


# --------------------------------------------------------------- files of options


def file_options(tokens: Sequence[str]) -> tuple[Dict, ...]:
    """Return the options of the file that ``train MODEL ... --config FILE`` names, if it does.

    They are looked up here, since cyclopts must know them before it reads the command line. If the file is
    one of another code, notes about options that work differently in draper go to the error stream.
    """
    path = named(tokens[2:], "--config")
    if path is None:
        return ()
    model = tokens[1]
    content = _content(Path(path))
    known = config_class(model)
    for target in known.foreign_options:
        file = resolve(target)
        if file.recognises(content):
            given = {token.partition("=")[0].removeprefix("--") for token in tokens if token.startswith("--")}
            translation = file.translate(content, given)
            if os.environ.get("RANK", "0") == "0":
                sys.stderr.writelines(f"note: {note}\n" for note in translation.notes)
            # Files that are named without a flag are added later: cyclopts would not know which they are.
            files = {name: [path] for name, path in translation.inputs.items() if name != POSITIONAL}
            options = {"train": translation.train, "read": translation.read}
            content = {**translation.model, **files, **options}
            return (Dict({"train": {model: content}}, source=path),)
    for other in targets():
        for target in config_class(other).foreign_options:
            if (file := resolve(target)).recognises(content):
                raise DraperError(
                    f"these are options of {file.name}, whose model is the {other}",
                    given=f"draper train {model} --config {path}",
                    hint=f"draper train {other} --config {path}",
                )
    if _kind_of(Path(path)) == "INI":
        raise DraperError(
            "these INI options are of no code that draper knows",
            given=f"{path}: {', '.join(content) or 'no sections'}",
            hint="write draper's own options as TOML, YAML or JSON",
        )
    return (Dict({"train": {model: content}}, source=path),)


def _kind_of(path: Path) -> str:
    """Return the language of a file of options: YAML (also for JSON) or INI by its suffix, else TOML."""
    suffixes = {".yaml": "YAML", ".yml": "YAML", ".json": "YAML", ".ini": "INI", ".cfg": "INI"}
    return suffixes.get(path.suffix.lower(), "TOML")


def _content(path: Path) -> dict[str, Any]:
    """Return the content of a file of options."""
    import yaml

    kind = _kind_of(path)
    load = {"YAML": yaml.safe_load, "INI": _sections, "TOML": tomllib.loads}[kind]
    try:
        options = load(path.read_text())
    except OSError as error:
        raise DraperError("the file of options cannot be read", given=f"{path}: {error.strerror}") from None
    # tomllib's errors are values, and so are impossible dates
    except (yaml.YAMLError, configparser.Error, ValueError) as error:
        raise DraperError(f"the file of options is not {kind}", given=f"{path}: {error}") from None
    if not isinstance(options, dict):
        raise DraperError("the file of options holds no names and values", given=f"{path}: {options!r:.80}")
    return options


def _sections(text: str) -> dict[str, Any]:
    """Return the options of INI text by section; all values are text."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def _data_of(config: type[ModelConfig], path: Path | None) -> tuple[Path, ...]:
    """Return the data without a flag that a file of options of another code names."""
    if path is None:
        return ()
    content = _content(path)
    files = [resolve(target) for target in config.foreign_options]
    found = next((file.translate(content) for file in files if file.recognises(content)), None)
    inputs = {} if found is None else found.inputs
    return (inputs[POSITIONAL],) if POSITIONAL in inputs else ()


# ----------------------------------------------------------------------- the command


def _command(name: str, config: type[ModelConfig], simulator: str | None) -> Callable[..., None]:
    """Return the function whose parameters are the inputs and options of a model."""

    def train_model(*spectra: Path, **given: Any) -> None:
        defaults = {one.name: one.default for one in arguments if one.kind is keyword}
        _train(name, config, spectra, {**defaults, **given})

    keyword = Argument.KEYWORD_ONLY
    arguments = input_arguments(config, simulator)
    train, flat = training_class(config), Parameter(name="*")
    arguments += [
        Argument("out", keyword, annotation=Annotated[Path, Parameter(name=["--out", "-o"])]),
        Argument("valid", keyword, default=(), annotation=tuple[str, ...]),
        Argument("start", keyword, default=None, annotation=Annotated[Path | None, Parameter(name="--from")]),
        Argument("resume", keyword, default=False, annotation=bool),
        Argument("json", keyword, default=False, annotation=bool),
        Argument("config", keyword, default=None, annotation=Path | None),
        Argument("options", keyword, default=config(), annotation=Annotated[config, flat]),
        Argument("train", keyword, default=train(), annotation=train),
        Argument("read", keyword, default=ReadConfig(), annotation=ReadConfig),
    ]
    # Positional files come first in a signature.
    arguments.sort(key=lambda argument: argument.kind is keyword)
    train_model.__signature__ = Signature(arguments)  # type: ignore[attr-defined]
    train_model.__annotations__ = {argument.name: argument.annotation for argument in arguments}
    foreign = [resolve(target).name for target in config.foreign_options]
    summary = next((one.summary for one in config.inputs if one.name == POSITIONAL), "")
    text = TEXT.format(
        summary=config.summary,
        name=name,
        example=config.inputs_example(),
        spectra=summary,
        foreign=f", or of {' or '.join(foreign)}" if foreign else "",
    )
    train_model.__doc__ = text if summary else text.replace("spectra\n    \n", "")
    return train_model


def _train(name: str, config: type[ModelConfig], spectra: tuple[Path, ...], given: dict[str, Any]) -> None:
    from draper.models.base import load
    from draper.models.card import run_facts
    from draper.registry import model_class

    if not any((spectra, *(given.get(one.name) for one in config.inputs))):
        spectra = _data_of(config, given["config"])
    hints = given["read"]
    sources = sources_of(f"train {name}", config, spectra, given)
    options, further = given["options"], ()
    if given["start"] is None:
        model = model_class(name)(options)
    else:
        model = load(given["start"])
        chosen = {option: getattr(options, option) for option in options.model_fields_set}
        further = tuple(one for one in chosen.pop("labels", ()) if one not in model.labels.names)
        changes = {option: chosen.pop(option) for option in config.later if option in chosen}
        if model.name != name or any(getattr(model.config, option) != chosen[option] for option in chosen):
            raise DraperError(
                "the model to start from has other options",
                given=f"{name} {chosen}",
                expected=f"{model.name} {model.config}",
            )
        model.config = model.config.replace(**changes)
    is_first = os.environ.get("RANK", "0") == "0"  # of several processes one prints
    sys.stderr.writelines(f"note: {note}\n" for note in model.config.notes if is_first)
    model.fit(
        **sources,
        valid=_held_out(given["valid"], tuple(sources), hints),
        train=given["train"],
        out=given["out"],
        resume=given["resume"],
        labels=further,
    )
    if not is_first:
        return
    if given["json"]:
        say_json({"model": name, "path": given["out"], **model.training})
    else:
        facts = {"model": f"{given['out']}/", **run_facts(model.training)}
        say(two_columns({**facts, **model.training["valid"]}))


def _held_out(
    values: tuple[str, ...], names: tuple[str, ...], hints: Config
) -> Source | float | Mapping[str, Source | float] | None:
    """Return held-out data or fractions, for all inputs or by name."""
    from draper.data.io import read

    def value_of(text: str) -> Source | float:
        try:
            return float(text)
        except ValueError:
            return read(text, **hints.model_dump(exclude_unset=True))

    if not values:
        return None
    pairs = [text.partition("=") for text in values]
    if all(equals and name in names for name, equals, _ in pairs):
        return {name: value_of(text) for name, _, text in pairs}
    if len(values) > 1:
        raise DraperError(
            "held-out data are one FILE or FRACTION, or NAME=FILE and NAME=FRACTION",
            given=" ".join(values),
            expected=f"a name among {', '.join(names)}",
        )
    return value_of(values[0])
