"""Networks of other codes: each gives the flux of its own formula, and no file does harm."""

import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from draper import Grid, Label, LabelSet, TrainConfig, load
from draper.cli import main
from draper.data.parsing.payne import LABELS as PAYNE
from draper.data.parsing.payne import apogee_grid
from draper.errors import DraperError
from draper.models.emulator.foreign import adopt, formats
from draper.models.emulator.model import Emulator
from draper.nn.emulator import EmulatorNetwork
from draper.nn.pixelwise import PixelNetwork
from draper.testing import made_spectra

WAVELENGTH = np.linspace(5000.0, 5010.0, 11)
LOW, HIGH = np.array([4.0, 1.0, -1.0, 0.5]), np.array([7.0, 5.0, 0.5, 2.5])
NAMES = ("teff", "logg", "feh", "vmic")


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def silu(z: np.ndarray) -> np.ndarray:
    return z * sigmoid(z)


def leaky(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, z, 0.01 * z)


def layers(*sizes: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {}
    for k, (before, after) in enumerate(pairwise(sizes)):
        arrays[f"w_array_{k}"] = (rng.normal(size=(after, before)) / before**0.5).astype(np.float32)
        arrays[f"b_array_{k}"] = rng.normal(size=after).astype(np.float32)
    return arrays


def formula(arrays: dict, activation: Callable, values: np.ndarray, low=LOW, high=HIGH) -> np.ndarray:
    """What a perceptron says, in float64."""
    x = (values - low) / (high - low) - 0.5
    depth = sum(name.startswith("w_array") for name in arrays)
    for k in range(depth):
        x = x @ arrays[f"w_array_{k}"].astype(float).T + arrays[f"b_array_{k}"]
        x = activation(x) if k < depth - 1 else x
    return x


def pixel_formula(arrays: dict, values: np.ndarray) -> np.ndarray:
    """What binspec computes, in float64."""
    x = (values - arrays["x_min"]) / (arrays["x_max"] - arrays["x_min"]) - 0.5
    inside = np.einsum("phd,nd->nph", arrays["w_array_0"].astype(float), x) + arrays["b_array_0"]
    return (arrays["w_array_1"] * sigmoid(inside)).sum(-1) + arrays["b_array_1"]


def drawn(n: int, low=LOW, high=HIGH, seed: int = 1) -> np.ndarray:
    return low + np.random.default_rng(seed).random((n, len(low))) * (high - low)


def one_payne(path: Path, hidden=(16, 16, 16), **changes) -> dict[str, np.ndarray]:
    arrays = {
        **layers(4, *hidden, 11), "x_min": LOW, "x_max": HIGH, "wavelength": WAVELENGTH,
        "label_names": np.array(NAMES), "date": np.array("2026"), "base_lr": np.array(1e-3), **changes,
    }  # fmt: skip
    arrays = {name: values for name, values in arrays.items() if values is not None}
    np.savez(path, **arrays)
    return arrays


def table(values: np.ndarray, names=("teff", "logg", "fe_h", "vmic"), kilo: bool = True) -> dict:
    columns = dict(zip(names, values.T, strict=True))
    return {**columns, "teff": columns["teff"] * (1000 if kilo else 1)}


# ------------------------------------------------------------- the real networks


@pytest.mark.parametrize(
    ("name", "tolerance", "quantity"),
    [("normalized", {"atol": 1e-6}, "normalised flux"), ("unnormalized", {"rtol": 1e-6}, "flux")],
)
def test_binspec_says_what_its_formula_says(
    real_data: Path, tmp_path: Path, name: str, tolerance: dict, quantity: str
) -> None:
    path = real_data / "apogee_binspec" / f"NN_{name}_spectra.npz"
    arrays = dict(np.load(path, allow_pickle=False))
    labels = drawn(40, arrays["x_min"], arrays["x_max"])
    adopt(path).save(tmp_path / "model")
    model = load(tmp_path / "model")
    assert model.labels.names == ("teff", "logg", "fe_h", "mg_fe", "vmac")[: labels.shape[1]]
    made = model.generate(dict(zip(model.labels.names, labels.T, strict=True)))
    assert made.quantity == quantity
    assert made.table["outside_box"].sum() == 0
    np.testing.assert_allclose(
        made.flux, pixel_formula(arrays, labels), **{"rtol": 0, "atol": 0, **tolerance}
    )
    if quantity == "flux":
        # Their unit is a millionth of the physical one.
        assert np.abs(made.flux - pixel_formula(arrays, labels)).max() / 1e6 < 1e-11


def test_binspec_derivatives(real_data: Path) -> None:
    path = real_data / "apogee_binspec" / "NN_normalized_spectra.npz"
    arrays = dict(np.load(path, allow_pickle=False))
    model = adopt(path)
    labels = drawn(3, arrays["x_min"], arrays["x_max"])
    found = model.jacobian(dict(zip(model.labels.names, labels.T, strict=True)))
    for k, step in enumerate((arrays["x_max"] - arrays["x_min"]) * 1e-4):
        moved = np.eye(5)[k] * step
        slope = (pixel_formula(arrays, labels + moved) - pixel_formula(arrays, labels - moved)) / (2 * step)
        np.testing.assert_allclose(found[:, :, k] * step, slope * step, atol=2e-9, rtol=1e-4)


def test_grid_is_that_of_apogee(real_data: Path) -> None:
    theirs = np.load(real_data / "apogee_binspec" / "apogee_wavelength.npz")["wavelength"]
    np.testing.assert_allclose(apogee_grid().vacuum, theirs, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "words"),
    [("NN_radius", "not predict"), ("NN_Teff2_logg2", "no known"), ("apogee_wavelength", "no known")],
)
def test_refuses_what_predicts_no_spectra(real_data: Path, name: str, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        adopt(real_data / "apogee_binspec" / f"{name}.npz", labels="abc")


# --------------------------------------------------------------- a network a pixel


def test_pixel_network_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    network = PixelNetwork(labels=3, pixels=7, hidden=4).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    whole = network(x)
    monkeypatch.setattr("draper.nn.pixelwise.NUMBERS", 40)
    flux, columns = network.jacobian(x)
    assert torch.allclose(flux, whole)
    assert torch.allclose(network(x), whole)
    exact = torch.func.vmap(torch.func.jacrev(lambda one: network(one[None])[0]))(x)
    assert torch.allclose(columns, exact)


def test_pixel_network_is_not_trained() -> None:
    with pytest.raises(DraperError, match="train an emulator"):
        Emulator(architecture="pixelwise", hidden=(4,)).fit(
            made_spectra(60), train=TrainConfig(epochs=1, progress="none")
        )


# ------------------------------------------------------------------- each format


@pytest.mark.parametrize("hidden", [(16, 16, 16), (8, 12, 16, 20)], ids=str)
def test_one_payne(tmp_path: Path, hidden: tuple[int, ...]) -> None:
    arrays = one_payne(tmp_path / "net.npz", hidden, label_names=np.array(["teff", "logg", "feh", "A_Li"]))
    model = adopt(tmp_path / "net.npz", medium="air", resolving_power=20_000)
    assert model.labels.names == ("teff", "logg", "fe_h", "a_li")
    assert model.labels["teff"] == Label("teff", low=4000, high=7000)
    np.testing.assert_allclose(model.own_grid.air, WAVELENGTH, atol=1e-6)
    assert model.own_grid.resolving_power == 20_000
    values = drawn(30)
    made = model.generate(table(values, model.labels.names))
    np.testing.assert_allclose(made.flux, sigmoid(formula(arrays, silu, values)), atol=1e-6)
    assert model.training["format"] == "one-payne"


def test_one_payne_wants_a_medium(tmp_path: Path) -> None:
    one_payne(tmp_path / "net.npz")
    with pytest.raises(DraperError, match="air or vacuum"):
        adopt(tmp_path / "net.npz")


def test_architecture_that_the_file_declares(tmp_path: Path) -> None:
    told = np.array("Linear-LeakyReLU-Linear-LeakyReLU-Linear-LeakyReLU-Linear")
    arrays = one_payne(tmp_path / "net.npz", model_architecture=told)
    made = adopt(tmp_path / "net.npz", medium="vacuum").generate(table(drawn(9)))
    np.testing.assert_allclose(made.flux, formula(arrays, leaky, drawn(9)), rtol=1e-4, atol=1e-5)
    one_payne(tmp_path / "net.npz", model_architecture=np.array("Linear-GELU-Linear-Sigmoid"))
    with pytest.raises(DraperError, match="unknown form of the network"):
        adopt(tmp_path / "net.npz", medium="vacuum")


def test_the_payne_on_its_own_grid(tmp_path: Path) -> None:
    low, high = np.full(25, -1.5), np.full(25, 0.5)
    low[:3], high[:3] = (3000, 0, 0.1), (8000, 5, 4)
    arrays = layers(25, 6, 6, 7214)
    np.savez(tmp_path / "payne.npz", **arrays, x_min=low, x_max=high)
    model = adopt(tmp_path / "payne.npz")
    assert model.labels.names == PAYNE
    assert model.labels.names[-3:] == ("ge_h", "c12_c13", "vmac")
    np.testing.assert_allclose(model.own_grid.vacuum, apogee_grid().vacuum)
    assert [piece.stop - piece.start for piece in model.own_grid.segments()] == [2920, 2400, 1894]
    values = drawn(5, low, high)
    made = model.generate(dict(zip(PAYNE, values.T, strict=True)))
    np.testing.assert_allclose(made.flux, formula(arrays, leaky, values, low, high), rtol=1e-4, atol=1e-4)
    with pytest.raises(DraperError, match="are in vacuum"):
        adopt(tmp_path / "payne.npz", medium="air")


def test_the_payne_with_names_and_pixels_of_the_user(tmp_path: Path) -> None:
    arrays = layers(4, 6, 6, 11)
    np.savez(tmp_path / "payne.npz", **arrays, x_min=LOW, x_max=HIGH)
    with pytest.raises(DraperError, match="wavelengths"):
        adopt(tmp_path / "payne.npz", labels=NAMES, medium="air")
    with pytest.raises(DraperError, match=r"no names(.|\n)*-1\.\.0\.5"):
        adopt(tmp_path / "payne.npz", wavelength=WAVELENGTH, medium="air")
    with pytest.raises(DraperError, match="differ in length"):
        adopt(tmp_path / "payne.npz", labels=NAMES, wavelength=WAVELENGTH[1:], medium="air")
    # Pixels that lie the other way round come out in order.
    (tmp_path / "pixels.txt").write_text("\n".join(map(str, WAVELENGTH[::-1] / 10)))
    model = adopt(
        tmp_path / "payne.npz", labels=NAMES, wavelength=tmp_path / "pixels.txt", unit="nm", medium="vacuum"
    )
    np.testing.assert_allclose(model.own_grid.vacuum, WAVELENGTH)
    made = model.generate(table(drawn(9)))
    np.testing.assert_allclose(made.flux[:, ::-1], formula(arrays, leaky, drawn(9)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("labels", [4, 5])
def test_yst(tmp_path: Path, labels: int) -> None:
    arrays = layers(labels, 6, 6, 11)
    low, high = np.append(LOW, 0.1)[:labels], np.append(HIGH, 3)[:labels]
    with h5py.File(tmp_path / "yst.h5", "w") as file:
        for name, values in {
            **arrays, "x_min": low, "x_max": high, "wavelength": WAVELENGTH, "resolution": [1e5],
        }.items():  # fmt: skip
            file[name] = values
    model = adopt(tmp_path / "yst.h5", medium="vacuum")
    names = ("teff", "logg", "fe_h", "alpha_fe", "vmic")[:labels]
    assert model.labels.names == names
    assert model.labels["teff"].high == 7000
    values = drawn(9, low, high)
    made = model.generate(table(values, names))
    np.testing.assert_allclose(made.flux, formula(arrays, leaky, values, low, high), rtol=1e-5, atol=1e-5)


def test_smlp(tmp_path: Path) -> None:
    arrays = layers(5, 6, 7, 8, 11)
    low, high = np.array([3.5, 0, -2, -0.2, 0.5]), np.array([3.9, 5, 0.5, 0.6, 3])
    with h5py.File(tmp_path / "smlp.h5", "w") as file:
        for k in range(4):
            file.create_dataset(
                f"model/features.{2 * k}.weight", data=arrays[f"w_array_{k}"], compression="gzip"
            )
            file[f"model/features.{2 * k}.bias"] = arrays[f"b_array_{k}"]
        file["xmin"], file["xmax"], file["ymin"], file["ymax"] = low, high, [0.0], [1.0]
        file["label_i"] = np.array([b"logt", b"logg", b"feh", b"afe", b"vturb"])
        file["wavelengths"], file["resolution"] = WAVELENGTH, np.array(42_000)
    model = adopt(tmp_path / "smlp.h5", medium="air")
    assert model.labels.names == ("teff", "logg", "fe_h", "alpha_fe", "vmic")
    assert model.labels["teff"].scale == "log10"
    values = drawn(9, low, high)
    columns = dict(zip(model.labels.names, values.T, strict=True))
    made = model.generate({**columns, "teff": 10 ** values[:, 0]})
    np.testing.assert_allclose(made.flux, formula(arrays, leaky, values, low, high), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ and back again


def test_there_and_back_is_bit_equal(tmp_path: Path) -> None:
    one_payne(tmp_path / "first.npz", (8, 12, 16), x_min=LOW + np.pi / 10, x_max=HIGH + np.e / 7)
    first = adopt(tmp_path / "first.npz", medium="air")
    first.export(tmp_path / "second.npz", medium="air")
    second = adopt(tmp_path / "second.npz")  # the file says the medium itself
    assert second.labels.names == first.labels.names
    values = table(drawn(50))
    assert np.array_equal(first.generate(values).flux, second.generate(values).flux)
    assert second.own_grid.matches(first.own_grid)


def test_exports_what_it_has_trained(tmp_path: Path) -> None:
    model = Emulator(hidden=(16, 16, 16), output="bounded").fit(
        made_spectra(200), train=TrainConfig(epochs=3, progress="none", threads=1)
    )
    model.export(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert {"hidden_neurons", "model_architecture", "data_file_path", "total_steps"} <= set(arrays)
    assert list(arrays["label_names"]) == ["teff", "logg", "feh"]
    assert str(arrays["model_architecture"]) == "Linear-SiLU-Linear-SiLU-Linear-SiLU-Linear-Sigmoid"
    assert arrays["x_max"][0] == model.labels["teff"].high / 1000
    np.testing.assert_allclose(arrays["wavelength"], model.own_grid.air)
    test = made_spectra(20, seed=5)
    values = np.stack([test.table["teff"] / 1000, test.table["logg"], test.table["fe_h"]], axis=1)
    said = sigmoid(formula(arrays, silu, values, arrays["x_min"], arrays["x_max"]))
    np.testing.assert_allclose(said, model.generate(test.table).flux, atol=1e-6)


def test_says_what_one_payne_cannot_hold(tmp_path: Path) -> None:
    labels = LabelSet([Label("teff", low=4000, high=7000, scale="log10")])
    network = EmulatorNetwork(1, 11, (4, 4), "leaky_relu")
    model = Emulator.from_network(network, Grid.from_wavelength(WAVELENGTH, medium="vacuum"), labels)
    with pytest.raises(DraperError, match=r"leaky_relu(.|\n)*linear(.|\n)*log10(.|\n)*bounded"):
        model.export(tmp_path / "net.npz")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------- hostile files


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"w_array_1": np.ones((16, 15), np.float32)}, "do not fit onto each other"),
        ({"b_array_3": np.ones(10, np.float32)}, "do not fit onto each other"),
        ({"b_array_1": None}, "holds no 'b_array_1'"),
        ({"x_min": LOW[:3], "x_max": HIGH[:3]}, "do not fit"),
        ({"x_min": HIGH, "x_max": LOW}, "not the ranges"),
        ({"x_min": np.array(["a"] * 4)}, "not an array of numbers"),
        ({"w_array_2": np.full((16, 16), np.nan, np.float32)}, "not finite"),
        ({"w_array_2": np.full((16, 16), 1e300)}, "too large"),
        ({"wavelength": WAVELENGTH[:-1]}, "differ in length"),
        ({"wavelength": -WAVELENGTH}, "positive"),
        ({"label_names": np.array(["teff"] * 4)}, "same name"),
        ({"label_names": np.array(["teff", "logg"])}, "not as many names"),
        ({"medium": np.array("water")}, "unknown medium"),
        ({"label_names": np.array(["logt", "logg", "feh", "x"]), "x_max": HIGH + 1e4}, "not the logarithm"),
    ],
    ids=lambda one: str(list(one)) if isinstance(one, dict) else "",
)
def test_refuses_wrong_arrays(tmp_path: Path, changes: dict, words: str) -> None:
    one_payne(tmp_path / "net.npz", **changes)
    with pytest.raises(DraperError, match=words):
        adopt(tmp_path / "net.npz", medium=None if "medium" in changes else "vacuum")


def test_never_unpickles(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    one_payne(tmp_path / "net.npz", x_min=np.array([Trap()] * 4, dtype=object))
    with pytest.raises(DraperError, match="pickle"):
        adopt(tmp_path / "net.npz", medium="vacuum")
    (tmp_path / "net.pt").write_bytes(b"\x80\x02}q\x00." + bytes(100))
    with pytest.raises(DraperError, match="pickle"):
        adopt(tmp_path / "net.pt")
    assert not (tmp_path / "sprung").exists()


def test_refuses_files_that_would_fill_the_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("w_array_0", (10**7, 10**6), "f4", chunks=(100, 100))
    with pytest.raises(DraperError, match="so small a file"):
        adopt(tmp_path / "large.h5", format="yst")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w_array_0.npy", bytes(10**8))
    with pytest.raises(DraperError, match="so small a file"):
        adopt(tmp_path / "bomb.npz")


def test_follows_no_link_out_of_the_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["w_array_0"] = np.ones((3, 3))
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["w_array_0"] = h5py.ExternalLink("secret.h5", "w_array_0")
    with pytest.raises(DraperError, match="no 'w_array_0'"):
        adopt(tmp_path / "link.h5", format="yst")
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file.create_dataset("w_array_0", (2, 2), "f8", external=[(str(tmp_path / "secret.h5"), 0, 32)])
    with pytest.raises(DraperError, match="in another file"):
        adopt(tmp_path / "part.h5", format="yst")


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_damaged_files_end_in_one_kind_of_error(tmp_path: Path, kind: str) -> None:
    arrays = one_payne(tmp_path / "net.npz")
    with h5py.File(tmp_path / "net.h5", "w") as file:
        for name in ("w_array_0", "b_array_0", "w_array_1", "b_array_1", "x_min", "x_max", "wavelength"):
            file[name] = arrays[name]
        file["label_names"] = list(NAMES)
    whole = (tmp_path / f"net.{kind}").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged"
    for number in range(120):
        if number % 3 == 0:
            content = whole[: rng.integers(len(whole))]
        elif number % 3 == 1:
            changed = np.frombuffer(whole, np.uint8).copy()
            # Half of the damage goes where headers are.
            places = rng.integers(len(whole) if number % 2 else 400, size=8)
            changed[places] = rng.integers(256, size=8)
            content = changed.tobytes()
        else:
            content = whole[:8] + rng.bytes(600)
        path.write_bytes(content)
        with suppress(DraperError):
            adopt(path, medium="vacuum", labels=NAMES, wavelength=WAVELENGTH)


# ------------------------------------------------------------------ command line


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_payne(tmp_path / "net.npz")
    command = ["import", str(tmp_path / "net.npz"), "-o"]
    assert main([*command, str(tmp_path / "none")]) == 2
    assert "--medium air|vacuum" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert main([*command, str(tmp_path / "model"), "--medium", "air", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["labels"]["teff"] == [4000, 7000]
    assert said["pixels"] == 11
    assert main([*command, str(tmp_path / "model"), "--medium", "air"]) == 2
    assert "model" in capsys.readouterr().err
    assert main(["show", str(tmp_path / "model")]) == 0
    assert "imported from net.npz" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "model"), "-o", str(tmp_path / "back.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["medium"] == "air"
    back, there = adopt(tmp_path / "back.npz"), load(tmp_path / "model")
    assert np.array_equal(back.generate(table(drawn(4))).flux, there.generate(table(drawn(4))).flux)
    assert main(["export", str(tmp_path / "model"), "-o", str(tmp_path / "back.h5")]) == 2
    assert "FILE.npz" in capsys.readouterr().err


def test_command_line_names_labels_and_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "payne.npz", **layers(4, 6, 6, 11), x_min=LOW, x_max=HIGH)
    command = ["import", str(tmp_path / "payne.npz"), "-o", str(tmp_path / "model"), "--medium", "vacuum"]
    assert main([*command, "--labels", "teff,logg", "feh", "vmic", "--wavelength", "5000,5010,11"]) == 0
    assert "1 to 5 dex" in capsys.readouterr().out
    np.testing.assert_allclose(load(tmp_path / "model").own_grid.vacuum, WAVELENGTH)
    assert main([*command, "--labels", ",".join(NAMES), "--wavelength", "5000,5010,-1"]) == 2
    assert "LOW,HIGH,NUMBER" in capsys.readouterr().err
    assert main([*command, "--labels", ",".join(NAMES), "--wavelength", "nowhere.txt"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main([*command, "--format", "binspek"]) == 2
    assert "did you mean 'binspec'" in capsys.readouterr().err


def test_formats_are_described() -> None:
    assert set(formats()) == {"binspec", "yst", "smlp", "one-payne", "the-payne"}
