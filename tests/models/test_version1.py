"""Models that an older draper wrote (model.json version 1) load, and predict the same numbers to float32.

Those of the emulators are of the label fit since it takes an emulator's error at the nearest pixel.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import draper
from draper.models import artifact

FOLDER = Path(__file__).parent / "version1"
NAMES = sorted(path.stem for path in FOLDER.glob("*.npz"))


def opened(name: str) -> tuple[Any, draper.Spectra, dict[str, np.ndarray]]:
    """Return a model, the spectra that its verbs were called with, and what they returned."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)
    grid = draper.Grid.from_wavelength(arrays["wavelength"], medium="vacuum", resolving_power=2000)
    spectra = draper.Spectra(grid, arrays["flux"], arrays["ivar"], {"id": arrays["ids"]}, "normalised flux")
    return draper.load(FOLDER / name), spectra, arrays


@pytest.fixture(autouse=True)
def plain_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the precision that the numbers were computed with; it decides where a fit ends."""
    for module in ("exposures", "compressed"):
        monkeypatch.setattr(f"draper.infer.{module}.bfloat16_helps", lambda: False)
    for module in ("nn.precision", "models.base"):
        monkeypatch.setattr(f"draper.{module}.fastest_mode", lambda *_: "highest")


@pytest.mark.parametrize("name", NAMES)
def test_predictions_are_the_same(name: str) -> None:
    model, spectra, arrays = opened(name)
    estimates = model.predict(spectra)
    if estimates.kind == "quantiles":
        # Of draws: whether a wall is near enough to matter may depend on the last digits.
        off = np.abs(estimates.median - arrays["predict_median"]) / arrays["predict_sigma"]
        assert off.max() < 0.05
        np.testing.assert_allclose(estimates.sigma, arrays["predict_sigma"], rtol=0.05)
        return
    np.testing.assert_allclose(estimates.median, arrays["predict_median"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(estimates.sigma, arrays["predict_sigma"], rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("emulator")])
def test_latents_and_reconstructions_are_the_same(name: str) -> None:
    model, spectra, arrays = opened(name)
    np.testing.assert_allclose(model.encode(spectra), arrays["encode_latent"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.generate(spectra).flux, arrays["generate_flux"], rtol=1e-5, atol=1e-6)


def test_renamed_options_have_their_new_names() -> None:
    for name, option, value in (
        ("emulator-query", "architecture", "query"),
        ("disentangler-bottleneck", "information_limit", 12.0),
    ):
        held = json.loads((FOLDER / name / "model.json").read_text())
        assert held["version"] == 1
        assert option not in held["config"]
        description = artifact.describe(FOLDER / name)
        assert description["config"][option] == value
        assert getattr(draper.load(FOLDER / name).config, option) == value


def test_an_old_model_is_written_as_a_new_one(tmp_path: Path) -> None:
    model, spectra, _ = opened("disentangler-bottleneck")
    folder = model.save(tmp_path / "model")
    held = json.loads((folder / "model.json").read_text())
    assert held["version"] == artifact.VERSION
    assert "rate" not in held["config"]
    np.testing.assert_array_equal(draper.load(folder).encode(spectra), model.encode(spectra))


def test_every_renamed_option_exists() -> None:
    from draper.registry import config_class

    for name, renamed in artifact.RENAMED.items():
        fields = config_class(name).model_fields
        assert set(renamed.values()) <= set(fields)
        assert not set(renamed) & set(fields)
