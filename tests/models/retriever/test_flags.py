"""How well a label is known is said by the place of its samples in the prior."""

import numpy as np

from draper.models.retriever.flags import alone, label_flags, typical
from draper.simulate.planets import LABELS


def test_labels_are_measured_or_limits_or_prior_or_at_the_edge() -> None:
    rng = np.random.default_rng(0)
    kinds = {
        "measured": -4 + 0.3 * rng.normal(size=4000),
        "prior": rng.uniform(-8, -1, 4000),
        "limit": np.where(
            rng.uniform(size=4000) < 0.9, rng.uniform(-8, -5, 4000), -5 + rng.uniform(size=4000)
        ),
        "edge": -1 - 0.2 * np.abs(rng.normal(size=4000)),
    }
    ranges = (np.stack(list(kinds.values()), axis=1) + 8) / 7
    nothing = np.full_like(ranges, np.nan)
    flags = label_flags(*2 * [np.stack([ranges, nothing])])
    assert flags[0].tolist() == list(kinds)
    assert flags.shape == (2, 4)
    assert label_flags(*2 * [ranges[None][:0]]).shape == (0, 4)


def test_what_is_known_beforehand_is_the_prior_and_no_measurement() -> None:
    rng = np.random.default_rng(0)
    gaussian = 0.5 + 0.01 * rng.normal(size=(1, 4000, 1))  # narrow in the range, and nothing but the prior
    assert label_flags(gaussian, rng.uniform(size=(1, 4000, 1)))[0, 0] == "prior"
    assert label_flags(gaussian, np.clip((gaussian - 0.49) / 0.02 / 3, 0, 1))[0, 0] == "measured"


def test_a_typical_sample_is_one_of_the_samples() -> None:
    samples = np.random.default_rng(0).normal(size=(500, 3))
    assert (typical(samples) == samples).all(axis=1).any()
    assert np.abs(typical(samples)).max() < 0.8


def test_planets_with_one_gas_alone() -> None:
    values = np.array([1.0, 1500.0, 1.2, -3.0, -4.0, -5.0, -6.0])
    found = alone(LABELS, values)
    assert list(found) == ["no gas", "H2O", "CO2", "CH4", "CO"]
    for number, (name, planet) in enumerate(found.items()):
        assert np.array_equal(planet[:3], values[:3])
        assert (planet[3:] > -8).sum() == (name != "no gas")
        if number:
            assert planet[2 + number] == values[2 + number]
