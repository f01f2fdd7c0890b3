"""Estimates: one set of accessors for Gaussians, quantiles and samples; tables and files that keep them."""

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as parquet
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import ndtri

from draper import Estimates, Label, LabelSet
from draper.errors import DraperError
from draper.results.estimates import AXES, ONE_SIGMA, interpolated

LABELS = LabelSet([Label("teff", low=3000, high=8000), Label("vsini", low=0, high=100)])
RNG = np.random.default_rng(3)
N, DRAWS = 4, 2000
LEVELS = (0.025, 0.16, 0.5, 0.84, 0.975)
COMMON = {
    "flags": {"outside": np.array([False, True, False, False])},
    "columns": {"chi2": np.arange(N) / 2, "note": np.array(["a", "é", "", "d"])},
}


def drawn() -> np.ndarray:
    """Return draws (n, draws, l) that are correlated and skewed; the last spectrum has no data."""
    base = RNG.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=(N, DRAWS))
    samples = np.stack([5800 + 80 * base[..., 0], np.exp(1.5 + 0.6 * base[..., 1])], axis=-1)
    samples[-1] = np.nan
    return samples


@pytest.fixture
def ids() -> np.ndarray:
    return np.array(["a", "b", "c", "d"])


@pytest.fixture
def samples(ids) -> Estimates:
    evidence = {"log_evidence": np.arange(N) - 10.0, "log_evidence_err": np.full(N, 0.1)}
    flags = np.array([["measured", "limit"], ["edge", "prior"], ["measured", "measured"], ["prior", "prior"]])
    return Estimates.from_samples(LABELS, drawn(), ids, label_flags=flags, **evidence, **COMMON)


@pytest.fixture
def quantiles(samples) -> Estimates:
    values = np.stack([samples.quantile(q) for q in LEVELS], axis=1)
    return Estimates.from_quantiles(LABELS, LEVELS, values, samples.ids, **COMMON)


@pytest.fixture
def gaussian(samples) -> Estimates:
    return Estimates(
        LABELS, samples.median, samples.sigma, samples.ids, covariance=samples.covariance, **COMMON
    )


@pytest.fixture(params=["samples", "quantiles", "gaussian"])
def estimates(request) -> Estimates:
    return request.getfixturevalue(request.param)


def assert_same(found: Estimates, expected: Estimates) -> None:
    assert found.labels == expected.labels
    for name in ("ids", *AXES):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    for name in ("flags", "columns"):
        assert list(getattr(found, name)) == list(getattr(expected, name))
        for key, values in getattr(expected, name).items():
            np.testing.assert_array_equal(getattr(found, name)[key], values)


# ---------------------------------------------------------------------- accessors


def test_all_kinds_have_the_same_accessors(estimates: Estimates) -> None:
    np.testing.assert_array_equal(estimates["teff"], estimates.median[:, 0])
    assert estimates.flags["no_data"].tolist() == [False, False, False, True]
    np.testing.assert_allclose(estimates["teff"][:3], 5800, atol=8)
    np.testing.assert_allclose(estimates.sigma[:3, 0], 80, rtol=0.06)
    low, high = estimates.interval(0.68)
    assert low.shape == high.shape == (N, 2)
    assert np.all(low[:3] < estimates.median[:3])
    assert np.all(high[:3] > estimates.median[:3])
    assert np.isnan(low[3]).all()
    ordered = np.stack([estimates.quantile(q) for q in (0.001, 0.01, 0.3, 0.5, 0.7, 0.99, 0.999)])
    assert np.all(np.diff(ordered[:, :3], axis=0) > 0)


def test_samples_and_quantiles_keep_the_skew(samples, quantiles, gaussian) -> None:
    true = np.exp(1.5 + 0.6 * np.array([-1, 0, 1]))
    for estimates in (samples, quantiles):
        ends = np.stack([estimates.quantile(q)[:3, 1] for q in (ONE_SIGMA[0], 0.5, ONE_SIGMA[1])], axis=1)
        np.testing.assert_allclose(ends, np.tile(true, (3, 1)), rtol=0.08)
    assert gaussian.interval(0.95)[0][0, 1] < 0 < quantiles.interval(0.95)[0][0, 1]
    assert [one.kind for one in (samples, quantiles, gaussian)] == ["samples", "quantiles", "Gaussian"]


