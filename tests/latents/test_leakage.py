"""The leakage report counts the probes that are trained, so that its progress ends at all of them."""

import numpy as np
import pytest

from draper.latents.baselines import measure_baselines
from draper.latents.leakage import measure_leakage


@pytest.mark.parametrize("roles", [("a", "b"), ("ab", ""), ("", "ab")], ids=["both", "removed", "kept"])
@pytest.mark.parametrize("are_known", [False, True], ids=["spectra", "baselines"])
def test_progress_counts_every_probe(roles: tuple[str, str], are_known: bool) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(200, 4))
    labels = [{"a": part[:, 0], "b": part[:, 1]} for part in (x[:120], x[120:])]
    options = {
        "removed": list(roles[0]),
        "kept": list(roles[1]),
        "probes": ["ridge", "boosting"],
        "seeds": [0],
    }
    spectra = {"spectra_train": x[:120], "spectra_test": x[120:]}
    baselines = measure_baselines(*labels, x[:120], x[120:], **options) if are_known else None
    calls: list[tuple[int, int]] = []
    measure_leakage(
        x[:120, :2], x[120:, :2], *labels, **options, **({} if are_known else spectra),
        baselines=baselines, progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    total = calls[0][1]
    assert calls == [(done, total) for done in range(1, total + 1)]
