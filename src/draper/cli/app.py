"""The program ``draper``: its commands, its exit codes, and how errors reach the user."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError
from pydantic import ValidationError

from draper import __version__, processes
from draper.cli.data import convert, formats, info, samples
from draper.cli.demo import demo
from draper.cli.generate import generate
from draper.cli.latents import map_
from draper.cli.model import config_named, unknown_option, with_options
from draper.cli.show import show
from draper.cli.simulate import app as simulate
from draper.cli.sweep import make_app as make_sweep_app
from draper.cli.train import file_options
from draper.cli.train import make_app as make_train_app
from draper.cli.tune import make_app as make_tune_app
from draper.cli.verbs import cite, encode, evaluate, predict
from draper.config import Config, reworded
from draper.errors import DraperError, Interrupted, TrainingWarning, on_command_line
from draper.registry import config_class, resolve, targets

INTERNAL, USAGE = 1, 2

EPILOGUE = """\
Exit codes: 0 success; 2 a usage or data error, or too little disk or memory; 3 training diverged; 4 done, but
bad files were skipped (--skip-bad); 130 and 143 interrupted (train keeps a checkpoint); 1 an error inside
draper. Every command takes --json for machines and --debug for a traceback.
"""


VERBS: dict[str, Callable[..., None]] = {
    "predict": predict,
    "generate": generate,
    "encode": encode,
    "evaluate": evaluate,
}
"""Commands that take the options of the model that the command line names."""


def make_app(tokens: Sequence[str] = ()) -> App:
    """Return the program for a command line; commands import what is heavy when they run."""
    app = App(
        name="draper",
        help="Deep generative models for astronomical spectra.",
        help_epilogue=EPILOGUE,
        version=__version__,
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(consume_multiple=True, negative=()),
    )
    train, tune, sweep = make_train_app(tokens), make_tune_app(tokens), make_sweep_app(tokens)
    for command in (demo, samples, formats, info, convert, simulate, train, tune, sweep, show, cite, map_):
        app.command(command)
    config = config_named(tokens[1:]) if tokens and tokens[0] in VERBS else None
    for name, verb in VERBS.items():
        app.command(with_options(verb, name, config), name=name)
    # Commands of one family are named by its config class.
    for target in dict.fromkeys(chain.from_iterable(config_class(name).commands for name in targets())):
        app.command(resolve(target))
    app.register_install_completion_command()
    return app


def run(arguments: Sequence[str] | None, received: Sequence[int]) -> int:
    """Run the program and return its exit code.

    Parameters
    ----------
    arguments
        The command line; by default that of the process.
    received
        Signals that have arrived: an error after one is not reported as ours.
    """
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens
    tokens = [token for token in tokens if token != "--debug"]
    processes.may_start = arguments is None
    try:
        app = make_app(tokens)
        if tokens[:1] == ["train"]:
            app.config = file_options(tokens)
        with plain_warnings(), on_command_line(lambda: flags_of(app, tokens)):
            app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except Interrupted as error:
        return _report(error, 128 + error.signal_number, debug)
    except DraperError as error:
        return _report(error, error.exit_code, debug)
    except UnknownOptionError as error:
        return _report(_unknown(error, tokens), USAGE, debug)
    except CycloptsError as error:
        cause = error.__cause__
        reason = reworded(cause, Config) if isinstance(cause, ValidationError) else error
        return _report(reason, USAGE, debug)
    except BrokenPipeError:
        # The reader of our output has gone (draper ... | head): nothing is left to say.
        sys.stderr.close()
        return 0
    except OSError as error:
        return _report(_file_error(error), USAGE, debug)
    except Exception as error:
        if received:
            raise
        if _is_lack_of_memory(error):
            return _report(_memory_error(error), USAGE, debug)
        traceback.print_exc()
        sys.stderr.write(
            f"\nThis is an error inside draper ({type(error).__name__}), not yours; please report it.\n"
        )
        return INTERNAL
    return 0


def flags_of(app: App, tokens: Sequence[str]) -> tuple[str, ...]:
    """Return the flags of the command that a command line names."""
    _, apps, _ = app.parse_commands(tokens)
    return tuple(name for argument in apps[-1].assemble_argument_collection() for name in argument.names)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Write draper's own warnings as one line each; those of others are shown as Python does."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, TrainingWarning):
                sys.stderr.write(f"warning: {message}\n")
            else:
                others(message, category, *place, **more)

        warnings.simplefilter("always", TrainingWarning)
        warnings.showwarning = show
        yield


def _unknown(error: UnknownOptionError, tokens: Sequence[str]) -> Exception:
    """Return what is said of an unknown option; of a verb's, what its model has instead."""
    if tokens[0] not in VERBS:
        return error
    given = (error.token.keyword or error.token.value).partition("=")[0]
    others = [name for argument in error.argument_collection for name in argument.names]
    return unknown_option(given, tokens[0], config_named(tokens[1:]), others)


def _file_error(error: OSError) -> DraperError:
    """Return the error that is reported for one of the system's that nothing else has translated."""
    failed = DraperError(
        "the system refused to read or write a file",
        given=": ".join(str(part) for part in (error.filename, error.strerror or error) if part),
        hint="is there room on the disk, and may you read and write there? --debug shows where it happened",
    )
    failed.__cause__ = error
    return failed


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch says so by errors of its own, which are not imported for this."""
    is_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or is_torch


def _memory_error(error: Exception) -> DraperError:
    """Return the error that is reported where memory ran out."""
    failed = DraperError(
        "there is too little memory",
        given=str(error).strip().partition("\n")[0] or None,
        hint="give fewer spectra at a time (--read.select, or several runs), a smaller --train.batch-size or "
        "model, or a machine with more memory",
    )
    failed.__cause__ = error
    return failed


def _report(error: Exception, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    else:
        sys.stderr.write(f"error: {error}\n")
    return code