def test_the_covariance_of_samples(samples: Estimates) -> None:
    expected = np.cov(samples.samples[0].T)
    np.testing.assert_allclose(samples.covariance[0], expected)
    assert np.isnan(samples.covariance[3]).all()
    given = Estimates.from_samples(LABELS, samples.samples, samples.ids, covariance=samples.covariance * 2)
    np.testing.assert_array_equal(given.covariance, samples.covariance * 2)


@given(
    mean=st.floats(-100, 100),
    sigma=st.floats(0.01, 100),
    q=st.floats(0.001, 0.999),
    levels=st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6, unique=True).map(sorted),
)
def test_quantiles_of_a_gaussian_are_interpolated_exactly(mean, sigma, q, levels) -> None:
    levels = np.array(levels)
    if np.diff(levels).min() < 1e-3:
        levels = levels[[0, -1]] if levels[-1] - levels[0] > 1e-3 else np.array([0.2, 0.8])
    values = (mean + sigma * ndtri(levels))[None, :, None]
    expected = mean + sigma * ndtri(q)
    assert interpolated(levels, values, q)[0, 0] == pytest.approx(expected, rel=1e-6, abs=1e-6 * sigma + 1e-6)


@given(
    values=hnp.arrays(float, 5, elements=st.floats(-1e6, 1e6)).map(np.sort),
    pair=st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)).map(sorted),
)
def test_interpolation_never_decreases_and_meets_what_is_given(values, pair) -> None:
    low, high = (interpolated(np.array(LEVELS), values[None, :, None], q)[0, 0] for q in pair)
    assert low <= high + 1e-6
    exact = [interpolated(np.array(LEVELS), values[None, :, None], q)[0, 0] for q in LEVELS]
    assert exact == pytest.approx(values.tolist())


def test_flags_of_single_labels(samples: Estimates) -> None:
    assert samples.label_flags[:2].tolist() == [["measured", "limit"], ["edge", "prior"]]
    assert samples.label_flags[3].tolist() == ["none", "none"]  # there is no estimate, whatever was given


# ---------------------------------------------------------------------- rows and joining


def test_rows_and_concat_are_inverse(estimates: Estimates) -> None:
    assert_same(Estimates.concat([estimates.rows(slice(0, 1)), estimates.rows([1, 2, 3])]), estimates)
    assert_same(estimates.rows(2), estimates.rows(np.array([False, False, True, False])))
    assert estimates.rows(-1).ids.tolist() == ["d"]
    assert len(estimates.rows(slice(0, 0))) == 0


def test_what_does_not_fit_is_not_joined(samples, quantiles, gaussian) -> None:
    others = [quantiles, gaussian, samples.rows([0])]
    object.__setattr__(others[2], "columns", {})
    for other in others:
        with pytest.raises(DraperError, match="set 1 cannot be joined"):
            Estimates.concat([samples, other])
    fewer = Estimates.from_samples(LABELS, samples.samples[:, :50], samples.ids, **COMMON)
    more = Estimates.from_samples(LABELS, samples.samples, samples.ids, **COMMON)
    with pytest.raises(DraperError, match=r"50 draws[\s\S]*2000 draws"):
        Estimates.concat([more, fewer])
    with pytest.raises(DraperError, match="nothing to join"):
        Estimates.concat([])


