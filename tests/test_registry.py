"""Models are found by name, and by name alone."""

from importlib.metadata import EntryPoint

import pytest

from draper import registry
from draper.config import ModelConfig
from draper.errors import DraperError


@pytest.mark.parametrize("name", registry.targets())
def test_every_model_is_complete(name: str) -> None:
    config = registry.config_class(name)
    assert issubclass(config, ModelConfig)
    assert config.summary.endswith(".")
    config(**config.example)
    model = registry.model_class(name)
    assert model.name == name
    assert isinstance(model().config, config)


def test_unknown_model() -> None:
    with pytest.raises(DraperError, match=r"no model called 'linaer'[\s\S]*did you mean 'linear'"):
        registry.config_class("linaer")
    with pytest.raises(DraperError, match="no model called"):
        registry.model_class("")


def test_other_packages_announce_models(monkeypatch) -> None:
    points = [
        EntryPoint(name, "draper.configs.linear:LinearConfig", registry.GROUP) for name in ("zebra", "apple")
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])
    registry.targets.cache_clear()
    try:
        assert list(registry.targets()) == ["apple", "zebra"]
        assert registry.config_class("zebra").__name__ == "LinearConfig"
    finally:
        registry.targets.cache_clear()


def test_resolve() -> None:
    assert registry.resolve("draper.errors:DraperError") is DraperError
