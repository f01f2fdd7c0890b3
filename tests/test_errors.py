"""Errors say what, given, expected and what to do."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import draper
from draper.errors import (
    DivergedError,
    DraperError,
    InterruptedTraining,
    did_you_mean,
    on_command_line,
    option_text,
)


def test_the_message_has_all_parts_in_order() -> None:
    error = DraperError("what", given=0, expected=[], hint="do this")
    assert str(error) == "what\n  given:    0\n  expected: []\n  hint:     do this"
    assert (error.what, error.given, error.expected, error.hint) == ("what", 0, [], "do this")
    assert str(DraperError("what")) == "what"
    assert isinstance(error, ValueError)
    assert draper.DraperError is DraperError


def test_exit_codes() -> None:
    assert (DraperError("x").exit_code, DivergedError("x").exit_code) == (2, 3)
    assert InterruptedTraining(15, "stopped", hint="resume").signal_number == 15


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("tef", ["teff", "logg"], "did you mean 'teff'?"),
        ("TEFF", ["teff", "logg"], "did you mean 'teff'?"),
        ("teff", ["Teff"], "did you mean 'Teff'?"),
        ("colour", ["teff", "logg"], "the choices are teff, logg"),
        ("x", [], "there is nothing to choose from"),
        ("tef", (name for name in ("teff",)), "did you mean 'teff'?"),
        ("tef", {"teff": 1}, "did you mean 'teff'?"),
    ],
)
def test_did_you_mean(name: str, options, hint: str) -> None:
    assert did_you_mean(name, options) == hint


@given(st.text(), st.lists(st.text(max_size=5), max_size=5))
def test_did_you_mean_takes_anything(name: str, options: list[str]) -> None:
    hint = did_you_mean(name, options)
    assert hint.startswith(("did you mean", "the choices are", "there is nothing"))
    if name in options and name:
        assert hint.startswith("did you mean")


@pytest.mark.parametrize(
    ("flags", "name", "values", "text"),
    [
        ([], "read.medium", ["air", "vacuum"], "medium='air' or 'vacuum'"),
        ([], "valid", [0], "valid=0"),
        ([], "read.key", [], "key="),
        (["--medium"], "read.medium", ["air", "vacuum"], "--medium air|vacuum"),
        (["--read.medium", "--medium"], "read.medium", ["air"], "--read.medium air"),
        (["--labels", "--read.labels"], "labels", [["teff", "logg"]], "--labels teff logg"),
        (["--read.resolving-power"], "read.resolving_power", [], "--read.resolving-power"),
        (["--quantity"], "read.quantity", ["normalised flux"], "--quantity 'normalised flux'"),
        (["--simulator.snr"], "simulator.snr", [(20, 200)], "--simulator.snr 20,200"),
        (["--resume"], "resume", [True], "--resume"),
        (["--other"], "resume", [True], "resume=True"),
    ],
)
def test_an_option_has_the_name_that_the_user_can_give(flags, name: str, values, text: str) -> None:
    with on_command_line(lambda: flags):
        assert option_text(name, *values) == text
    assert option_text("valid") == "valid="


def test_no_hint_of_the_library_names_a_flag_itself() -> None:
    """Of several commands each may have another one; whole commands and option files of other codes may."""
    root = Path(draper.__file__).parent
    for path in root.rglob("*.py"):
        if "cli" not in path.parts:
            for hint in re.findall(r"hint=(?:[^()]|\([^()]*\))*", path.read_text()):
                without_commands = re.sub(r"draper [a-z]+ [^\"]*", "", hint)
                assert not re.search(r"(?<![\w-])--[a-z]", without_commands), f"{path}: {hint}"