def test_the_repr_says_how_the_posterior_is_known(samples, quantiles, gaussian) -> None:
    assert repr(gaussian) == "Estimates(4 x teff, vsini; flagged: 1 outside, 1 no_data)"
    assert "2000 samples each" in repr(samples)
    assert "5 quantiles each" in repr(quantiles)


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"covariance": np.ones((4, 2))},
            r"covariance has the wrong shape[\s\S]*\(spectra, labels, labels\)",
        ),
        ({"samples": np.ones((4, 2))}, r"samples has the wrong shape[\s\S]*\(spectra, draws, labels\)"),
        ({"samples": np.where(np.arange(80).reshape(4, 10, 2) == 7, np.inf, 1)}, "spectrum 0, label 1"),
        ({"levels": np.array([0.1, 0.9])}, "go together"),
        ({"levels": [0.1, 0.9], "quantiles": np.ones((4, 3, 2))}, "quantiles has the wrong shape"),
        ({"levels": [0.1, 0.4], "quantiles": np.ones((4, 2, 2))}, r"both sides of 0\.5"),
        ({"levels": [0.9, 0.1], "quantiles": np.ones((4, 2, 2))}, "levels of quantiles increase"),
        ({"levels": [0.1, 0.9], "quantiles": -np.arange(16).reshape(4, 2, 2)}, "decrease where"),
        ({"log_evidence_err": np.ones(4)}, "no evidence"),
        ({"log_evidence": np.ones((4, 1))}, "log_evidence has the wrong shape"),
        ({"label_flags": np.full((4, 2), "mesured")}, "did you mean 'measured'"),
        ({"flags": {"odd": np.zeros(4)}}, "the flag 'odd'"),
    ],
)
def test_parts_that_do_not_fit_are_refused(ids, change, message) -> None:
    with pytest.raises(DraperError, match=message):
        Estimates(LABELS, np.ones((4, 2)), np.ones((4, 2)), ids, **change)


def test_odd_questions_are_refused(samples: Estimates, ids) -> None:
    for q in (0.0, 1.0, 50):
        with pytest.raises(DraperError, match="between 0 and 1"):
            samples.quantile(q)
    with pytest.raises(DraperError, match="three axes"):
        Estimates.from_samples(LABELS, np.ones((4, 2)), ids)
    with pytest.raises(DraperError, match="the second for the levels"):
        Estimates.from_quantiles(LABELS, [0.1, 0.9], np.ones((4, 3, 2)), ids)


# ---------------------------------------------------------------------- on disk


def expected_names(kind: str) -> list[str]:
    """Return the columns of the table of estimates of one kind."""
    ends = {
        "samples": ["", "_err", "_q16", "_q84", "_flag"],
        "quantiles": ["", "_err", "_q2_5", "_q16", "_q84", "_q97_5"],
        "Gaussian": ["", "_err"],
    }[kind]
    labels = [f"{name}{end}" for name in ("teff", "vsini") for end in ends]
    evidence = ["log_evidence", "log_evidence_err"] if kind == "samples" else []
    return ["id", *labels, "chi2", "note", *evidence, "flag_outside", "flag_no_data"]


def read_back(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the columns of a table and their units."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        units = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in table.schema}
        return {name: table[name].to_numpy() for name in units}, units
    read = Table.read(path, format={".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits"}[path.suffix])
    read.convert_bytestring_to_unicode()
    fills = {name: np.nan if read[name].dtype.kind == "f" else "" for name in read.colnames}
    units = {name: str(read[name].unit or "").replace(" ", "") for name in read.colnames}
    return {name: np.asarray(np.ma.filled(read[name], fill)) for name, fill in fills.items()}, units


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "parquet"])
def test_one_table_layout_in_every_format(estimates: Estimates, suffix: str, tmp_path: Path) -> None:
    path = estimates.write(tmp_path / f"labels.{suffix}")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    columns, units = read_back(path)
    assert list(columns) == expected_names(estimates.kind)
    for name, values in estimates.table().items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(columns[name].astype(float), values, rtol=1e-12, err_msg=name)
        else:
            assert columns[name].astype(str).tolist() == values.astype(str).tolist(), name
    if suffix != "csv":
        assert (units["teff"], units["teff_err"], units["vsini_err"]) == ("K", "K", "km/s")
        assert (units["chi2"], units.get("teff_q16", "K")) == ("", "K")


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_everything_is_kept_with_its_samples(estimates: Estimates, suffix: str, tmp_path: Path) -> None:
    path = estimates.save(tmp_path / f"posterior.{suffix}")
    assert_same(Estimates.load(path), estimates)
    empty = estimates.rows(slice(0, 0))
    assert_same(Estimates.load(empty.save(path, overwrite=True)), empty)


