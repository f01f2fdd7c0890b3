"""Probes and the leakage report against made latents whose truth is known."""

import csv
import json

import numpy as np
import pytest

from draper.errors import DraperError
from draper.latents.baselines import measure_baselines
from draper.latents.figures import figures
from draper.latents.leakage import Leakage, measure_leakage
from draper.latents.probes import PROBES, mutual_information, probe, probe_r2, r_squared

N, LEARNT = 3000, 2000
SPLIT = slice(LEARNT), slice(LEARNT, N)


def noise(columns: int = 1, seed: int = 0, rows: int = N) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def read(kind: str, x: np.ndarray, y: np.ndarray) -> float:
    return float(probe_r2(kind, x[:LEARNT], y[:LEARNT], x[LEARNT:], y[LEARNT:])[0])


def report(
    z: np.ndarray, labels: dict[str, np.ndarray], spectra: np.ndarray | None = None, **options
) -> Leakage:
    """Measure what latents tell, with spectra that tell all labels unless given."""
    spectra = np.column_stack(list(labels.values())) if spectra is None else spectra
    parts = [{name: values[part] for name, values in labels.items()} for part in SPLIT]
    options = {"probes": ("ridge",), "seeds": (0,), **options}
    if "baselines" not in options:
        options |= {"spectra_train": spectra[:LEARNT], "spectra_test": spectra[LEARNT:]}
    return measure_leakage(z[:LEARNT], z[LEARNT:], *parts, **options)


# ------------------------------------------------------------------ probes


@pytest.mark.parametrize("kind", PROBES)
def test_nothing_is_read_from_noise(kind: str) -> None:
    assert -0.06 < read(kind, noise(5, 1), noise(1, 2)) < 0.01


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("variance", [0.25, 1.0])
def test_noise_of_known_variance(kind: str, variance: float) -> None:
    """z = y + noise: 1 - R2 = s2 / (1 + s2), the variance of y given z."""
    y = noise(1, 3)
    z = np.column_stack([noise(2, 4), y + variance**0.5 * noise(1, 5)])
    assert read(kind, z, y) == pytest.approx(1 / (1 + variance), abs=0.04)


@pytest.mark.parametrize("kind", PROBES)
def test_small_amplitudes_hide_nothing(kind: str) -> None:
    y = noise(1, 6)
    z = np.column_stack([50 * noise(3, 7), 7 + 1e-6 * y])
    assert read(kind, z, y) > 0.98


def test_what_no_line_can_tell_others_do() -> None:
    y, sign = noise(1, 8), np.sign(noise(1, 9))
    z = np.column_stack([sign, sign * y, noise(2, 10)])
    assert read("ridge", z, y) < 0.02
    assert read("boosting", z, y) > 0.95
    assert read("mlp", z, y) > 0.95


def test_probe_skips_missing_labels_and_constant_inputs() -> None:
    y = np.column_stack([noise(1, 11), noise(1, 12)])
    x = np.column_stack([y, np.ones(N)])
    y[::3, 0], y[:, 1] = np.nan, 5.0
    for kind in PROBES[:2]:
        found = probe_r2(kind, x[:LEARNT], y[:LEARNT], x[LEARNT:], y[LEARNT:])
        assert found[0] > 0.98
        assert np.isnan(found[1]), "a constant cannot be explained"


def test_r_squared_of_draws_is_that_of_repeated_rows() -> None:
    random = np.random.default_rng(0)
    truth, found = random.normal(size=30), random.normal(size=(2, 30))
    truth[4] = np.nan
    counts = random.multinomial(30, np.full(30, 1 / 30), size=5)
    weighted = r_squared(found, truth, counts)
    for row, count in zip(weighted, counts, strict=True):
        np.testing.assert_allclose(row, r_squared(np.repeat(found, count, 1), np.repeat(truth, count)))


def test_mutual_information_of_gaussians() -> None:
    y = noise(1, 13)[:, 0]
    z = y + noise(1, 14)[:, 0]
    assert mutual_information(z, y) == pytest.approx(0.5 * np.log(2), abs=0.06)
    assert mutual_information(noise(1, 15)[:, 0], y) < 0.05


def test_probes_say_what_they_cannot_read() -> None:
    with pytest.raises(DraperError, match="did you mean 'ridge'"):
        probe("rigde", noise(), noise(), noise())  # type: ignore[arg-type]
    with pytest.raises(DraperError, match="too few rows"):
        probe("ridge", noise(), np.full((N, 1), np.nan), noise())
    with pytest.raises(DraperError, match="finite"):
        probe("ridge", np.full((N, 1), np.nan), noise(), noise())


