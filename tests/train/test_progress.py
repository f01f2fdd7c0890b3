"""The bar of a run on terminals of several widths."""

import io
import re

import pytest
from rich.console import Console

from draper.train.events import Event
from draper.train.progress import Bar


@pytest.mark.parametrize(("width", "numbers"), [(120, 3), (80, 1), (60, 0), (40, 0)])
def test_bar_per_cent_and_time_left_are_kept(width: int, numbers: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    bar = Bar(console)
    losses = {f"train/{name}": 1.234567 for name in ("kl", "flux", "labels", "total", "information")}
    metrics = {**losses, "valid/total": 0.1234, "valid/flux": 0.2, "rate": 1e-3}
    bar.note(Event("start", 0, 10_000, 0, 0))
    bar.note(Event("log", 3000, 10_000, 1, 3, metrics=metrics))
    bar.progress.refresh()
    bar.close()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n").split("\n")
    last = next(line for line in reversed(lines) if "training" in line)
    assert len(last) <= width
    assert re.search(r"training ━+.* 30% +(\d:\d\d:\d\d|-:--:--) +3000/10000", last)
    assert len(re.findall(r"(?:train|valid)/\w+ [\d.]+", last)) == numbers
    assert "valid/total 0.1234" in last or not numbers
