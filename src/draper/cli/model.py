"""A trained model and its data, as commands name them, and the flags of that model's own options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from draper.cli.parameters import flags
from draper.cli.progress import progress
from draper.config import ModelConfig
from draper.configs.read import ReadConfig
from draper.errors import DraperError, did_you_mean

if TYPE_CHECKING:
    from draper.data.spectra import Spectra
    from draper.models.base import Model

ModelOptions = Annotated[Any, Parameter(parse=False)]
"""Options of a verb, of the class that the model's config names for it; see :func:`with_options`."""

HELP = {"--help", "-h"}


def opened(artifact: Path, verb: str) -> Any:
    """Return the model in a folder, whose verbs depend on its kind; refuse one that lacks a verb."""
    from draper.models.base import load

    model = load(artifact)
    model.require(verb)
    return model


def gathered(data: Sequence[Path], hints: ReadConfig, usage: str, *, skip_bad: bool = False) -> Spectra:
    """Return the spectra of all files."""
    from draper.data.io import read

    if not data:
        raise DraperError("no data were named", hint=usage)
    with progress("reading") as done:
        return read(list(data), **hints.model_dump(exclude_unset=True), skip_bad=skip_bad, progress=done)


def gathered_sets(
    data: Sequence[Path], hints: ReadConfig, usage: str, *, skip_bad: bool = False
) -> list[Spectra]:
    """Return the spectra of files on whatever grids, those of one file after the other."""
    from draper.data.io import Log, listed, stream

    if not data:
        raise DraperError("no data were named", hint=usage)
    with progress("reading") as done:
        log = Log(skip_bad, done)
        sets = list(stream(data, hints, log, one_grid=False))
    first = replace(sets[0], meta={**sets[0].meta, "skipped": listed(log.skipped)})
    return [first, *sets[1:]]


def catalogued(model: Model, tables: Sequence[Path], hints: ReadConfig) -> Spectra:
    """Return the objects of tables, without spectra, for a model that needs none."""
    from draper.data.join import read_catalogue

    if model.needs_pixels:
        raise DraperError(
            f"the model '{model.name}' needs spectra",
            given=f"--catalogue {tables[0]}",
            hint="name files of spectra; a masked autoencoder also predicts from photometry alone",
        )
    return read_catalogue(tables, model.own_grid, hints)


def config_named(tokens: Sequence[str]) -> type[ModelConfig] | None:
    """Return the config class of the model whose artifact stands on a command line; imports no torch.

    It decides which flags the command has, so it is looked up before cyclopts reads the command line.
    """
    from draper.models.artifact import BUILTIN, DESCRIPTION, describe
    from draper.registry import config_class

    for token in tokens:
        if token.startswith(BUILTIN) or (Path(token) / DESCRIPTION).is_file():
            return config_class(describe(token)["model"])
    if tokens and not tokens[0].startswith("-") and not HELP & set(tokens):
        describe(tokens[0])  # raises the error that says what is missing there
    return None


def with_options(
    command: Callable[..., None], verb: str, config: type[ModelConfig] | None
) -> Callable[..., None]:
    """Return a command whose parameter ``options`` becomes the flags of a verb's options.

    Parameters
    ----------
    command
        With the keyword parameter ``options``, which is None if the model is not known or has no options.
    verb
        Whose options these are.
    config
        Config class of the model; None if it is not known.
    """
    if config is None:
        return command
    options, name = config.options_class(verb), config.model.rpartition(":")[2]
    # cyclopts reads annotations and defaults: a copy of the function has others.
    made = FunctionType(command.__code__, command.__globals__, command.__name__)
    made.__doc__ = command.__doc__
    made.__annotations__ = {
        **command.__annotations__,
        "options": flags(options, f"Options of this model ({name})"),
    }
    made.__kwdefaults__ = {**(command.__kwdefaults__ or {}), "options": options()}
    return made


def unknown_option(
    given: str, verb: str, config: type[ModelConfig] | None, others: Sequence[str]
) -> DraperError:
    """Return the error about a flag that a command with a model's options does not have.

    Parameters
    ----------
    given
        The flag.
    verb
        Name of the command.
    config
        Config class of the model that the command line names.
    others
        Flags that the command has besides.
    """
    own: list[str] = []
    if config is not None:
        options = config.options_class(verb)
        start = "--" if options.flags == "*" else f"--{options.flags}."
        own = [f"{start}{name.replace('_', '-')}" for name in options.model_fields]
    flags = [name for name in others if name.startswith("--") and name not in ("--artifact", "--options")]
    near = did_you_mean(given, (*own, *flags))
    near = near if near.startswith("did you mean") else ""
    model = "a model" if config is None else config.model.rpartition(":")[2]
    return DraperError(
        f"draper {verb} has no option {given} for {model}",
        given=given,
        expected=f"options of this model: {', '.join(own) or 'none'}",
        hint=near or f"draper {verb} ARTIFACT --help shows all options",
    )