# ------------------------------------------------------------------ the report


def test_independent_latents_leak_nothing() -> None:
    labels = {"teff": noise(1, 20)[:, 0], "fe_h": noise(1, 21)[:, 0]}
    spectra = np.column_stack(list(labels.values())) + 0.3 * noise(2, 22)
    z = np.column_stack([spectra[:, 1], noise(3, 23)])
    found = report(z, labels, spectra, removed=("teff",), kept=("fe_h",), probes=PROBES)
    assert abs(found.own_leak["teff"]) < 0.02
    assert found.summary().startswith("leak of teff below 0.0")
    assert abs(found.conditional_leak["teff"]) < 0.02
    assert found.kept_ratio["fe_h"] == pytest.approx(1, abs=0.02)
    assert 0 < found.error["best_leak"][0] < 0.02
    assert found.value["ratio"].shape == (2, 3)
    assert np.isnan(found.value["kept_ratio"][0])
    assert np.isnan(found.value["best_leak"][1])


def test_what_kept_labels_tell_is_no_leak() -> None:
    """Removed and kept correlate by rho: R2 = rho^2 from the kept one alone, and the leak is 0."""
    rho, kept = 0.7, noise(1, 30)[:, 0]
    removed = rho * kept + (1 - rho**2) ** 0.5 * noise(1, 31)[:, 0]
    labels = {"logg": removed, "fe_h": kept}
    found = report(kept[:, None], labels, removed=("logg",), kept=("fe_h",))
    assert found.value["latents"][0, 0] == pytest.approx(rho**2, abs=0.05)
    assert found.value["floor"][0] == pytest.approx(rho**2, abs=0.05)
    assert abs(found.leak["logg"]) < 5e-3
    assert abs(found.conditional_leak["logg"]) < 0.01
    assert abs(found.information["conditional"][0]) < 0.01
    assert found.value["exact"][0, 0] == pytest.approx(rho**2, abs=0.05)
    # Without the kept labels the same latents leak.
    assert report(kept[:, None], labels, removed=("logg",), kept=()).leak["logg"] > 0.4


def test_conditional_leak_sees_what_latents_add() -> None:
    """z = removed - rho kept tells little alone, and all beside the kept label."""
    rho, kept, own = 0.9, noise(1, 32)[:, 0], noise(1, 33)[:, 0]
    labels = {"logg": rho * kept + (1 - rho**2) ** 0.5 * own, "fe_h": kept}
    found = report(own[:, None], labels, removed=("logg",), kept=("fe_h",))
    assert found.value["exact"][0].max() == pytest.approx(rho**2, abs=0.03), "what the true kept label tells"
    assert found.own_leak["logg"] == pytest.approx(1 - rho**2, abs=0.05), "the latent tells no kept label"
    assert found.leak["logg"] == found.conditional_leak["logg"]
    assert found.conditional_leak["logg"] == pytest.approx(1, abs=0.01)
    assert found.information["conditional"][0] > 2


def test_leak_of_known_size_between_floor_and_ceiling() -> None:
    """R2 is 1/2 from the latents and 4/5 from the spectra: the leak is 5/8; errors are its scatter."""
    leaks, errors = [], []
    for seed in range(6):
        y = noise(1, 100 + seed)[:, 0]
        z, spectra = y + noise(1, 200 + seed)[:, 0], y + 0.5 * noise(1, 300 + seed)[:, 0]
        found = report(z[:, None], {"teff": y}, spectra[:, None], removed=("teff",), kept=())
        leaks.append(found.leak["teff"])
        errors.append(found.error["best_leak"][0])
    assert np.mean(leaks) == pytest.approx(5 / 8, abs=0.02)
    assert 0.4 < np.std(leaks) / np.mean(errors) < 2.5


def test_figures_by_hand() -> None:
    """Two labels, two probes, three seeds."""
    known = np.array([[[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]], np.full((2, 3), np.nan)])
    spectra = np.array([np.full((2, 3), 0.9), [[0.8, 0.8, 0.8], [0.9, 0.9, 0.9]]])
    latents = np.array([[[0.5, 0.55, 0.3], [0.2, 0.2, 0.2]], [[0.4, 0.4, 0.4], [0.45, 0.9, 0.81]]])
    sources = {"latents": latents, "both": latents, "spectra": spectra}
    sources |= dict.fromkeys(("known", "mixed", "exact"), known)
    found = figures(sources, removed=1)
    assert found["floor"][0] == pytest.approx(0.2)
    np.testing.assert_allclose(found["leak"][0], [0.5, 0.0], atol=1e-12)
    assert found["best_leak"][0] == pytest.approx(0.5)
    assert found["kept_ratio"][1] == pytest.approx(0.9), "of the probe that reads spectra best"


