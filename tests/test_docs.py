"""Every example of the documentation runs: Python blocks page by page, and draper's command lines."""

import re
import shlex
from pathlib import Path

import matplotlib
import pytest

from draper.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = {DOCS / "reference" / "command-line.md"}
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(page for page in DOCS.rglob("*.md") if "_build" not in page.parts and page not in GENERATED),
    ]
)
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT).with_suffix("")).removeprefix("docs/")
)
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
    assert {"README", "quickstart", "formats", "emulator", "own-model"} <= {page.stem for page in PAGES}
    assert {page.parent.name for page in PAGES if page.parent.parent == DOCS} == {
        "tutorials",
        "howto",
        "guides",
        "reference",
    }


def test_every_page_is_in_the_contents() -> None:
    index = (DOCS / "index.md").read_text()
    for page in [*PAGES, *GENERATED]:
        if DOCS in page.parents and page.stem != "index":
            name = page.relative_to(DOCS).with_suffix("")
            assert re.search(rf"^{name}$", index, re.MULTILINE), name


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == ROOT], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Sphinx checks the pages in docs/."""
    targets = re.findall(r"\]\(([^):#]+)", page.read_text())
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]


HEADINGS = [
    "What it is",
    "When to use it, and when not",
    "Data it needs",
    "Example",
    "Options",
    "Outputs",
    "How well it does",
    "Theory",
    "Citation",
]


@pytest.mark.parametrize("guide", sorted((DOCS / "guides").glob("*.md")), ids=lambda page: page.stem)
def test_guides_have_the_same_headings(guide: Path) -> None:
    assert re.findall(r"^## (.*)$", guide.read_text(), re.MULTILINE) == HEADINGS


def test_the_drawing_shows_the_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from draw_architecture import DRAWING, draw

    assert DRAWING.read_text() == draw(), "run scripts/draw_architecture.py"


def test_documented_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)`", "".join(page.read_text() for page in PAGES))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
