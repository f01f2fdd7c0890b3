"""Labels from other tables, renamed and derived columns, and spectra left out."""

import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from draper.configs.read import ReadConfig
from draper.data.formula import column_from
from draper.data.grid import Grid
from draper.data.join import LabelTables, derive, read_table, reject, stem
from draper.data.spectra import Spectra
from draper.errors import DraperError

NAN = float("nan")
GRID = Grid.linear(5000, 5003, 1, medium="vacuum")


def made(*ids: object, **columns) -> Spectra:
    return Spectra(GRID, np.ones((len(ids), 4)), table={"id": list(ids), **columns})


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def joined(spectra: Spectra, *paths: Path, key: str | None = None) -> Spectra:
    return LabelTables(paths, key).join(spectra)


# --------------------------------------------------------------- the tables


@pytest.mark.parametrize("form", ["csv", "ecsv", "fits", "votable", "tab", "blanks"])
def test_tables_of_every_format(tmp_path: Path, form: str) -> None:
    names = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "tab": "ascii.tab", "blanks": "ascii.basic"}
    held = Table({"name": ["a", "b"], "teff": [5000.5, 6000.0], "n": [1, 2]})
    held.write(tmp_path / "labels.x", format=names.get(form, form))
    found = read_table(tmp_path / "labels.x")
    assert list(found) == ["name", "teff", "n"]
    assert found["name"].tolist() == ["a", "b"]
    assert found["teff"].tolist() == [5000.5, 6000.0]
    assert [column.dtype.kind for column in found.values()] == ["U", "f", "i"]
    assert joined(made("b", "a"), tmp_path / "labels.x").table["teff"].tolist() == [6000.0, 5000.5]


def test_missing_numbers_are_nan(tmp_path: Path) -> None:
    found = read_table(table(tmp_path / "l.csv", "id,n,x,s\na,1,,\nb,,2.5,t\n"))
    np.testing.assert_array_equal(found["n"], [1, NAN])
    np.testing.assert_array_equal(found["x"], [NAN, 2.5])
    assert found["s"].tolist() == ["", "t"]
    masked = Table({"n": MaskedColumn([1, 2], mask=[True, False]), "v": [[1, 2], [3, 4]]})
    masked.write(tmp_path / "l.fits")
    np.testing.assert_array_equal(read_table(tmp_path / "l.fits")["n"], [NAN, 2])
    assert "v" not in read_table(tmp_path / "l.fits")


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01\x02" * 50, b"SIMPLE  = T", b"%ECSV 1.0\n", b'a,b\n1,2,3,4\n"']
)
def test_tables_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(DraperError):
        read_table(path)
    with pytest.raises(DraperError, match="no such table"):
        read_table(tmp_path / "nowhere.csv")


# ------------------------------------------------------------------ joining


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("run/0007.spec", "0007"),
        ("0007", "0007"),
        ("a\\b\\star.fits.gz", "star"),
        ("5095.1234", "5095.1234"),
        (" star ", "star"),
        ("HD_1.v2.txt", "HD_1.v2"),
        ("noend.", "noend."),
        ("", ""),
    ],
)
def test_stem(name: str, wanted: str) -> None:
    assert stem(name) == wanted


def test_rows_are_matched_by_name_whatever_their_order(tmp_path: Path) -> None:
    path = table(tmp_path / "l.csv", "file,teff,survey\nrun/c.spec,3,x\nrun/a.spec,1,y\nrun/b.spec,2,z\n")
    result = joined(made("a", "b", "c"), path)
    assert result.table["teff"].tolist() == [1, 2, 3]
    assert result.table["survey"].tolist() == ["y", "z", "x"]
    assert result.ids.tolist() == ["a", "b", "c"]
    assert "file" not in result.table


def test_zeros_before_numbers(tmp_path: Path) -> None:
    path = table(tmp_path / "l.csv", "id,teff\n0007,1\n0010,2\n0000,3\n")
    assert joined(made("0010", "0007", "0000"), path).table["teff"].tolist() == [2, 1, 3]


def test_identifiers_of_64_bits(tmp_path: Path) -> None:
    big = 4611686018427387905
    path = table(tmp_path / "l.csv", f"source_id,teff\n{big + 1},2\n{big},1\n")
    assert joined(made(big, big + 1), path).table["teff"].tolist() == [1, 2]


def test_several_tables(tmp_path: Path) -> None:
    first = table(tmp_path / "1.csv", "id,teff\na,1\nb,2\n")
    second = table(tmp_path / "2.csv", "star,logg\nb,20\na,10\n")
    result = joined(made("a", "b"), first, second)
    assert result.table["teff"].tolist() == [1, 2]
    assert result.table["logg"].tolist() == [10, 20]


