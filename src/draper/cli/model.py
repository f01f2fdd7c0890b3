"""A trained model and its data, as commands name them; what its verbs know, and how far they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress

from draper.configs.fit import FitConfig
from draper.configs.read import ReadConfig
from draper.errors import DraperError

if TYPE_CHECKING:
    from draper.data.spectra import Spectra
    from draper.models.base import Model

Output = Annotated[Path, Parameter(name=["--out", "-o"])]
Json = Annotated[bool, Parameter(name="--json")]
Fit = Annotated[FitConfig, Parameter(name="fit")]
Hints = Annotated[ReadConfig, Parameter(name="read")]


def opened(artifact: Path, verb: str) -> Model:
    """Return the model in a folder; refuse one that lacks the verb."""
    from draper.models.base import load

    model = load(artifact)
    if verb not in model.verbs:
        raise DraperError(
            f"a model of the kind '{model.name}' does not {verb}", given=artifact,
            expected=f"one of its verbs: {', '.join(model.verbs)}",
        )  # fmt: skip
    return model


def method(model: Model, verb: str) -> Callable[..., Any]:
    """Return a verb of a model."""
    found: Callable[..., Any] = getattr(model, verb)
    return found


def chosen(model: Model, verb: str, **options: Any) -> dict[str, Any]:
    """Return the options that a user has set; refuse those that the model's verb does not know."""
    known = (*model.config.options_class(verb).model_fields, *(["grid"] if model.accepts == "any" else []))
    has_fit = model.config.options_class("information" if verb == "information" else verb) is FitConfig
    known = (*known, "resolving_power", *(["fit"] if has_fit or verb == "information" else []))
    found = {}
    for name, value in options.items():
        told = value is not None and (not isinstance(value, FitConfig) or bool(value.model_fields_set))
        if told and name not in known:
            flag = "--fit." + next(iter(value.model_fields_set)) if name == "fit" else f"--{name}"
            raise DraperError(
                f"a model of the kind '{model.name}' does not know this option", given=flag.replace("_", "-"),
                hint=f"leave it out; draper {verb} {model.name} takes none of its kind",
            )  # fmt: skip
        if told:
            found["options" if name == "fit" else name] = value
    return found


def noted(model: Model, verb: str, note: Callable[[int, int], None]) -> dict[str, Any]:
    """Return the argument by which a verb tells how far it is, if it does."""
    return {"progress": note}


def gathered(data: tuple[Path, ...], hints: ReadConfig, usage: str) -> Spectra:
    """Return the spectra of all files."""
    from draper.data.io import read

    if not data:
        raise DraperError("no data were named", hint=usage)
    return read(list(data), **hints.model_dump(exclude_unset=True))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is: a bar on a terminal, nothing elsewhere, so that logs stay clean."""
    console = Console(file=sys.stderr)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
