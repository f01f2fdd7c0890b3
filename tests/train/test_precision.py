"""The matrix-product mode is chosen by trial and stays inside its context."""

import pytest
import torch

from draper.nn import precision


def test_mode_is_restored_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), precision.matmul_mode("medium"):
        assert torch.get_float32_matmul_precision() == "medium"
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(
    ("error", "gain", "expected"),
    [(3e-7, 1.8, "medium"), (1e-3, 5.0, "highest"), (3e-7, 1.02, "highest")],
)
def test_faster_is_taken_only_if_accurate(monkeypatch, error: float, gain: float, expected: str) -> None:
    monkeypatch.setattr(precision, "trial", lambda: (error, gain))
    precision.fastest_mode.cache_clear()
    assert precision.fastest_mode() == expected
    precision.fastest_mode.cache_clear()


def test_the_trial_measures_float32() -> None:
    threads = torch.get_num_threads()
    error, gain = precision.trial("highest")
    assert 1e-8 < error < precision.ACCURACY
    assert 0.5 < gain < 2
    assert torch.get_num_threads() == threads


def test_one_thread_is_for_the_block_alone() -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError), precision.fit_mode():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before[0])
    assert torch.get_float32_matmul_precision() == before[1]


def test_accelerators_keep_their_mode() -> None:
    assert precision.fastest_mode("cuda") == "highest"