def test_batches_use_one_table(tmp_path: Path) -> None:
    path = table(tmp_path / "l.csv", "id,teff\na,1\nb,2\n")
    tables = LabelTables([path], None)
    assert tables.join(made("a")).table["teff"].tolist() == [1]
    path.unlink()
    assert tables.join(made("b", "b")).table["teff"].tolist() == [2, 2]
    assert LabelTables([], None).join(made("a")).table["id"].tolist() == ["a"]


def test_the_key_column_is_recognised_or_given(tmp_path: Path) -> None:
    path = table(tmp_path / "l.csv", "n,alias,name,teff\n1,x,a,5\n2,a,b,6\n")
    assert joined(made("a", "b"), path).table["teff"].tolist() == [5, 6]
    assert joined(made("a", "x"), path, key="alias").table["teff"].tolist() == [6, 5]
    with pytest.raises(DraperError, match=r"no column 'alis'[\s\S]*did you mean 'alias'"):
        joined(made("a"), path, key="alis")
    with pytest.raises(
        DraperError, match=r"no column of l.csv holds names of the spectra[\s\S]*such as q[\s\S]*key="
    ):
        joined(made("q"), path)


def test_spectra_without_a_row_are_an_error(tmp_path: Path) -> None:
    path = table(tmp_path / "l.csv", "id,teff\na,1\n")
    with pytest.raises(DraperError, match=r"no row for 2 of the spectra[\s\S]*b, c[\s\S]*'id' was compared"):
        joined(made("a", "b", "c"), path)


def test_two_rows_for_a_spectrum_are_an_error(tmp_path: Path) -> None:
    path = table(tmp_path / "l.csv", "id,teff\na,1\nb,2\na,3\nq,1\nq,2\n")
    assert joined(made("b"), path).table["teff"].tolist() == [2]
    with pytest.raises(DraperError, match=r"several rows for 1 of the spectra[\s\S]*a[\s\S]*keep one row"):
        joined(made("a", "b"), path)
    suffixes = table(tmp_path / "s.csv", "file,teff\nstar.red,1\nstar.blue,2\n")
    with pytest.raises(DraperError, match="several rows"):
        joined(made("star"), suffixes)


# ----------------------------------------------------------------- formulas

TABLE = {
    "x": np.array([1.0, 4.0]),
    "Y_fe": np.array([2, 3]),
    "s": np.array(["a", "b"]),
    "b": np.array([True, False]),
}


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("x", [1, 4]),
        ("1 + 2 * x", [3, 9]),
        ("(1 + 2) * x", [3, 12]),
        ("-x ** 2", [-1, -16]),
        ("2 ** 3 ** 2", 512),
        ("2 - 3 - 4", -5),
        ("12 / 3 / 2", 2),
        ("+x - -1", [2, 5]),
        ("x / 0", np.inf),
        ("1 / 0", np.inf),
        ("(-8) ** 0.5", NAN),
        ("10 ** 400", np.inf),
        ("9 ** 9 ** 9 ** 9", np.inf),
        ("0 ** -1", np.inf),
        ("log10(100 * x)", [2, 2 + np.log10(4)]),
        ("log(exp(x))", [1, 4]),
        ("sqrt(x) + abs(-1)", [2, 3]),
        ("sqrt(-1)", NAN),
        ("log10(0)", -np.inf),
        ("X * y_FE", [2, 12]),
        ("b + 0", [1, 0]),
        ("1e3", 1000),
        ("5", 5),
    ],
)
def test_formula(expression: str, wanted) -> None:
    name, values = column_from(f"new = {expression}", TABLE, 2)
    assert name == "new"
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, np.broadcast_to(np.array(wanted, dtype=float), 2), rtol=1e-14)


@pytest.mark.parametrize(
    "expression",
    [
        "x.__class__",
        "x.y",
        "__import__('os')",
        "open('f')",
        "x < 1",
        "x == 1",
        "'text'",
        "b'x'",
        "x[0]",
        "[x]",
        "{x}",
        "x if x else 1",
        "lambda: 1",
        "x and 1",
        "not x",
        "~x",
        "x // 2",
        "x % 2",
        "x | 1",
        "x ^ 2",
        "x @ x",
        "1j",
        "True",
        "None",
        "...",
        "log10(x, 1)",
        "log10()",
        "log10(x=1)",
        "log10(*x)",
        "sin(x)",
        "x.log10(1)",
        "(y := 1)",
        "f'{x}'",
        "x; x",
        "x\nx",
        "x +",
        "(",
        "",
        "1 if",
        "\0",
        "x = 1",
        "= 1",
        "1_",
        "0777",
    ],
)
def test_formulas_that_are_refused(expression: str) -> None:
    with pytest.raises(DraperError):
        column_from(f"new = {expression}", TABLE, 2)