def test_what_holds_no_estimates_is_refused(gaussian: Estimates, tmp_path: Path) -> None:
    with pytest.raises(DraperError, match=r"\.npz or \.h5"):
        gaussian.save(tmp_path / "labels.csv")
    with pytest.raises(DraperError, match="no such file"):
        Estimates.load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", flux=np.ones(3))
    with pytest.raises(DraperError, match="holds no estimates"):
        Estimates.load(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DraperError, match="damaged"):
        Estimates.load(tmp_path / "x.npz")
    with pytest.raises(DraperError, match=r"unknown table format[\s\S]*did you mean"):
        gaussian.write(tmp_path / "labels.fit")


# ---------------------------------------------------------------------- samples for other programs


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "parquet"])
def test_samples_make_one_long_table(samples: Estimates, suffix: str, tmp_path: Path) -> None:
    few = samples.rows([0, 2])
    columns, units = read_back(few.write_samples(tmp_path / f"samples.{suffix}"))
    assert list(columns) == ["id", "draw", "teff", "vsini"]
    assert columns["id"].tolist() == ["a"] * DRAWS + ["c"] * DRAWS
    np.testing.assert_array_equal(columns["draw"], [*range(DRAWS)] * 2)
    np.testing.assert_allclose(columns["teff"].reshape(2, DRAWS), few.samples[..., 0], rtol=1e-12)
    np.testing.assert_allclose(columns["vsini"].reshape(2, DRAWS), few.samples[..., 1], rtol=1e-12)
    if suffix != "csv":
        assert (units["teff"], units["vsini"]) == ("K", "km/s")


def test_only_samples_are_exported(quantiles: Estimates, gaussian: Estimates, tmp_path: Path) -> None:
    for other in (quantiles, gaussian):
        with pytest.raises(DraperError, match=r"no samples[\s\S]*\.npz, \.h5"):
            other.write_samples(tmp_path / "samples.csv")
        with pytest.raises(DraperError, match="no samples"):
            other.to_arviz()
    assert not [*tmp_path.iterdir()]


def test_arviz_gets_one_chain_with_the_labels_as_variables(samples: Estimates) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not ours
        pytest.importorskip("arviz")
        every, one = samples.to_arviz().posterior, samples.to_arviz(1).posterior
    assert [str(name) for name in every.data_vars] == ["teff", "vsini"]
    assert every["teff"].dims == ("chain", "draw", "spectrum")
    assert every["spectrum"].values.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(every["vsini"].values[0], samples.samples[..., 1].T)
    assert one["teff"].dims == ("chain", "draw")
    np.testing.assert_array_equal(one["teff"].values[0], samples.samples[1, :, 0])


@pytest.mark.parametrize("version", ["0.23.4", "1.0.0"])
def test_both_forms_of_arviz_are_called_rightly(
    samples: Estimates, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ArviZ takes groups as arguments before version 1, and as one dictionary from there on."""

    def before(*, posterior: dict, coords: dict, dims: dict) -> tuple:
        return posterior, coords, dims

    def after(data: dict, *, coords: dict, dims: dict) -> tuple:
        return data["posterior"], coords, dims

    stand_in = SimpleNamespace(__version__=version, from_dict=before if version < "1" else after)
    monkeypatch.setitem(sys.modules, "arviz", stand_in)
    posterior, coords, dims = samples.to_arviz()
    assert posterior["teff"].shape == (1, DRAWS, N)
    assert coords["spectrum"].tolist() == ["a", "b", "c", "d"]
    assert dims == {"teff": ["spectrum"], "vsini": ["spectrum"]}


def test_a_missing_arviz_is_named(samples: Estimates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(DraperError, match=r"not installed[\s\S]*pip install arviz"):
        samples.to_arviz()
