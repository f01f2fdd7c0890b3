"""The container of spectra: what it refuses, settles, and gives back."""

import json
from io import StringIO

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from rich.console import Console

from draper.data.arrays import as_column
from draper.data.grid import Grid
from draper.data.spectra import QUANTITIES, Correlation, Spectra, Subset, blocks, has_errors
from draper.errors import DraperError

NAN = float("nan")
GRID = Grid.linear(5000, 5004, 1, medium="vacuum")


def made(n: int = 6, **options) -> Spectra:
    """Return n spectra of 5 pixels, all different, row r starting at 10 r."""
    flux = 10.0 * np.arange(n)[:, None] + np.arange(5)
    table = {
        "id": np.array([f"s{k:03d}" for k in range(n)], dtype=np.str_),
        "teff": 4000.0 + 100 * np.arange(n),
        "visit": np.arange(n),
        "giant": np.arange(n) % 2 == 0,
    }
    return Spectra(GRID, flux, **{"ivar": np.full((n, 5), 4.0), "table": table, **options})


def templates(k: int) -> np.ndarray:
    return np.array([np.eye(5) * (1 + number) for number in range(k)], dtype=np.float32)


# --------------------------------------------------------------- validation

WILD = np.array([[1.0, NAN, 3, 4, 5]])
REFUSED = {
    "one row": ({"flux": np.ones(5)}, "two axes"),
    "three axes": ({"flux": np.ones((1, 1, 5))}, "two axes"),
    "ragged": ({"flux": [[1.0], [1.0, 2.0]]}, "must be numbers"),
    "text": ({"flux": [["1"] * 5]}, "must be numbers"),
    "complex": ({"flux": np.ones((1, 5), dtype=complex)}, "must be numbers"),
    "too short": ({"flux": np.ones((1, 4))}, r"differ in length[\s\S]*\(n, 5\)"),
    "ivar shape": ({"ivar": np.ones((2, 5))}, "flux and ivar differ in shape"),
    "nan flux": (
        {"flux": WILD, "ivar": np.ones((1, 5))},
        r"not finite where ivar is positive[\s\S]*spectrum 0, pixel 1",
    ),
    "inf flux": (
        {"flux": [[1, 2, 3, 4, np.inf]], "ivar": np.ones((1, 5))},
        "not finite where ivar is positive",
    ),
    "flux beyond float32": (
        {"flux": np.full((1, 5), 1e39), "ivar": np.ones((1, 5))},
        r"not finite where[\s\S]*rescale",
    ),
    "flux beyond float32, no ivar": ({"flux": np.full((1, 5), 1e39)}, "too large for single precision"),
    "flux below float32": ({"flux": np.full((1, 5), 1e-50)}, "too small for single precision"),
    "ivar below float32": ({"ivar": np.full((1, 5), 1e-60)}, "too small for single precision"),
    "ivar beyond float32": ({"ivar": np.full((1, 5), 1e40)}, "ivar must be finite"),
    "negative ivar": ({"ivar": [[1, 1, -1e-9, 1, 1]]}, r"ivar must be finite and not negative[\s\S]*pixel 2"),
    "nan ivar": ({"ivar": [[1, 1, NAN, 1, 1]]}, "ivar must be finite"),
    "inf ivar": ({"ivar": [[1, 1, np.inf, 1, 1]]}, "ivar must be finite"),
    "short column": ({"table": {"teff": [1.0, 2.0]}}, "column 'teff' does not have one value for each"),
    "scalar column": ({"table": {"teff": 1.0}}, "one value for each"),
    "two axes column": ({"table": {"teff": [[1.0]]}}, "one value for each"),
    "complex column": ({"table": {"teff": [1j]}}, "numbers, booleans or text"),
    "date column": (
        {"table": {"date": np.array(["2020-01-01"], dtype="M8[D]")}},
        "numbers, booleans or text",
    ),
    "same name": ({"table": {"teff": [1.0], "TEFF": [2.0]}}, r"same name[\s\S]*teff and TEFF"),
    "quantity": ({"quantity": "fluxes"}, r"unknown quantity[\s\S]*did you mean 'flux'"),
    "too many templates' pixels": (
        {"correlation": Correlation(np.ones((1, 4, 4)), [0])},
        "correlation does not fit",
    ),
    "index of another length": (
        {"correlation": Correlation(templates(1), [0, 0])},
        "correlation does not fit",
    ),
    "index too high": ({"correlation": Correlation(templates(1), [1])}, "correlation does not fit"),
    "index negative": ({"correlation": Correlation(templates(1), [-1])}, "correlation does not fit"),
    "correlation nan": ({"correlation": Correlation(templates(1) * NAN, [0])}, "correlation is not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    options, words = REFUSED[case]
    with pytest.raises(DraperError, match=words):
        Spectra(**{"grid": GRID, "flux": np.ones((1, 5)), **options})


def test_the_bad_pixel_is_named_beyond_the_first_block() -> None:
    flux = np.ones((5000, 5), dtype=np.float32)
    flux[4321, 3] = NAN
    with pytest.raises(DraperError, match="spectrum 4321, pixel 3"):
        Spectra(GRID, flux, np.ones_like(flux))


def test_default_ivar_is_one_where_there_is_a_value() -> None:
    assert np.array_equal(Spectra(GRID, np.ones((2, 5))).ivar, np.ones((2, 5)))
    spectra = Spectra(GRID, WILD)
    assert spectra.ivar.tolist() == [[1, 0, 1, 1, 1]]
    assert spectra.flux.tolist() == [[1, 0, 3, 4, 5]]
    assert Spectra(GRID, [[1, 2, 3, 4, np.inf]]).ivar[0, 4] == 0


def test_a_bad_pixel_without_a_value_becomes_zero() -> None:
    given = np.array([[NAN, np.inf, 3, 4, 5]], dtype=np.float32)
    spectra = Spectra(GRID, given, [[0, 0, 0, 1, 1]])
    assert spectra.flux.tolist() == [[0, 0, 3, 4, 5]]
    assert np.isnan(given[0, 0])
    assert not spectra.flux.flags.writeable


@pytest.mark.parametrize(
    "kind", [np.float64, np.float32, np.float16, np.int16, np.uint8, np.int64, bool, ">f4", ">f8"]
)
def test_numbers_of_all_kinds(kind) -> None:
    spectra = Spectra(GRID, np.eye(5).astype(kind), np.eye(5).astype(kind))
    assert spectra.flux.dtype == spectra.ivar.dtype == np.float32
    assert spectra.flux.dtype.isnative
    assert spectra.flux.tolist() == np.eye(5).tolist()


def test_masked_arrays_are_bad_pixels() -> None:
    masked = np.ma.masked_array(np.full((1, 5), NAN), mask=[[0, 1, 0, 0, 1]])
    masked[0, [0, 2, 3]] = 2.0
    assert Spectra(GRID, masked).ivar.tolist() == [[1, 0, 1, 1, 0]]
    weights = np.ma.masked_array(np.full((1, 5), 9), mask=[[1, 1, 0, 0, 1]])
    spectra = Spectra(GRID, masked, weights)
    assert spectra.ivar.tolist() == [[0, 0, 9, 9, 0]]
    assert type(spectra.flux) is type(spectra.ivar) is np.ndarray


def test_float32_is_not_copied_and_cannot_be_written() -> None:
    flux = np.ones((2, 5), dtype=np.float32)
    spectra = Spectra(
        GRID, flux, flux, table={"a": np.ones(2)}, correlation=Correlation(templates(1), [0, 0])
    )
    assert np.shares_memory(spectra.flux, flux)
    arrays = [spectra.flux, spectra.ivar, spectra.table["a"], spectra.correlation.templates, spectra[1:].flux,
              spectra.correlation.index, Spectra(GRID, flux).ivar]  # fmt: skip
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert flux.flags.writeable
    with pytest.raises(AttributeError):
        spectra.flux = flux
    with pytest.raises(TypeError):
        spectra.table["a"] = flux
    with pytest.raises(TypeError):
        spectra.meta["a"] = 1


@pytest.mark.parametrize(
    ("values", "wanted", "kind"),
    [
        ([1, 2], [1, 2], "i"),
        (np.array([1, 2], dtype=np.uint8), [1, 2], "i"),
        ([1.5, 2], [1.5, 2.0], "f"),
        (np.array([1, 2], dtype=">f4"), [1.0, 2.0], "f"),
        ([True, False], [True, False], "b"),
        (["a", "é"], ["a", "é"], "U"),
        ([b"a", "é".encode()], ["a", "é"], "U"),
        (np.array([b"a", b"\xff"]), ["a", "\ufffd"], "U"),
        ([1, None], [1.0, NAN], "f"),
        (["a", None], ["a", ""], "U"),
        (np.array(["a", NAN], dtype=object), ["a", ""], "U"),
        (np.array([2**63, None], dtype=object), [str(2**63), ""], "U"),
        (np.array([2**53 + 1, None], dtype=object), [str(2**53 + 1), ""], "U"),
        (np.ma.masked_array([1, 2], mask=[False, True]), [1.0, NAN], "f"),
        (np.ma.masked_array([1, 2], mask=False), [1, 2], "i"),
        (np.ma.masked_array([True, False], mask=[False, True]), [1.0, NAN], "f"),
        (np.ma.masked_array(["a", "b"], mask=[False, True]), ["a", ""], "U"),
        (np.ma.masked_array([b"a", b"b"], mask=[False, True]), ["a", ""], "U"),
        ([], [], "f"),
        (np.array([], dtype="S3"), [], "U"),
    ],
)
def test_columns_are_of_four_kinds(values, wanted, kind: str) -> None:
    column = as_column(values)
    assert column.dtype.kind == kind
    assert column.dtype.itemsize == 8 or kind in "bU"
    np.testing.assert_array_equal(column, wanted)


def test_whole_numbers_beyond_64_bits() -> None:
    with pytest.raises(DraperError, match="exceeds 64 bits"):
        as_column(np.array([2**63], dtype=np.uint64))
    assert as_column(np.array([2**63 - 1], dtype=np.uint64)).tolist() == [2**63 - 1]


# --------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    "rows",
    [
        slice(1, 4),
        slice(None, None, -2),
        [5, 0, 0],
        np.array([True, False] * 3),
        np.array([-1, 2]),
        slice(3, 3),
        np.arange(0),
    ],
    ids=str,
)
def test_rows_by_slice_mask_and_index(rows) -> None:
    spectra = made(correlation=Correlation(templates(3), np.arange(6) % 3))
    some, wanted = spectra[rows], np.arange(6)[rows]
    assert some.flux[:, 0].tolist() == (10.0 * wanted).tolist()
    assert some.table["visit"].tolist() == wanted.tolist()
    assert some.correlation.index.tolist() == (wanted % 3).tolist()
    assert some.correlation.templates is spectra.correlation.templates
    assert some.correlation.of(slice(None)).shape == (len(wanted), 5, 5)


@pytest.mark.parametrize("row", [0, 5, -1, -6, np.int64(2)])
def test_one_row_is_a_set_of_one(row: int) -> None:
    assert made()[row].table["visit"].tolist() == [row % 6]


@pytest.mark.parametrize("row", [6, -7, 1000])
def test_rows_that_are_not_there(row: int) -> None:
    with pytest.raises(IndexError, match="no spectrum"):
        made()[row]
    with pytest.raises(IndexError):
        made()[np.ones(5, dtype=bool)]


def test_iteration_ends() -> None:
    assert [one.ids[0] for one in made(3)] == ["s000", "s001", "s002"]
    assert list(made(0)) == []


def test_slices_share_memory_and_are_not_looked_at_again() -> None:
    spectra = made()
    assert np.shares_memory(spectra[2:4].flux, spectra.flux)
    assert spectra[2:4].validated


def test_batches_and_blocks() -> None:
    assert [len(batch) for batch in made(7).batches(3)] == [3, 3, 1]
    assert np.concatenate([batch.flux for batch in made(7).batches(3)]).tolist() == made(7).flux.tolist()
    assert list(made(0).batches()) == []
    assert list(blocks(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_subset_stays_where_it_is() -> None:
    spectra = made()
    subset = Subset(spectra, np.array([1, 4, 5]))
    assert (len(subset), subset.grid) == (3, GRID)
    assert subset.table["visit"].tolist() == [1, 4, 5]
    assert [batch.table["visit"].tolist() for batch in subset.batches(2)] == [[1, 4], [5]]
    assert Subset.whole(spectra).rows.tolist() == list(range(6))


# ------------------------------------------------------------------- pixels


@pytest.mark.parametrize(
    "pixels", [slice(1, 4), slice(0, 5, 2), [0, 3], np.array([1, 0, 0, 1, 1], dtype=bool)], ids=str
)
def test_pixels(pixels) -> None:
    correlation = np.arange(50, dtype=np.float32).reshape(2, 5, 5)
    spectra = made(2, correlation=Correlation(correlation, [1, 0])).pixels(pixels)
    wanted = np.arange(5)[pixels]
    assert spectra.grid.vacuum.tolist() == (5000.0 + wanted).tolist()
    assert spectra.flux.tolist() == made(2).flux[:, wanted].tolist()
    assert spectra.ivar.shape == spectra.flux.shape
    assert spectra.correlation.of(0).tolist() == correlation[1][np.ix_(wanted, wanted)].tolist()


def test_cut() -> None:
    spectra = made().cut([(5003, 5009), (5000, 5001)])
    assert spectra.grid.windows == ((5000, 5001), (5003, 5004))
    assert spectra.flux[0].tolist() == [0, 1, 3, 4]
    with pytest.raises(DraperError, match="no pixel"):
        made().cut([(1, 2)])
    with pytest.raises(DraperError):
        made().pixels([3, 1])


# ---------------------------------------------------------- select and split


def test_select() -> None:
    spectra = made()
    assert spectra.select(teff=(4100, 4300)).table["visit"].tolist() == [1, 2, 3]
    assert spectra.select(id="s002").table["visit"].tolist() == [2]
    assert spectra.select(visit=5, giant=False).table["visit"].tolist() == [5]
    assert spectra.select(spectra.table["giant"], teff=(4100, 9000)).table["visit"].tolist() == [2, 4]
    assert spectra.select([True] * 6, id=("s001", "s003")).table["visit"].tolist() == [1, 2, 3]
    assert len(spectra.select(teff=(9, 1))) == 0
    missing = spectra.with_columns(teff=[NAN, 1, 2, 3, 4, 5])
    assert missing.select(teff=(-9, 9)).table["visit"].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("mask", "ranges", "words"),
    [
        ([0, 1], {}, "select takes a mask"),
        ([True] * 5, {}, "select takes a mask"),
        (None, {"tef": 1}, "did you mean 'teff'"),
        (None, {"id": (1, 2)}, "cannot be selected by this range"),
        (None, {"teff": ("a", "b")}, "cannot be selected by this range"),
        (None, {"teff": (1, 2, 3)}, "cannot be selected by this range"),
        (None, {"teff": [4000, 5000, 1, 2, 3, 4]}, "isin"),
    ],
)
def test_select_refuses(mask, ranges, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        made().select(mask, **ranges)


@given(
    st.integers(0, 60),
    st.lists(st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.3, 0.4]), min_size=1, max_size=3).filter(
        lambda f: sum(f) <= 1
    ),
    st.integers(0, 9),
)
def test_split_is_disjoint_and_complete(n: int, fractions: list[float], seed: int) -> None:
    spectra = made(n)
    parts = spectra.split_rows(*fractions, seed=seed)
    assert len(parts) == len(fractions) + 1
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    for rows, fraction in zip(parts[:-1], fractions, strict=True):
        assert abs(len(rows) - fraction * n) <= 1
        assert np.all(np.diff(rows) > 0)


def test_split_is_seeded() -> None:
    spectra = made(200)
    first, again, other = (spectra.split_rows(0.8, seed=seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 160
    assert first != list(range(160))
    assert len(spectra.split()[0]) == 160


def test_split_does_not_depend_on_the_order_of_rows() -> None:
    spectra = made(100)
    shuffled = spectra[np.random.default_rng(5).permutation(100)]
    for part, other in zip(spectra.split(0.5, 0.2, seed=3), shuffled.split(0.5, 0.2, seed=3), strict=True):
        assert set(part.ids) == set(other.ids)


def test_split_keeps_the_visits_of_an_object_together() -> None:
    spectra = made(90).with_columns(id=[f"star{k % 30}" for k in range(90)])
    learnt, rest = spectra.split(0.5, seed=1)
    assert len(learnt) == len(rest) == 45
    assert not set(learnt.ids) & set(rest.ids)
    by = spectra.with_columns(field=np.arange(90) // 45).split(0.5, by="field")
    assert [set(part.table["field"].tolist()) for part in by] in ([{0}, {1}], [{1}, {0}])


@pytest.mark.parametrize("fractions", [(0.4, 0.2, 0.3, 0.1), (0.2, 0.4, 0.3, 0.1), (1.0,), (0.7, 0.2, 0.1)])
def test_fractions_may_sum_to_one(fractions) -> None:
    assert len(made(100).split(*fractions)[-1]) == 0


@pytest.mark.parametrize("fractions", [(0.0,), (-0.1,), (0.8, 0.3), (1.1,), (NAN,)])
def test_wrong_fractions(fractions) -> None:
    with pytest.raises(DraperError, match="positive and sum to at most 1"):
        made().split(*fractions)


def test_a_wrong_column_to_split_by_is_no_split_by_rows() -> None:
    with pytest.raises(DraperError, match="did you mean 'visit'"):
        made().split(0.5, by="visits")
    assert len(Spectra(GRID, np.ones((10, 5))).split(0.5)[0]) == 5


# ------------------------------------------------------------------- concat


def test_concat() -> None:
    first, second = made(2), made(3).with_columns(id=["é", "b", "much longer"])
    both = Spectra.concat([first, second, first[:0]])
    assert both.flux.tolist() == np.concatenate([first.flux, second.flux]).tolist()
    assert both.ids.tolist() == ["s000", "s001", "é", "b", "much longer"]
    assert both.table["visit"].dtype == np.int64
    assert Spectra.concat([first]) is first


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            made(1).pixels(slice(0, 4)),
            r"set 1 is on another grid than set 0[\s\S]*4 px[\s\S]*5 px[\s\S]*--grid common",
        ),
        (made(1, quantity="normalised flux"), "another quantity"),
        (made(1, unit="Jy"), "another unit"),
        (made(1, correlation=Correlation(templates(1), [0])), "do not both have correlations"),
        (made(1).with_columns(more=[1.0]), r"other columns[\s\S]*fill=True"),
        (made(1).with_columns(teff=None), "other columns"),
        (made(1).with_columns(teff=["hot"]), "'teff' holds text in one set and numbers in another"),
    ],
)
def test_sets_that_cannot_be_joined(other: Spectra, words: str) -> None:
    with pytest.raises(DraperError, match=words):
        Spectra.concat([made(2), other])


def test_concat_of_nothing() -> None:
    with pytest.raises(DraperError, match="nothing to join"):
        Spectra.concat([])


def test_concat_fills_what_is_missing() -> None:
    both = Spectra.concat(
        [made(2), made(1).with_columns(teff=None, id=None, visit=None, more=[7], word=["x"])], fill=True
    )
    assert both.table["id"].tolist() == ["s000", "s001", ""]
    assert both.table["word"].tolist() == ["", "", "x"]
    np.testing.assert_array_equal(both.table["teff"], [4000, 4100, NAN])
    np.testing.assert_array_equal(both.table["visit"], [0, 1, NAN])
    np.testing.assert_array_equal(both.table["more"], [NAN, NAN, 7])
    with pytest.raises(DraperError, match="same name"):
        Spectra.concat([made(1), made(1).with_columns(teff=None, Teff=[1.0])], fill=True)


def test_concat_of_correlations() -> None:
    shared = templates(2)
    one = made(2, correlation=Correlation(shared, [0, 1]))
    assert len(Spectra.concat([one, one[::-1]]).correlation.templates) == 2
    assert Spectra.concat([one, one[::-1]]).correlation.index.tolist() == [0, 1, 1, 0]
    other = made(1, correlation=Correlation(templates(3), [2]))
    both = Spectra.concat([one, other])
    assert both.correlation.index.tolist() == [0, 1, 2]  # two of the three are those of the first set
    assert both.correlation.of(2).tolist() == templates(3)[2].tolist()


# ------------------------------------------------------------------ columns


def test_columns() -> None:
    spectra = made(3)
    assert spectra.columns(["visit", "giant"]).tolist() == [[0, 1], [1, 0], [2, 1]]
    assert spectra.columns([]).shape == (3, 0)
    for name, words in [("tef", "did you mean 'teff'"), ("id", "not a number")]:
        with pytest.raises(DraperError, match=words):
            spectra.columns([name])
    with pytest.raises(DraperError, match="did you mean 'teff'"):
        spectra.column("tef")
    assert Spectra(GRID, np.ones((2, 5))).ids.tolist() == [0, 1]


def test_with_columns() -> None:
    spectra = made(2).with_columns(teff=None, visit=[7, 8], new=["a", "b"])
    assert list(spectra.table) == ["id", "visit", "giant", "new"]
    assert spectra.table["visit"].tolist() == [7, 8]
    for wrong in ({"new": [1.0]}, {"TEFF": [1.0, 2.0]}):
        with pytest.raises(DraperError):
            made(2).with_columns(**wrong)


def test_snr() -> None:
    ivar = np.array([[4.0] * 5, [0, 0, 0, 9, 9], [0.0] * 5])
    snr = Spectra(GRID, [[1, -2, 3, 4, 5], [0, 0, 0, 1, 3], [1] * 5], ivar).snr
    np.testing.assert_array_equal(snr, [6, 6, NAN])
    assert len(made(0).snr) == 0


def test_has_errors() -> None:
    assert has_errors(made())
    assert not has_errors(made(ivar=None))
    assert not has_errors(made(ivar=np.eye(6, 5)))
    last = np.ones((1000, 5))
    last[777, 2] = 0.5
    assert has_errors(Spectra(GRID, last, last))


# ----------------------------------------------------------------- seeing it


def strict(value: object) -> str:
    return json.dumps(value, allow_nan=False)


@pytest.mark.parametrize("n", [0, 1, 6])
@pytest.mark.parametrize("ivar", [None, 0.0, 4.0])
def test_describe_is_json(n: int, ivar: float | None) -> None:
    table = {
        "x": np.full(n, NAN),
        "y": np.arange(n),
        "s": np.array(["é"] * n, dtype=np.str_),
        "b": np.ones(n, dtype=bool),
    }
    spectra = made(
        n, ivar=None if ivar is None else np.full((n, 5), ivar), table=table, unit="Jy", meta={"a": [1]}
    )
    facts = json.loads(strict(spectra.describe()))
    assert (facts["spectra"], facts["pixels"], facts["first"], facts["last"]) == (n, 5, 5000, 5004)
    assert facts["bad_pixels"] == (5 * n if ivar == 0 else 0)
    assert (facts["median_snr"] is None) == (n == 0 or ivar != 4)
    assert facts["meta"] == {"a": [1]}
    assert set(facts["columns"]) == set(table)
    assert Console(width=120, file=StringIO()).render_lines(spectra.__rich__())


def test_the_summary_prints_identifiers_and_large_numbers_whole() -> None:
    numbers = [5853498713190525696, 4, 5, 6, 7, 5853498713190525697]
    spectra = made().with_columns(source_id=np.array(numbers), counts=[1234567.0, 2, 3, 4, 5, 6])
    facts = spectra.describe()["columns"]
    assert (facts["source_id"]["low"], facts["source_id"]["high"]) == (4, 5853498713190525697)
    screen = Console(width=120, file=StringIO())
    screen.print(spectra)
    text = screen.file.getvalue()
    assert "4 ... 5853498713190525697" in text
    assert "2 ... 1234567" in text
    assert f"text, 6 different: {spectra.ids[0]} ... {spectra.ids[5]}" in text


def test_describe_counts() -> None:
    facts = made().with_columns(teff=[NAN, 2, 3, NAN, 5, 6]).describe()["columns"]
    assert facts["teff"] == {"kind": "float64", "missing": 2, "low": 2, "high": 6}
    assert facts["id"] == {
        "kind": "text",
        "values": 6,
        "first": str(made().ids[0]),
        "last": str(made().ids[5]),
    }
    assert facts["giant"] == {"kind": "bool", "values": 2}


def test_describe_takes_the_median_of_the_spectra() -> None:
    spectra = Spectra(GRID, np.ones((3, 5)), np.repeat([[1.0], [9.0], [10000.0]], 5, axis=1))
    assert spectra.describe()["median_snr"] == 3


def test_coefficients_describe_themselves() -> None:
    spectra = Spectra(Grid.coefficients("ab"), np.ones((3, 2)), quantity="coefficients")
    facts = json.loads(strict(spectra.describe()))
    assert (facts["axis"], facts["first"], facts["last"]) == ("coefficients", "a", "b")
    one = Spectra(Grid.coefficients("a"), np.ones((1, 1)), quantity="coefficients")
    assert one.describe()["last"] == "a"


def test_repr() -> None:
    assert (
        repr(made()) == "Spectra(6 x 5 px, flux, 5000.000-5004.000 A vacuum, columns: id, teff, visit, giant)"
    )
    many = Spectra(GRID, np.ones((1, 5)), table={f"column{k}": [1.0] for k in range(50)})
    assert repr(many).endswith("columns: 50)")
    assert repr(Spectra(GRID, np.ones((1, 5)))).endswith("columns: none)")


def test_tables_show_names_with_brackets() -> None:
    table = {"[fe/h]": [1.0], "x[/b]": ["a"], "[red]": [NAN]}
    spectra = Spectra(GRID, np.ones((1, 5)), table=table, unit="erg [x]", meta={"[k]": "[/v]"})
    html = spectra._repr_html_()
    for words in (
        "column [fe/h]",
        "column x[/b]",
        "column [red]",
        "flux [erg [x]]",
        "meta [k]",
        "[/v]",
        "no errors",
    ):
        assert words in html, words


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_plot(quantity: str) -> None:
    matplotlib.use("Agg", force=True)
    spectra = made(7, quantity=quantity, ivar=np.array([[4, 0, 4, 4, 0]] * 7), unit="Jy")
    ax = spectra.plot()
    assert isinstance(ax, Axes)
    assert len(ax.lines) == 5
    assert np.isnan(ax.lines[1].get_ydata()).tolist() == [False, True, False, False, True]
    assert ax.lines[1].get_xdata().tolist() == GRID.vacuum.tolist()
    assert "Jy" in ax.get_ylabel()
    assert len(ax.collections) == 5
    assert spectra.plot([6], ax=ax) is ax
    assert len(ax.lines) == 6


def test_plot_leaves_gaps_open_and_takes_the_empty_set() -> None:
    ax = made(1).cut([(5000, 5001), (5003, 5004)]).plot()
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [5000, 5001, np.nan, 5003, 5004])
    assert len(made(0).plot().lines) == 0
    assert len(Spectra(Grid.coefficients("ab"), np.ones((1, 2))).plot().lines) == 1


def test_the_empty_set() -> None:
    empty = made(0)
    assert (
        len(empty) == len(empty[:5]) == len(empty.select(teff=(0, 1))) == len(empty.cut([(5000, 5002)])) == 0
    )
    assert [len(part) for part in empty.split(0.5)] == [0, 0]
    assert len(Spectra.concat([empty, made(2)])) == 2
    assert repr(empty).startswith("Spectra(0 x 5 px")
    assert empty._repr_html_()