def test_what_spectra_do_not_tell_has_no_leak() -> None:
    labels = {"teff": noise(1, 50)[:, 0]}
    found = report(noise(2, 51), labels, noise(3, 52), removed=("teff",), kept=())
    assert np.isnan(found.leak["teff"])
    assert "not measurable" in found.summary()
    assert found.to_json()["labels"]["teff"]["best_leak"]["value"] is None


def test_baselines_are_measured_once() -> None:
    labels = {"teff": noise(1, 60)[:, 0], "fe_h": noise(1, 61)[:, 0]}
    labels["fe_h"][::10] = np.nan
    z, spectra = noise(3, 62), np.column_stack([labels["teff"], np.nan_to_num(labels["fe_h"])])
    names = {"removed": ("teff",), "kept": ("fe_h",)}
    parts = [{name: values[part] for name, values in labels.items()} for part in SPLIT]
    held = measure_baselines(
        *parts, spectra[:LEARNT], spectra[LEARNT:], **names, probes=("ridge",), seeds=(0,), max_rows=900
    )
    assert (len(held.train), len(held.test)) == (900, 900)
    assert np.isfinite(held.learnt).all()
    one = report(z, labels, baselines=held, **names)
    other = report(z, labels, spectra, max_rows=900, **names)
    assert one.to_json() == other.to_json()
    with pytest.raises(DraperError, match="other labels"):
        report(z, labels, baselines=held, removed=("fe_h",), kept=("teff",))


