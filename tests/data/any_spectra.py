"""Any spectra that there can be, for property tests, and what it means that two sets are identical."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from draper.data.grid import Grid
from draper.data.spectra import Correlation, Spectra

finite = st.floats(-(2.0**100), 2.0**100, width=32)
words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8)
names = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True),
    st.sampled_from(["flux", "IVAR", "[Fe/H]", "a b", "é"]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def grids(draw):
    if draw(st.integers(0, 4)) == 0:
        return Grid.coefficients(
            draw(st.lists(names.filter(str.isascii), min_size=1, max_size=5, unique=True))
        )
    steps = draw(st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
    wavelength = 3000 + np.cumsum(steps)
    edges = np.stack([wavelength - 0.004, wavelength + 0.005], axis=1) if draw(st.booleans()) else None
    power = draw(st.sampled_from([None, 1234.5, "array"]))
    windows = ((wavelength[0], wavelength[-1]),) if draw(st.booleans()) else ()
    return Grid(
        wavelength,
        edges=edges,
        windows=windows,
        resolving_power=wavelength / 7 if power == "array" else power,
    )


@st.composite
def sets(draw):
    grid = draw(grids())
    n, p = draw(st.integers(0, 4)), len(grid)
    columns = {
        "f": hnp.arrays(np.float64, n, elements=st.floats(width=64)),
        "i": hnp.arrays(np.int64, n),
        "b": hnp.arrays(np.bool_, n),
        "s": st.lists(words, min_size=n, max_size=n).map(lambda values: np.array(values, dtype=np.str_)),
    }
    table = {
        name: draw(columns[draw(st.sampled_from("fibs"))])
        for name in draw(st.lists(names, max_size=4, unique_by=str.lower))
    }
    correlation = None
    if draw(st.booleans()):
        correlation = Correlation(
            draw(hnp.arrays(np.float32, (2, p, p), elements=finite)),
            draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1))),
        )
    return Spectra(
        grid,
        draw(hnp.arrays(np.float32, (n, p), elements=finite)),
        draw(hnp.arrays(np.float32, (n, p), elements=st.floats(0, 2.0**100, width=32))),
        table=table,
        quantity=draw(st.sampled_from(["flux", "normalised flux", "transit depth", "coefficients"])),
        unit=draw(words),
        correlation=correlation,
        meta=draw(st.dictionaries(words, json_values, max_size=3)),
    )


def same(left, right):
    return left.dtype.newbyteorder("=") == right.dtype.newbyteorder("=") and np.array_equal(
        left, right, equal_nan=left.dtype.kind == "f"
    )


def assert_identical(found, expected):
    assert found.flux.tobytes() == expected.flux.tobytes()
    assert found.ivar.tobytes() == expected.ivar.tobytes()
    assert found.grid.names == expected.grid.names
    assert found.grid.windows == expected.grid.windows
    for part in ("wavelength", "edges", "resolving_power"):
        one, other = getattr(found.grid, part), getattr(expected.grid, part)
        assert type(one) is type(other)
        assert one is None or np.array_equal(one, other)
    assert list(found.table) == list(expected.table)
    for name, column in expected.table.items():
        if column.dtype.kind == "U":
            assert found.table[name].dtype.kind == "U"
            assert found.table[name].tolist() == column.tolist()
        else:
            assert same(found.table[name], column)
    assert (found.quantity, found.unit, dict(found.meta)) == (
        expected.quantity, expected.unit, dict(expected.meta),
    )  # fmt: skip
    assert (found.correlation is None) == (expected.correlation is None)
    if expected.correlation is not None:
        assert same(found.correlation.of(slice(None)), expected.correlation.of(slice(None)))
