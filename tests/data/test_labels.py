"""Labels: names, ranges, scaling and the columns they are read from."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draper.data.labels import SYNONYMS, UNITS, Label, LabelSet, canonical, columns
from draper.errors import DraperError

NAN = float("nan")


@pytest.fixture
def labels() -> LabelSet:
    return LabelSet(
        [
            Label("teff", low=4000, high=8000),
            Label("logg", low=0, high=5),
            Label("vsini", low=1, high=100, scale="log10"),
        ]
    )


def test_scale_and_unscale(labels: LabelSet) -> None:
    assert labels.scale([[5000, 2.5, 10]]).tolist() == [[0.25, 0.5, 0.5]]
    np.testing.assert_allclose(labels.unscale([[0.25, 0.5, 0.5]]), [[5000, 2.5, 10]], rtol=1e-14)
    np.testing.assert_allclose(labels.unscale(np.eye(3)[1]), [4000, 5, 1])


ranges = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(lambda ends: (ends[0], ends[0] + ends[1]))
positive = st.tuples(st.floats(1e-6, 1e6), st.floats(1.01, 1e6)).map(
    lambda ends: (ends[0], ends[0] * ends[1])
)


@given(
    st.lists(
        ranges.map(lambda r: (*r, "linear")) | positive.map(lambda r: (*r, "log10")), min_size=1, max_size=5
    ),
    st.data(),
)
def test_unscale_inverts_scale(kinds, data) -> None:
    labels = LabelSet(Label(f"l{k}", low=low, high=high, scale=s) for k, (low, high, s) in enumerate(kinds))
    unit = data.draw(st.lists(st.floats(0, 1), min_size=len(kinds), max_size=len(kinds)))
    values = labels.unscale(unit)
    # The rounding of a value beside a narrow range is magnified by scaling.
    assert np.all(values >= labels.low - 1e-9 * (1 + np.abs(labels.low)))
    assert np.all(values <= labels.high + 1e-9 * (1 + np.abs(labels.high)))
    np.testing.assert_allclose(labels.scale(values), unit, atol=1e-6)
    np.testing.assert_allclose(labels.scale(labels.low), 0, atol=1e-12)
    np.testing.assert_allclose(labels.scale(labels.high), 1, atol=1e-12)


def test_missing_and_outside(labels: LabelSet) -> None:
    scaled = labels.scale([[NAN, 6.0, -1.0], [3000, NAN, 0.0]])
    assert np.isnan(scaled).tolist() == [[True, False, True], [False, True, False]]
    assert scaled[0, 1] > 1
    assert scaled[1, 0] < 0
    assert scaled[1, 2] == -np.inf
    assert labels.inside([[5000, 2, 10], [NAN, 2, 10], [5000, 6, 10], [5000, 2, 0.5]]).tolist() == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("values", [5.0, [1.0, 2.0], [[1.0] * 4], []])
def test_the_last_axis_runs_over_the_labels(labels: LabelSet, values) -> None:
    for method in (labels.scale, labels.unscale, labels.inside):
        with pytest.raises(DraperError, match=r"\(\.\.\., 3\): teff, logg, vsini"):
            method(values)


def test_from_table() -> None:
    table = {
        "teff": [4000.0, NAN, 6000.0],
        "n": [1, 2, 3],
        "flag": [True, False, True],
        "name": ["a", "b", "c"],
        "same": [1.0, 1.0, NAN],
        "none": [NAN, NAN, NAN],
        "wild": [np.inf, 1.0, 2.0],
    }
    labels = LabelSet.from_table(table, ["teff", "n", "flag", "wild"])
    assert labels.low.tolist() == [4000, 1, 0, 1]
    assert labels.high.tolist() == [6000, 3, 1, 2]
    assert labels["teff"].unit == "K"
    for name, words in [
        ("same", r"does not vary[\s\S]*always 1"),
        ("none", r"does not vary[\s\S]*no finite value"),
        ("tef", r"no column 'tef'[\s\S]*did you mean 'teff'"),
        ("name", "'name' is not a number"),
    ]:
        with pytest.raises(DraperError, match=words):
            LabelSet.from_table(table, ["teff", name])
    assert len(LabelSet.from_table(table, [])) == 0


def test_read_takes_the_columns_in_its_order(labels: LabelSet) -> None:
    table = {"vsini": [1, 2], "logg": [3.0, 4.0], "teff": [5, 6], "id": ["a", "b"]}
    assert labels.read(table).tolist() == [[5, 3, 1], [6, 4, 2]]
    assert columns({}, []).shape == (0, 0)
    with pytest.raises(DraperError, match="no columns"):
        labels.read({})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"low": 1, "high": 1}, "range of label"),
        ({"low": 2, "high": 1}, "range of label"),
        ({"low": NAN}, "range of label"),
        ({"high": np.inf}, "range of label"),
        ({"scale": "ln"}, "linear or log10"),
        ({"low": 0, "scale": "log10"}, "must be positive"),
    ],
)
def test_refused_labels(options, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        Label("x", **options)


def test_units_by_name() -> None:
    assert [Label(name).unit for name in ("teff", "mg_fe", "fe_h", "rv", "snr")] == [
        "K",
        "dex",
        "dex",
        "km/s",
        "",
    ]
    assert Label("teff", "kK").unit == "kK"


def test_indexing(labels: LabelSet) -> None:
    assert labels["logg"] is labels[1] is labels[-2]
    assert labels[1:].names == ("logg", "vsini")
    assert labels[["vsini", "teff"]].names == ("vsini", "teff")
    assert labels[("logg", 0)].names == ("logg", "teff")
    assert "teff" in labels
    assert "tef" not in labels
    assert labels[0] in labels
    assert Label("teff") not in labels
    assert [label.name for label in labels] == list(labels.names)
    with pytest.raises(DraperError, match="did you mean 'teff'"):
        labels["tef"]
    with pytest.raises(IndexError):
        labels[3]
    with pytest.raises(DraperError, match="same name"):
        LabelSet([Label("a"), Label("a")])


def test_json_and_equality(labels: LabelSet) -> None:
    back = LabelSet.from_json(json.loads(json.dumps(labels.to_json())))
    assert back == labels
    assert hash(back) == hash(labels)
    assert back != labels[:2]
    assert repr(labels[:1]) == "LabelSet(teff 4000..8000 K)"


@pytest.mark.parametrize("name", SYNONYMS)
def test_synonyms(name: str) -> None:
    wanted = SYNONYMS[name]
    assert wanted in UNITS
    for spelling in (name, name.upper(), f" {name} ", f"[{name}]", name.replace("_", "/")):
        assert canonical(spelling) == wanted
    assert canonical(f"{name}_err") == canonical(f"{name.upper()}_ERR") == f"{wanted}_err"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("[Fe/H]", "fe_h"),
        ("[M/H]", "fe_h"),
        ("[a/Fe]", "alpha_fe"),
        ("[alpha/M]", "alpha_fe"),
        ("[Mg/Fe]", "mg_fe"),
        ("[Fe/H]_err", "fe_h_err"),
        ("TEFF", "teff"),
        ("snr_i", "snr_i"),
    ],
)
def test_names_of_other_codes(name: str, wanted: str) -> None:
    assert canonical(name) == wanted


@given(st.text("[]/ _aefhr\t\u2003", max_size=12) | st.text(max_size=8))
def test_canonical_names_stay_unchanged(name: str) -> None:
    assert canonical(canonical(name)) == canonical(name)
