"""``draper propose``."""

import json
from pathlib import Path

import pytest

from draper.cli import main
from draper.data import samples
from draper.results.table import write_table

ARTIFACT = "builtin:rvs-emulator"


def test_rows_of_a_wide_table_are_written_whole_and_shown_by_their_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = samples.load("rvs-grid")[:40]
    wide = {**grid.table, **{f"note_{number}": grid.table["teff"] for number in range(30)}}
    write_table(wide, tmp_path / "grid.csv", {})
    out = tmp_path / "next.csv"
    command = ["propose", ARTIFACT, "-n", "3", "--among", str(tmp_path / "grid.csv")]
    assert main([*command, "-o", str(out)]) == 0
    said = capsys.readouterr().out
    rows = out.read_text().splitlines()
    assert len(rows) == 4
    assert rows[0].count("note_") == 30
    for row in rows[1:]:
        assert row.split(",")[0] in said
    assert main([*command, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["labels"]["teff"]) == 3


def test_what_cannot_be_proposed_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, word in (
        (["builtin:planets"], "no verb 'propose'"),
        ([ARTIFACT, "-n", "0"], ">= 1"),
        ([ARTIFACT, "--stars", str(tmp_path / "none.csv")], "no such table"),
        ([ARTIFACT, "-o", str(tmp_path / "next.txt")], "unknown table format"),
    ):
        assert main(["propose", *command]) == 2
        assert word in capsys.readouterr().err
