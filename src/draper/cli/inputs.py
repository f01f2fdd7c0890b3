"""The inputs of a model on the command line: one flag an input, or a simulator with its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter as Argument
from inspect import Signature, signature
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from draper.cli.progress import progress
from draper.config import Config, Input, ModelConfig
from draper.configs.simulators import SIMULATORS
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.models.dataset import Source

POSITIONAL = "spectra"
"""The input whose files are named without a flag."""


def named(tokens: Sequence[str], flag: str) -> str | None:
    """Return the value of ``FLAG VALUE`` or ``FLAG=VALUE``; the last one counts."""
    value = None
    for token, following in zip_longest(tokens, tokens[1:]):
        if token.startswith(f"{flag}="):
            value = token.partition("=")[2]
        elif token == flag and following is not None:
            value = following
    return value


def input_arguments(config: type[ModelConfig], simulator: str | None) -> list[Argument]:
    """Return the parameters of a command by which the inputs of a model are named.

    Parameters
    ----------
    config
        Options of the model.
    simulator
        Name of the simulator on the command line, whose options become flags.
    """
    keyword = Argument.KEYWORD_ONLY
    files = [one for one in config.inputs if one.kinds != ("simulator",)]
    simulated = _simulated(config)
    arguments = [
        Argument("spectra", Argument.VAR_POSITIONAL, annotation=Path)
        if one.name == POSITIONAL
        else Argument(
            one.name,
            keyword,
            default=(),
            annotation=Annotated[
                tuple[Path, ...],
                Parameter(
                    help=one.summary,
                    required=one.required and "simulator" not in one.kinds,
                    show_default=False,
                ),
            ],
        )
        for one in files
    ]
    if simulated is not None:
        arguments.append(
            Argument(
                "simulator",
                keyword,
                default=None,
                annotation=Annotated[
                    Literal[tuple(SIMULATORS)] | None,
                    Parameter(
                        help=f"{simulated.summary} --simulator NAME --help shows its options.",
                        required=simulated.required and simulated.kinds == ("simulator",),
                    ),
                ],
            )
        )
        if simulator in SIMULATORS:
            own = SIMULATORS[simulator]
            arguments.append(
                Argument(
                    "simulator_options",
                    keyword,
                    default=own(),
                    annotation=Annotated[own, Parameter(name="simulator", accepts_keys=True)],
                )
            )
    return arguments


def _simulated(config: type[ModelConfig]) -> Input | None:
    """Return the input that may be a simulator."""
    return next((one for one in config.inputs if "simulator" in one.kinds), None)


def with_inputs(
    command: Callable[..., None],
    config: type[ModelConfig],
    simulator: str | None,
    options: Mapping[str, Any],
) -> None:
    """Give a command ``f(*spectra, ..., **inputs)`` the inputs of a model and its classes of options.

    Parameters
    ----------
    command
        Its signature is changed.
    config, simulator
        As in :func:`input_arguments`.
    options
        Annotation and default of parameters that depend on the model.
    """
    arguments = input_arguments(config, simulator)
    for argument in signature(command, eval_str=True).parameters.values():
        if argument.kind is Argument.KEYWORD_ONLY:
            annotation, default = options.get(argument.name, (argument.annotation, argument.default))
            arguments.append(argument.replace(annotation=annotation, default=default))
            if default is not Argument.empty:
                # The call leaves out what the command line leaves out.
                command.__kwdefaults__ = {**(command.__kwdefaults__ or {}), argument.name: default}
    # Positional files come first in a signature.
    arguments.sort(key=lambda argument: argument.kind is Argument.KEYWORD_ONLY)
    command.__signature__ = Signature(arguments)  # type: ignore[attr-defined]
    command.__annotations__ = {argument.name: argument.annotation for argument in arguments}


def positional_help(config: type[ModelConfig]) -> str:
    """Return the entry of the help for files that are named without a flag, if the model takes some."""
    summary = next((one.summary for one in config.inputs if one.name == POSITIONAL), "")
    is_file = any(one.name == POSITIONAL and one.kinds != ("simulator",) for one in config.inputs)
    return f"    spectra\n        {summary}\n" if is_file else ""


def sources_of(
    command: str, config: type[ModelConfig], spectra: tuple[Path, ...], given: Mapping[str, Any]
) -> dict[str, Source]:
    """Return the inputs of a model, as the parameters of :func:`input_arguments` name them.

    Parameters
    ----------
    command
        Such as ``train linear``, for the error if nothing is named.
    config
        Options of the model.
    spectra
        Files that are named without a flag.
    given
        The other parameters, ``read`` among them.
    """
    simulated = _simulated(config)
    files = {POSITIONAL: spectra}
    files |= {
        one.name: given[one.name]
        for one in config.inputs
        if one.name in given and one.kinds != ("simulator",)
    }
    hints = given["read"]
    sources = {
        key: _source(paths, hints, next(one for one in config.inputs if one.name == key))
        for key, paths in files.items()
        if paths
    }
    if simulated is not None and given.get("simulator") is not None:
        if simulated.name in sources:
            raise DraperError(
                f"the input '{simulated.name}' is given twice",
                given="files and --simulator",
                hint="leave out one",
            )
        options = given.get("simulator_options") or SIMULATORS[given["simulator"]]()
        sources[simulated.name] = options.build()
    if not sources:
        raise DraperError("no data were named", hint=f"draper {command} {config.inputs_example()} -o FOLDER")
    return sources


def _source(paths: tuple[Path, ...], hints: Config, one: Input) -> Source:
    """Return the spectra of files, or a folder of Parquet files as a stream."""
    from draper.data.io import read
    from draper.data.partitions import Partitions
    from draper.models.dataset import is_partitioned

    if len(paths) == 1 and "stream" in one.kinds and is_partitioned(paths[0]) and not hints.model_fields_set:
        return Partitions(paths[0])
    with progress("reading") as done:
        return read(list(paths), **hints.model_dump(exclude_unset=True), progress=done)
