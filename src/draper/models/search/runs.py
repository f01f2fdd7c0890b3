"""What a search and a sweep share: dividing the data, training one model, resuming, options as a file."""

from __future__ import annotations

import json
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from draper.config import Input, ModelConfig
from draper.configs.train import TrainConfig
from draper.data.spectra import Spectra, Subset
from draper.errors import DivergedError, DraperError, Interrupted, OutputError, TrainingWarning, option_text
from draper.models.base import Model
from draper.models.dataset import EPOCH, HELD_OUT_DRAWS, Source, as_spectra, drawn, fingerprint
from draper.registry import model_class
from draper.results.trials import Figures
from draper.simulate.base import Simulator
from draper.train.feed import seed_of

Data = Source | Mapping[str, Source]
"""The input of a model, or several by name."""


@dataclass(frozen=True)
class Division:
    """The three parts of the data, by input: training, validation, test."""

    train: dict[str, Source]
    valid: dict[str, Spectra]
    test: dict[str, Spectra]


def divide(inputs: tuple[Input, ...], data: Data, valid: float, test: float, seed: int) -> Division:
    """Divide data by object; of a simulator, draw the validation and the test part.

    Parameters
    ----------
    inputs
        What the model takes.
    data
        Spectra, the path of a file that holds them, or a simulator; for several inputs a dict by name.
    valid, test
        Fractions of the objects.
    seed
        Decides which.
    """
    parts = Division({}, {}, {})
    for name, source in (data if isinstance(data, Mapping) else {inputs[0].name: data}).items():
        if isinstance(source, Simulator):
            parts.train[name] = source
            for number, (part, fraction) in enumerate(((parts.valid, valid), (parts.test, test))):
                part[name] = drawn(source, round(fraction * EPOCH), seed_of(seed, HELD_OUT_DRAWS, number))
            continue
        spectra = as_spectra(source)
        if len(spectra) == 0:
            raise DraperError("there are no spectra to train on", given=repr(spectra))
        split = spectra.split(1 - valid - test, valid, seed=seed)
        parts.train[name], parts.valid[name], parts.test[name] = split
    return parts


def fingerprint_of(part: Mapping[str, Spectra]) -> str:
    """Return a fingerprint of a part, all inputs together."""
    return "+".join(fingerprint(Subset.whole(spectra)) for spectra in part.values())


def train_and_evaluate(
    model: str,
    options: ModelConfig,
    train: TrainConfig,
    parts: Division,
    out: Path,
    evaluate: Callable[[Model], Figures],
) -> tuple[float, Figures | None]:
    """Train a model, or continue its training, and evaluate it.

    Returns
    -------
    tuple
        The duration in seconds, and the figures: None if the training diverged, which leaves no model.
    """
    started = time.monotonic()
    figures = None
    try:
        fitted = model_class(model)(options)
        with warnings.catch_warnings():
            # Bad options are among those that are tried; their figures say so.
            warnings.simplefilter("ignore", TrainingWarning)
            fitted.fit(**parts.train, valid=parts.valid, train=train, out=out, resume=True)
        figures = evaluate(fitted)
    except DivergedError:
        rmtree(out, ignore_errors=True)
    return round(time.monotonic() - started, 3), figures


@contextmanager
def resumable(what: str) -> Iterator[None]:
    """Say how to continue a search or a sweep that is interrupted, or whose files cannot be written."""
    hint = f"continue the {what}: the same call with {option_text('resume', True)}"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT, f"the {what} was interrupted", hint=hint) from None
    except Interrupted as error:
        message = f"the {what} was interrupted: {error.what}"
        raise Interrupted(error.signal_number, message, hint=hint) from None
    except OutputError as error:
        raise OutputError(error.what, given=error.given, hint=f"make room, then {hint}") from error


def require_same(what: str, asked: Mapping[str, Any], held: Mapping[str, Any]) -> None:
    """Refuse to continue a search or a sweep that was started with something else."""
    for name in asked:
        if json.loads(json.dumps(asked[name])) != held.get(name):
            raise DraperError(
                f"the {what} was started with another value of '{name}'",
                given=asked[name],
                expected=held.get(name),
                hint=f"resume with the same options, or start a {what} in another folder",
            )


def cut_last_line(path: Path) -> None:
    """Remove the last line of a file if a killed process has not finished it."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as handle:
            handle.truncate(whole)


def options_toml(options: ModelConfig, train: TrainConfig) -> str:
    """Return the options that are set as TOML, as ``draper train MODEL --config FILE`` reads them.

    Examples
    --------
    >>> from draper.registry import config_class
    >>> print(options_toml(config_class("linear")(latent=3), TrainConfig(epochs=5, rates={"head": 0.01})))
    latent = 3
    <BLANKLINE>
    [train]
    epochs = 5.0
    <BLANKLINE>
    [train.rates]
    head = 0.01
    <BLANKLINE>
    """
    tables = {"": options, "train": train}
    lines: list[str] = []
    for title, config in tables.items():
        given = config.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        # Plain values come before the tables inside, which would swallow them.
        plain = {name: value for name, value in given.items() if not isinstance(value, dict)}
        inner = {name: value for name, value in given.items() if isinstance(value, dict) and value}
        for name, values in [(title, plain), *((f"{title}.{key}".strip("."), inner[key]) for key in inner)]:
            if values:
                lines += ["", f"[{name}]"] if name else []
                lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([*lines, ""])
