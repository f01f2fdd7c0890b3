"""Every example of the documentation runs: Python blocks page by page, and draper's command lines."""

import re
import shlex
from pathlib import Path

import matplotlib
import pytest

from draper.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg", force=True)
    names: dict[str, object] = {"__name__": f"docs.{page.stem}"}
    for language, block in BLOCK.findall(page.read_text()):
        if language == "python":
            exec(compile(block, page.name, "exec"), names)
            continue
        for line in block.splitlines():
            if line.startswith("$ draper "):
                assert main(shlex.split(line)[2:]) == 0, (line, capsys.readouterr().err)


def test_pages_are_found() -> None:
    assert {"README", "quickstart", "formats"} <= {page.stem for page in PAGES}


def test_every_page_is_in_the_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in ROOT.glob("docs/*.md"):
        assert page.stem == "index" or re.search(rf"^{page.stem}$", index, re.MULTILINE), page.stem


def test_documented_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)`", "".join(page.read_text() for page in PAGES))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