@pytest.mark.parametrize("formula", ["x", "1 = x", "a b = x", "a.b = x", "", "=", "new"])
def test_a_formula_names_its_column(formula: str) -> None:
    with pytest.raises(DraperError, match="NAME = EXPRESSION"):
        column_from(formula, TABLE, 2)


@pytest.mark.parametrize(
    "expression",
    [
        "+".join(["1"] * 20000),
        "(" * 3000 + "1" + ")" * 3000,
        "-" * 50000 + "1",
        "1" * 500,
        "1" * 9000,
        "9**" * 500 + "9",
    ],
    ids=["sum", "parentheses", "signs", "number", "longest", "powers"],
)
def test_large_formulas_end_soon(expression: str) -> None:
    began = time.perf_counter()
    with suppress(DraperError):
        column_from(f"new = {expression}", TABLE, 2)
    assert time.perf_counter() - began < 2


def test_unknown_and_text_columns() -> None:
    with pytest.raises(DraperError, match=r"'Y_fi', which is not a column[\s\S]*did you mean 'Y_fe'"):
        column_from("new = Y_fi", TABLE, 2)
    with pytest.raises(DraperError, match="'s', which is not a number"):
        column_from("new = s + 1", TABLE, 2)


# ---------------------------------------------------------- derive and reject


def test_names_become_draper_s() -> None:
    spectra = made("a", T_eff=[5000.0], logG=[4.0], M_H=[0.1], Mg_Fe=[0.2], mystery=[1])
    assert list(derive(spectra, ReadConfig()).table) == ["id", "teff", "logg", "fe_h", "mg_fe", "mystery"]


def test_two_names_of_one_label_are_kept_apart() -> None:
    result = derive(made("a", M_H=[0.1], fe_h=[0.2]), ReadConfig()).table
    assert (result["fe_h"].tolist(), result["m_h"].tolist()) == ([0.2], [0.1])
    result = derive(made("a", feh=[0.1], m_h=[0.2]), ReadConfig()).table
    assert (result["fe_h"].tolist(), result["m_h"].tolist()) == ([0.1], [0.2])


def test_rename() -> None:
    spectra = made("a", fe_h=[0.1], fe_h_corrected=[0.2])
    result = derive(spectra, ReadConfig(rename={"fe_h": "fe_h_raw", "fe_h_corrected": "fe_h"})).table
    assert (result["fe_h_raw"].tolist(), result["fe_h"].tolist()) == ([0.1], [0.2])
    with pytest.raises(DraperError, match=r"no column 'fe_hh'[\s\S]*did you mean 'fe_h'"):
        derive(spectra, ReadConfig(rename={"fe_hh": "x"}))
    with pytest.raises(DraperError, match="two columns would get the same name"):
        derive(spectra, ReadConfig(rename={"fe_h_corrected": "fe_h"}))


def test_formulas_see_new_names_and_each_other() -> None:
    config = ReadConfig(formula=("a_li = LI_FE + 1.05 + fe_h", "twice = 2 * a_li", "teff = teff / 1000"))
    result = derive(
        made("a", "b", **{"[Li/Fe]": [1.0, 2.0], "feh": [0.0, NAN], "Teff": [5000, 6000]}), config
    ).table
    np.testing.assert_allclose(result["a_li"], [2.05, NAN])
    np.testing.assert_allclose(result["twice"], [4.1, NAN])
    assert result["teff"].tolist() == [5, 6]


def test_a_formula_for_spectra_without_columns() -> None:
    spectra = Spectra(GRID, np.ones((3, 4)))
    assert derive(spectra, ReadConfig(formula=("one = 1",))).table["one"].tolist() == [1, 1, 1]
    assert derive(spectra, ReadConfig()) is spectra


def test_a_formula_may_not_differ_in_case_from_a_column() -> None:
    with pytest.raises(DraperError, match="same name"):
        derive(made("a", a_li=[1.0]), ReadConfig(formula=("A_Li = 1",)))


def test_reject() -> None:
    flux = [[1, 1, 1, 1], [1, -1, 1, 1], [-1, 1, -1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    ivar = [[1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]]
    spectra = Spectra(GRID, flux, ivar, table={"id": list("abcde")})
    for kinds, left in [((), "abcde"), (("nan",), "ab"), (("negative",), "ade"), (("empty",), "abcd"),
                        (("nan", "negative", "empty"), "a")]:  # fmt: skip
        kept, out = reject(spectra, kinds)
        assert "".join(kept.ids) == left
        assert [name for name, _ in out] == [name for name in "abcde" if name not in left]
    assert reject(spectra, ("negative", "nan"))[1] == [
        ("b", "1 negative pixels"),
        ("c", "1 negative pixels"),
        ("d", "2 bad or missing pixels"),
        ("e", "4 bad or missing pixels"),
    ]
