"""Lines that a list lacks: found, attributed and measured where the truth is known."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

import draper
from draper.data.grid import Grid
from draper.data.labels import Label, LabelSet
from draper.data.lines import Lines
from draper.errors import DraperError
from draper.infer.forward import ForwardModel
from draper.models.translator.line_mask import mask_lines, runs
from draper.models.translator.line_scores import (
    average_precision,
    element_attribution,
    false_discovery_rate,
    feature_precision,
)
from draper.models.translator.line_strength import line_changes
from draper.models.translator.lines import chance, new_lines
from draper.models.translator.responses import element_directions, element_labels, responses, stars_of
from draper.plots.missing_lines import plot_missing_lines

ELEMENTS = ("Fe", "Mg", "C", "N")
GRID = Grid.linear(5000, 5100, 0.05, medium="vacuum")
LABELS = LabelSet(
    [
        Label("teff", low=4000, high=6000),
        Label("fe_h", low=-1, high=0.5),
        *(Label(f"{name}_fe", low=-0.5, high=0.5) for name in ("mg", "c", "n")),
    ]
)
RANDOM = np.random.default_rng(0)
WAVES = np.linspace(5002, 5098, 49) + RANDOM.uniform(-0.4, 0.4, 49)
OWNERS = RANDOM.choice(3, 49, p=[0.6, 0.2, 0.2])  # Fe, Mg, CN
STRENGTH = RANDOM.uniform(-1.5, -0.5, 49)
POWERS = np.array([[0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 2, 0, 1, 1]], dtype=np.float32)[OWNERS]
STARS = np.column_stack(
    [RANDOM.uniform(4300, 5700, 12), RANDOM.uniform(-0.5, 0.2, 12), RANDOM.uniform(-0.2, 0.3, (12, 3))]
)


def lines_with(log_gf: np.ndarray, noise: float = 0.0, seed: int = 0) -> ForwardModel:
    """Return spectra of these lines, with errors of their responses [1 / dex] that all stars share."""
    profiles = torch.tensor(np.exp(-0.5 * ((GRID.vacuum - WAVES[:, None]) / 0.1) ** 2)).float()
    error = gaussian_filter1d(np.random.default_rng(seed).normal(size=(5, len(GRID))), 1.0, axis=1)
    error = torch.tensor(noise * error / error.std()).float()
    gf, powers = torch.tensor(log_gf).float(), torch.from_numpy(POWERS)
    scale, middle = torch.tensor([1000.0, 1, 1, 1, 1]), torch.tensor([5000.0, 0, 0, 0, 0])

    def flux(x: torch.Tensor) -> torch.Tensor:
        depth = 10 ** (gf + x @ powers.T - (x[:, :1] - 5000) / 3000)
        return torch.exp(-depth @ profiles) + (x - middle) / scale @ error

    return ForwardModel.from_function(flux, GRID, LABELS)


@pytest.fixture(scope="module")
def rvs() -> ForwardModel:
    emulator = draper.load("builtin:rvs-emulator")
    return ForwardModel(emulator.network, emulator.own_grid, emulator.labels)


def test_elements_are_those_of_labels() -> None:
    labels = LabelSet([Label(name) for name in ("teff", "mg_h", "fe_h", "alpha_fe", "c12_c13", "vmic")])
    assert element_labels(labels) == {"Mg": "mg_h", "Fe": "fe_h", "alpha": "alpha_fe"}
    with pytest.raises(DraperError, match="no label is an abundance"):
        element_labels(LabelSet([Label("teff", low=4000, high=5000)]))


def test_iron_alone_grows_while_other_elements_stay() -> None:
    assert element_directions(LabelSet([Label("fe_h"), Label("mg_fe")])).tolist() == [[1, -1], [0, 1]]
    assert element_directions(LabelSet([Label("fe_h"), Label("mg_h")])).tolist() == [[1, 0], [0, 1]]


def test_responses_are_those_of_small_steps() -> None:
    model = lines_with(STRENGTH)
    step = 0.01 * element_directions(LABELS)
    x = torch.from_numpy((LABELS.scale(STARS[:1] + np.concatenate([step, -step])) - 0.5).astype(np.float32))
    high, low = model.function(x).numpy().reshape(2, 4, -1)
    slopes = responses(model, STARS[:1]).slopes[0].T
    np.testing.assert_allclose(slopes, (high - low) / 0.02, atol=2e-4)
    pixel = int(np.argmin(np.abs(GRID.vacuum - WAVES[OWNERS == 1][0])))
    assert np.abs(slopes[1, pixel]) > 10 * np.abs(slopes[0, pixel])


def test_masks_follow_the_recipe(rvs: ForwardModel) -> None:
    mask = mask_lines(rvs, seed=1)
    assert all(masked == (of // 3 if of >= 3 else 0) for masked, of in mask.counts().values())
    assert (mask.depth > 0.005).all()
    changes = [mask.change[mask.elements.index(name)] for name in mask.element]
    for change, first, last in zip(changes, mask.first, mask.last, strict=True):
        assert (change[first : last + 1] < -0.001).all()
        assert not (change[[max(first - 1, 0), min(last + 1, len(change) - 1)]] < -0.001).any() or first == 0
    assert mask_lines(rvs, 0.0).masked.sum() == 0
    assert mask_lines(rvs, 1.0, least=1).masked.all()
    assert mask_lines(rvs, 0.05, total=True).masked.sum() == int(0.05 * len(mask))
    assert (mask_lines(rvs, seed=2).masked != mask.masked).any()


def test_masked_pixels_are_1_in_spectra_and_functions(rvs: ForwardModel) -> None:
    mask = mask_lines(rvs)
    masked = mask.forward_model(rvs).function
    x = rvs.function.points[:3]
    flux, slopes = masked.jacobian(x)
    whole, whole_slopes = rvs.function.jacobian(x)
    pixels = torch.from_numpy(mask.pixels)
    assert (flux[:, pixels] == 1).all()
    assert (slopes[:, pixels] == 0).all()
    assert torch.equal(flux[:, ~pixels], whole[:, ~pixels])
    assert torch.equal(slopes[:, ~pixels], whole_slopes[:, ~pixels])
    assert torch.equal(masked(x), flux)
    spectra = draper.Spectra(mask.grid, whole.detach().numpy())
    np.testing.assert_array_equal(mask.apply(spectra).flux, flux.detach().numpy())


@pytest.mark.parametrize("fraction", [0.05, 0.5])
def test_masked_lines_are_found_with_their_elements(rvs: ForwardModel, fraction: float) -> None:
    mask = mask_lines(rvs, fraction, seed=3)
    candidates = new_lines(mask.forward_model(rvs), rvs, 12, q=1.0)
    found = candidates[candidates.q_value <= 0.05]
    assert feature_precision(candidates, mask) > 0.95
    assert average_precision(candidates.statistic, mask.pixels) > 0.95
    assert element_attribution(found, mask) > 0.8  # of 18 features with 5 %, three are blends
    assert false_discovery_rate(found, mask) < 0.05


def test_lines_are_found_above_noise_and_molecules_are_blends() -> None:
    gone = np.zeros(49, dtype=bool)
    gone[3::6] = True
    synthetic = lines_with(np.where(gone, -20, STRENGTH))
    known = Lines(np.array(["Fe I", "Mg I", "CN"])[OWNERS], WAVES, STRENGTH)
    found = new_lines(synthetic, lines_with(STRENGTH, 3e-3), STARS, lines=known)
    is_true = np.abs(found.wavelength[:, None] - WAVES[gone]).min(axis=1) < 0.06
    assert np.count_nonzero(~is_true) <= 2
    assert found.height[is_true].min() > 2 * found.height[~is_true].max(initial=0)
    found = found[is_true]
    np.testing.assert_allclose(found.wavelength, WAVES[gone], atol=0.06)
    np.testing.assert_allclose(found.known_wavelength, WAVES[gone])
    for owner, element, second, blended, share in zip(
        OWNERS[gone], found.element, found.runner_up, found.blended, found.share, strict=True
    ):
        if owner == 2:
            assert blended
            assert {element, second} == {"C", "N"}
            assert share[2:].min() > 0.35
        else:
            assert element == ELEMENTS[owner]
            assert not blended
            assert share.max() > 0.9


def test_nothing_is_found_where_nothing_is_missing() -> None:
    false = [len(new_lines(lines_with(STRENGTH), lines_with(STRENGTH, 3e-3, n), STARS)) for n in range(8)]
    assert np.count_nonzero(false) <= 2
    pair = lines_with(STRENGTH), lines_with(STRENGTH, 3e-3, 100)
    for null in (pair, lines_with(STRENGTH, 3e-3, 101)):
        assert len(new_lines(lines_with(STRENGTH), lines_with(STRENGTH, 3e-3, 102), STARS, null=null)) == 0


def test_a_null_with_larger_errors_hides_lines() -> None:
    gone = np.arange(49) % 6 == 3
    synthetic, observed = lines_with(np.where(gone, -20, STRENGTH)), lines_with(STRENGTH, 3e-3)
    honest = new_lines(synthetic, observed, STARS, null=lines_with(STRENGTH, 3e-3, 7))
    assert len(honest) == gone.sum()
    assert len(new_lines(synthetic, observed, STARS, null=lines_with(STRENGTH, 1.0, 7))) == 0


def test_changes_of_gf_are_measured() -> None:
    change = np.zeros(49)
    change[::5], change[2::10] = 0.4, -0.3
    gone = np.arange(49) == 20
    synthetic = lines_with(np.where(gone, -20, STRENGTH))
    known = Lines(np.array(["Fe I", "Mg I", "C I"])[OWNERS], WAVES, STRENGTH)
    result = line_changes(synthetic, lines_with(STRENGTH + change, 1e-3), known, STARS)
    index = np.searchsorted(WAVES, result.wavelength - 1e-6)
    truth, atomic = change[index], OWNERS[index] < 2
    assert (result.status[gone[index]] == "missing").all()
    right = np.where(truth == 0, "unchanged", "changed")
    kept = atomic & ~gone[index]
    assert (result.status == right)[kept].mean() > 0.9
    assert np.median(np.abs(result.log_gf_change - truth)[kept]) < 0.02
    pulls = (result.log_gf_change - truth)[kept] / result.error[kept]
    assert np.median(np.abs(pulls)) < 1.5


def test_changes_of_saturated_lines_have_the_right_sign() -> None:
    """Depths of strong lines hardly respond to abundance, and less so the stronger they are."""
    change = np.where(np.arange(49) % 2 == 0, 0.2, -0.2)
    strong = lines_with(STRENGTH + 1.6)
    known = Lines(np.array(["Fe I", "Mg I", "C I"])[OWNERS], WAVES, STRENGTH + 1.6)
    result = line_changes(strong, lines_with(STRENGTH + 1.6 + change, 1e-3), known, STARS)
    index = np.searchsorted(WAVES, result.wavelength - 1e-6)
    atomic = OWNERS[index] < 2
    assert np.median(np.abs(result.log_gf_change - change[index])[atomic]) < 0.05
    assert (np.sign(result.log_gf_change) == np.sign(change[index]))[atomic].mean() > 0.9


def test_tables_are_written_and_drawn(tmp_path) -> None:
    gone = np.arange(49) % 6 == 3
    found = new_lines(lines_with(np.where(gone, -20, STRENGTH)), lines_with(STRENGTH), STARS)
    rows = found.write(tmp_path / "lines.csv").read_text().splitlines()
    assert len(rows) == 1 + len(found)
    assert rows[0].startswith("wavelength,centroid,low,high,first,last,element,probability")
    assert len(plot_missing_lines(found).axes) > 2
    assert len(found[:2]) == 2
    assert repr(found[:0]) == "LineTable(0 features)"
    assert found[:0].to_table()["element"].size == 0
    known = Lines(np.array(["Fe I", "Mg I", "C I"])[OWNERS], WAVES, STRENGTH)
    changes = line_changes(lines_with(STRENGTH), lines_with(STRENGTH + 0.3), known, STARS)
    path = changes.write(tmp_path / "changes.csv")
    assert len(path.read_text().splitlines()) == 1 + np.count_nonzero(changes.status != "unchanged")


def test_scores_by_hand(rvs: ForwardModel) -> None:
    mask = mask_lines(rvs, 0.2)
    found = new_lines(mask.forward_model(rvs), rvs, 4)
    assert np.isnan(average_precision([1.0, 2.0], [False, False]))
    assert false_discovery_rate(found[:0], mask) == 0
    assert np.isnan(element_attribution(found[:0], mask))
    assert runs(np.array([True, False, True, True])) == [(0, 0), (2, 3)]
    empty = mask_lines(rvs, 0.0)
    assert false_discovery_rate(found, empty) == 1
    assert np.isnan(feature_precision(found, empty))


def test_too_few_decoys_are_gaussian() -> None:
    assert chance(np.array([0.0, 5.0]), np.zeros(0), 1) == pytest.approx([0.5, 2.87e-7], rel=0.01)


def test_what_cannot_be_compared_is_refused(rvs: ForwardModel) -> None:
    model = lines_with(STRENGTH)
    with pytest.raises(DraperError, match="different grids"):
        new_lines(model, ForwardModel(model.function, GRID[:-1], LABELS), STARS)
    with pytest.raises(DraperError, match="different labels"):
        new_lines(model, ForwardModel(model.function, GRID, LABELS[:-1]), STARS[:, :-1])
    with pytest.raises(DraperError, match="typical stars"):
        new_lines(model, model)
    with pytest.raises(DraperError, match="one star"):
        stars_of(model, STARS[:1])
    with pytest.raises(DraperError, match="wrong shape"):
        stars_of(model, STARS[:, :2])
    with pytest.raises(DraperError, match="false discovery rate"):
        new_lines(model, model, STARS, q=0.0)
    with pytest.raises(DraperError, match="fraction"):
        mask_lines(rvs, 1.5)
    with pytest.raises(DraperError, match="no such label"):
        mask_lines(rvs, reference={"tef": 5000.0})
    with pytest.raises(DraperError, match="no line of these elements"):
        line_changes(model, model, Lines(np.array(["Fe I"]), np.array([6000.0]), np.zeros(1)), STARS)
