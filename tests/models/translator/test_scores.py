"""The scores of translations: against values computed by hand, and against the truth."""

import numpy as np
import pytest

from draper.errors import DraperError
from draper.models.translator.scores import (
    chi2,
    domain_auc,
    excess_chi2,
    latent_scores,
    published_ivar,
    retrieval,
    split_codes,
    x1,
    x2,
)

RANDOM = np.random.default_rng(0)


def test_the_truth_has_a_score_of_1_and_others_exceed_it() -> None:
    truth = RANDOM.normal(1, 0.1, (200, 50))
    ivar = RANDOM.uniform(100, 1e4, truth.shape)
    ivar[RANDOM.random(ivar.shape) < 0.1] = 0
    noise = RANDOM.normal(size=truth.shape) / np.sqrt(np.maximum(ivar, 1))
    observed = np.where(ivar > 0, truth + noise, np.nan)
    assert chi2(truth, observed, ivar) == pytest.approx(1, abs=0.05)
    assert x1(truth, observed, ivar) == pytest.approx((ivar > 0).mean() * chi2(truth, observed, ivar))
    wrong = truth + 2 / np.sqrt(np.maximum(ivar, 1))
    assert excess_chi2(wrong, observed, ivar, truth) == pytest.approx(4, abs=0.2)
    assert excess_chi2(truth, observed, ivar, truth) == 0


def test_x1_and_x2_by_hand() -> None:
    # (2 / 1)^2 + (1 / 0.5)^2 over 4 pixels, of which one is bad and one is perfect.
    observed, ivar = [[3.0, 1.0], [np.inf, 5.0]], [[1.0, 4.0], [0.0, 9.0]]
    assert x1([[1.0, 2.0], [7.0, 5.0]], observed, ivar) == 2.0
    assert chi2([[1.0, 2.0], [7.0, 5.0]], observed, ivar) == pytest.approx(8 / 3)
    assert x2([[1.0, 0.99]], [[1.0, 1.0]]) == pytest.approx(2.0)
    assert np.isnan(chi2([[1.0]], [[1.0]], [[0.0]]))


def test_published_errors_have_a_floor_and_a_limit() -> None:
    errors = np.array([0.001, 0.005, 0.02, 0.049, 0.051])
    used = published_ivar(errors**-2)
    np.testing.assert_allclose(used[:4] ** -0.5, [0.005, 0.005, 0.02, 0.049])
    assert used[4] == 0


def test_latent_scores_by_hand() -> None:
    # The range of the first number is 0 to 10 over all four kinds; the second is the same everywhere.
    z_s, z_o = [[0.0, 3.0], [10.0, 3.0]], [[1.0, 3.0], [6.0, 3.0]]
    z_so, z_os = [[2.0, 3.0], [9.0, 3.0]], [[1.0, 3.0], [2.0, 3.0]]
    scores = latent_scores(z_s, z_o, z_so, z_os, split=[[0.0], [2.0]], split_to_observed=[[1.0], [4.0]])
    assert scores == pytest.approx({"z1": 0.3 / 4, "z2": 0.4 / 4, "z3": 0.5 / 4, "z4": 0.75 / 2})
    constant = np.ones((3, 4, 5))
    assert latent_scores(constant, constant, constant, constant) == {"z1": 0, "z2": 0, "z3": 0}


def test_scores_are_those_of_the_whole_set() -> None:
    """The range is not that of a batch: the order of the stars does not matter."""
    latents = RANDOM.normal(size=(4, 40, 3, 5))
    order = RANDOM.permutation(40)
    assert latent_scores(*latents) == pytest.approx(latent_scores(*latents[:, order]))


@pytest.mark.parametrize("n", [2, 3, 50])
def test_no_star_gets_its_own_split_code(n: int) -> None:
    split = RANDOM.normal(size=(n, 2, 6))
    codes = split_codes(split, seed=n)
    np.testing.assert_array_equal(codes["own"], split)
    assert not (codes["other"] == split).all(axis=(1, 2)).any()
    np.testing.assert_array_equal(np.sort(codes["other"], axis=0), np.sort(split, axis=0))
    np.testing.assert_allclose(codes["mean"], np.tile(split.mean(0), (n, 1, 1)))
    typical = RANDOM.normal(size=(1, 2, 6))
    np.testing.assert_array_equal(split_codes(split, typical)["mean"][-1], typical[0])


def test_retrieval_counts_the_nearest() -> None:
    latents = RANDOM.normal(size=(100, 3, 4))
    assert retrieval(latents, latents + 0.01) == 1.0
    assert retrieval(latents, np.roll(latents, 1, axis=0)) == 0.0
    assert retrieval(latents, RANDOM.normal(size=latents.shape)) < 0.1
    assert retrieval(latents, np.ones_like(latents)) == pytest.approx(0.01)
    assert np.isnan(retrieval(np.zeros((0, 3)), np.zeros((0, 3))))


@pytest.mark.parametrize("kind", ["logistic", "boosting"])
def test_classifier_finds_a_difference_and_none(kind: str) -> None:
    one, other = np.random.default_rng(1).normal(size=(2, 150, 6))
    shifted = other + 2 * np.eye(6)[2]
    assert domain_auc(one, other, kind, folds=3) == pytest.approx(0.5, abs=0.1)
    assert domain_auc(one, shifted, kind, folds=3) > 0.85


def test_only_trees_see_a_difference_in_scatter() -> None:
    one, other = np.random.default_rng(1).normal(size=(2, 200, 2))
    assert domain_auc(one, 4 * other, folds=3) < 0.65
    assert domain_auc(one, 4 * other, "boosting", folds=3) > 0.8
    with pytest.raises(DraperError, match="too few rows"):
        domain_auc(one[:2], other)
