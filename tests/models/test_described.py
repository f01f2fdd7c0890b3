"""What models say of themselves: options in signatures, and a few lines when they are printed."""

import pydoc
from inspect import signature

import pytest

from draper.models.base import Model
from draper.registry import config_class, model_class, targets
from draper.testing import QUICK, LinearAutoencoder, made_spectra


@pytest.mark.parametrize("name", targets())
def test_every_class_shows_the_options_of_its_config(name: str) -> None:
    parameters = signature(model_class(name)).parameters
    config = config_class(name)
    assert list(parameters) == ["config", *config.model_fields]
    for option, field in config.model_fields.items():
        assert parameters[option].default == field.get_default(call_default_factory=True)
        assert "FieldInfo" not in str(parameters[option])


def test_help_shows_options_and_the_abstract_class_has_none() -> None:
    text = pydoc.plain(pydoc.render_doc(model_class("disentangler")))
    assert "remove: tuple[str, ...] = ()" in text
    assert list(signature(Model).parameters) == ["config", "options"]


def test_a_model_that_no_package_announces_has_the_signature_of_its_constructor() -> None:
    class Unknown(LinearAutoencoder):
        name = "unheard-of"

    assert list(signature(Unknown).parameters) == ["config", "options"]


def test_print_says_what_a_model_is() -> None:
    model = LinearAutoencoder(latent=4, labels=["teff"])
    assert "not fitted" in str(model)
    assert "nothing yet" in str(model)
    text = str(model.fit(made_spectra(100), valid=0.2, train=QUICK.replace(steps=2)))
    for words in ("LinearAutoencoder (linear)", "labels      teff", "80 spectra", "latent=4", "px"):
        assert words in text
    assert "start=" not in text  # a default
    assert f"{sum(p.numel() for p in model.own_module.parameters()):,}" in text
