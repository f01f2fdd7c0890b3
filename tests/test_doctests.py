"""Every example in a docstring runs and gives what it shows."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import draper

ROOT = Path(draper.__file__).parent


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    with_examples = [path for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text()]
    names = [".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in with_examples]
    found = [
        test for name in names for test in finder.find(import_module(name.removesuffix(".__init__")), name)
    ]
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name.removeprefix("draper."))
def test_example(example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    runner = doctest.DocTestRunner()
    runner.run(example, out=said.append)
    assert runner.failures == 0, "".join(said)
    assert runner.tries == len(example.examples)
