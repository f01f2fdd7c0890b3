"""Recipes: options of fits that suit an instrument."""

from __future__ import annotations

from pathlib import Path

import pytest

from draper.configs.fit import FitConfig, read_recipe, recipes
from draper.errors import DraperError


@pytest.mark.parametrize("name", recipes())
def test_recipes_are_options(name: str) -> None:
    config, options = FitConfig(recipe=name), read_recipe(name)
    assert options
    assert {option: getattr(config, option) for option in options} == {
        option: getattr(FitConfig(**options), option) for option in options
    }


def test_options_that_are_given_come_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("continuum = 3\nrobust = 'clip'\n")
    config = FitConfig(recipe=str(path), continuum=5)
    assert (config.continuum, config.robust) == (5, "clip")
    again = config.replace(rv=0.0)
    assert (again.continuum, again.robust, again.rv) == (5, "clip", 0.0)


def test_what_is_no_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DraperError, match="no such recipe"):
        FitConfig(recipe="gaia")
    for text, match in (
        ("continuum = ", "no TOML file"),
        ("recipe = 'apogee'", "cannot name another one"),
        ("contineum = 2", "does not know the option"),
    ):
        (tmp_path / "wrong.toml").write_text(text)
        with pytest.raises(DraperError, match=match):
            FitConfig(recipe=str(tmp_path / "wrong.toml"))
