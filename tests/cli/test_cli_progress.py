"""How far a command is: a bar on a terminal, elsewhere a line now and then."""

import io
import re
import sys
from time import sleep

import pytest

from draper.cli import progress as module
from draper.cli.progress import progress


def test_lines_now_and_then_and_none_of_quick_work(capsys, monkeypatch) -> None:
    with progress("predicting") as done:
        done(3, 3)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(module, "LINE_EVERY", 0.05)
    with progress("predicting") as done:
        done(300, 1200)
        sleep(0.4)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert 1 <= len(lines) <= 8
    pattern = r"predicting: 300 of 1,200 \(25 %\), \d:\d\d:\d\d so far, \d:\d\d:\d\d left"
    assert all(re.fullmatch(pattern, line) for line in lines)


@pytest.mark.parametrize(("given", "words"), [((7, None), "reading: 7 done, "), ((0, None), "reading: 0:00")])
def test_lines_of_work_of_unknown_size(given, words: str) -> None:
    lines = module.Lines("reading", 1.0)
    lines.note(*given)
    assert lines.line(12).startswith(words)


def test_lines_end_with_the_work_also_after_an_error(capsys, monkeypatch) -> None:
    monkeypatch.setattr(module, "LINE_EVERY", 0.02)
    with pytest.raises(ValueError, match="broken"), progress("predicting"):
        raise ValueError("broken")
    capsys.readouterr()
    sleep(0.1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("width", [80, 60])
def test_bar_on_a_terminal(width: int, monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    with progress("predicting") as done:
        done(3000, 10_000)
        sleep(0.3)
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n")
    assert re.search(r"predicting ━+.* 30% +(\d:\d\d:\d\d|-:--:--) +3000/10000", said)
    assert max(map(len, said.split("\n"))) <= width