def test_report_is_readable_and_written(tmp_path) -> None:
    labels = {"teff": noise(1, 70)[:, 0], "fe_h": noise(1, 71)[:, 0]}
    z = np.column_stack([labels["fe_h"], noise(1, 72)])
    found = report(z, labels, removed=("teff",), kept=("fe_h",), probes=("ridge", "boosting"), seeds=(0, 1))
    assert "leak of teff" in found.summary()
    assert "kept of fe_h 1.00" in found.summary()
    assert len(repr(found).splitlines()) == 5
    assert "2 latents: R2 on 1,000 held-out" in repr(found)
    held = json.loads(found.write(tmp_path / "leakage.json").read_text())
    assert held == found.to_json()
    assert held["labels"]["fe_h"]["kept_ratio"]["value"] == pytest.approx(found.kept_ratio["fe_h"])
    with found.write(tmp_path / "leakage.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["label"], row["role"]) for row in rows] == [("teff", "removed"), ("fe_h", "kept")]
    assert float(rows[0]["best_leak"]) == found.leak["teff"]
    with pytest.raises(DraperError, match="unknown table format"):
        found.write(tmp_path / "leakage.txt")
    with pytest.raises(DraperError, match="no such label"):
        found["tef"]


def test_report_needs_labels_and_rows() -> None:
    labels = {"teff": noise(1, 80)[:, 0]}
    with pytest.raises(DraperError, match="is missing"):
        report(noise(), labels, removed=("tef",), kept=())
    with pytest.raises(DraperError, match="needs labels"):
        report(noise(), labels, removed=(), kept=())
    with pytest.raises(DraperError, match="too few rows"):
        report(noise(), {"teff": np.full(N, np.nan)}, removed=(), kept=("teff",))
    with pytest.raises(DraperError, match="against spectra"):
        measure_leakage(noise(), noise(), labels, labels, removed=("teff",), kept=())


def test_latents_without_information_hide_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise beside kept labels lowers R2 of a probe, and not the leak of latents with information."""
    monkeypatch.setattr("draper.train.regress.MIN_STEPS", 500)  # as good here as the usual 3000
    removed, kept, pure = noise(1, 80)[:, 0], noise(1, 81)[:, 0], noise(20, 82)
    labels = {"logg": removed + kept, "fe_h": kept}
    spectra = np.column_stack([*labels.values()])
    options = {"removed": ("logg",), "kept": ("fe_h",), "probes": ("mlp", "boosting")}
    nothing = report(np.column_stack([kept, pure]), labels, spectra, **options)
    assert abs(nothing.conditional_leak["logg"]) < 0.05
    leaky = report(
        np.column_stack([kept, pure, removed + 2 * noise(1, 83)[:, 0]]), labels, spectra, **options
    )
    assert leaky.conditional_leak["logg"] == pytest.approx(0.2, abs=0.06)


def test_baselines_of_other_rows_are_refused() -> None:
    labels = {"teff": noise(1, 60)[:, 0], "fe_h": noise(1, 61)[:, 0]}
    halves = [
        {name: column[part] for name, column in labels.items()} for part in (slice(0, 700), slice(700, None))
    ]
    spectra = np.column_stack([*labels.values()])
    given = {"removed": ("teff",), "kept": ("fe_h",), "probes": ("ridge",), "seeds": (0,)}
    held = measure_baselines(*halves, spectra[:700], spectra[700:], **given)
    fewer = [{name: column[:-1] for name, column in part.items()} for part in halves]
    with pytest.raises(DraperError, match="other stars"):
        measure_leakage(spectra[:699], spectra[700:-1], *fewer, baselines=held, **given)
    with pytest.raises(DraperError, match="one probe and one seed"):
        measure_baselines(*halves, spectra[:700], spectra[700:], **{**given, "seeds": ()})


def test_the_floor_has_the_errors_of_the_latents() -> None:
    """A noisy estimate of the kept label tells rho^2 / (1 + sigma^2), not rho^2: the floor is as low."""
    rho, sigma, kept = 0.8, 0.7, noise(1, 90)[:, 0]
    labels = {"logg": rho * kept + (1 - rho**2) ** 0.5 * noise(1, 91)[:, 0], "fe_h": kept}
    names = {"removed": ("logg",), "kept": ("fe_h",)}
    error = sigma * noise(1, 92)[:, 0]
    honest = report((kept + error)[:, None], labels, **names)
    # The probe's estimate is the latent, times 1 / (1 + sigma^2): borrowed errors are that much smaller.
    assert honest.value["floor"][0] < rho**2 - 0.1
    assert abs(honest.own_leak["logg"]) < 0.05
    assert abs(honest.conditional_leak["logg"]) < 0.02
    leaky = report((kept + error + 0.3 * labels["logg"])[:, None], labels, **names)
    assert leaky.leak["logg"] > 0.05


def test_one_set_is_learnt_and_judged_in_halves() -> None:
    rho, kept = 0.7, noise(1, 30)[:, 0]
    labels = {"logg": rho * kept + (1 - rho**2) ** 0.5 * noise(1, 31)[:, 0], "fe_h": kept}
    z, spectra = kept[:, None] + 0.2 * noise(1, 93), np.column_stack([*labels.values()])
    names = {"removed": ("logg",), "kept": ("fe_h",), "probes": ("ridge", "boosting"), "seeds": (0,)}
    found = measure_leakage(
        z, None, labels, None, spectra_train=spectra, parts={"kept": [0]},
        attacks={"its square": (z**2, None)}, snr_train=np.exp(noise(1, 94)[:, 0]), **names,
    )  # fmt: skip
    assert found.crossed
    assert found.rows == (N // 2, N)
    assert abs(found.leak["logg"]) < 0.05
    assert found.kept_ratio["fe_h"] == pytest.approx(1 / 1.04, abs=0.02)
    assert "cross-fitted on" in found.summary()
    assert "to its square: logg" in found.summary()
    assert found["logg"]["attacks"]["its square"]["value"] < 0.2


def test_a_part_of_the_latents_may_tell_more_than_all() -> None:
    labels = {"teff": noise(1, 95)[:, 0]}
    z = np.column_stack([labels["teff"] + 2 * noise(1, 96)[:, 0], noise(60, 97)])
    names = {"removed": ("teff",), "kept": (), "probes": ("boosting",), "seeds": (0,)}
    all_alone = report(z, labels, **names)
    with_part = report(z, labels, parts={"live": [0]}, **names)
    assert with_part.leak["teff"] > all_alone.leak["teff"] + 0.01


def test_all_spectra_of_an_object_are_in_one_half() -> None:
    """Boosted trees learn by heart what noise an object has: its other spectra must not be judged by that."""
    y, names = np.repeat(noise(1, 98, 300)[:, 0], 4), np.repeat(np.arange(300), 4)
    z = np.repeat(noise(3, 99, 300), 4, axis=0)
    given = {
        "removed": ("teff",),
        "kept": (),
        "probes": ("boosting",),
        "seeds": (0,),
        "spectra_train": y[:, None],
    }
    honest = measure_leakage(z, None, {"teff": y}, None, objects=names, **given)
    careless = measure_leakage(z, None, {"teff": y}, None, **given)
    assert honest.leak["teff"] < 0.1
    assert careless.leak["teff"] > 0.5
