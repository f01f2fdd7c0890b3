"""The help of every command: it is there, has an example, and describes every option."""

from collections.abc import Iterator

import pytest
from cyclopts import App

from draper.cli import main
from draper.cli.app import make_app
from draper.registry import config_class

PRIVATE = ("unless told", "of the names of the columns", "most steps", "nats that", "who asks")
"""Words that no help uses."""


def commands(app: App, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    for part in app:
        if part.startswith("-"):
            continue
        command = app[part]
        inner = list(commands(command, (*name, part)))
        yield from inner or [((*name, part), command)]


EVERY = dict(commands(make_app()))


def test_options_of_objectives_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("tune", "sweep"):
        assert main([command, "disentangler", "--help"]) == 0
        text = capsys.readouterr().out
        for option in config_class("disentangler").objective_options.model_fields:
            assert f"--{option.replace('_', '-')} " in text
        assert main([command, "linear", "--help"]) == 0
        assert "* CONFIG" not in capsys.readouterr().out


def test_no_command_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage: draper COMMAND" in capsys.readouterr().out


def test_there_are_all_commands() -> None:
    names = {name[0] for name in EVERY}
    assert names >= {
        *(
            "demo",
            "samples",
            "formats",
            "info",
            "convert",
            "simulate",
            "train",
            "tune",
            "sweep",
            "show",
            "cite",
        ),
        *("predict", "generate", "encode", "evaluate", "map"),
        *("information", "import", "export", "leakage", "swap"),
    }


@pytest.mark.parametrize("name", EVERY, ids=" ".join)
def test_every_command_has_a_help(name: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Usage: draper {' '.join(name)}" in text
    assert "Example: draper" in text
    assert not [words for words in PRIVATE if words in text.lower()]


@pytest.mark.parametrize("name", EVERY, ids=" ".join)
def test_every_option_is_described(name: tuple[str, ...]) -> None:
    shown = [
        argument
        for argument in EVERY[name].assemble_argument_collection(parse_docstring=True)
        if argument.show
    ]
    assert shown
    silent = [argument.name for argument in shown if not argument.parameter.help]
    assert not silent


@pytest.mark.parametrize("name", EVERY, ids=" ".join)
def test_an_unknown_option_is_named(name: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name, "--no-such-option", "3"]) == 2
    error = capsys.readouterr().err
    assert "--no-such-option" in error or "requires an argument" in error
    assert "Traceback" not in error
