"""Learning rates over a run."""

from itertools import pairwise

import pytest

from draper.configs.train import TrainConfig
from draper.train.schedule import rate_factor


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_warms_up_and_falls(schedule: str) -> None:
    config = TrainConfig(schedule=schedule, warmup=10, final_rate=0.1)
    factors = [rate_factor(step, 200, config) for step in range(200)]
    assert factors[:10] == [(step + 1) / 10 for step in range(10)]
    assert max(factors) == 1.0
    if schedule == "constant":
        assert set(factors[10:]) == {1.0}
    else:
        assert all(a >= b for a, b in pairwise(factors[10:]))
        assert factors[-1] == pytest.approx(0.1, abs=0.01)


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert rate_factor(50, 100, TrainConfig(final_rate=0)) == pytest.approx(0.5)
