"""Maps keep neighbours together, take new points, and come back from disk as they were."""

from pathlib import Path

import numpy as np
import pytest

from draper.errors import DraperError
from draper.latents import map as embedding
from draper.latents.map import Map, embed, neighbour_r2

pytest.importorskip("openTSNE")

CLUSTERS = 4


def clusters(n: int, d: int = 6, *, seed: int = 0, apart: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Return points (n, d) of Gaussian clusters, and the number of the cluster of each (n,)."""
    centres = apart * np.linalg.qr(np.random.default_rng(7).normal(size=(d, d)))[0][:CLUSTERS]
    random = np.random.default_rng(seed)
    member = random.integers(0, CLUSTERS, n)
    return centres[member] + random.normal(0, 0.5, (n, d)), member


def nearest_members(found: Map, member: np.ndarray, places: np.ndarray, number: int = 5) -> np.ndarray:
    """Return the clusters (m, number) of the nearest old points."""
    distance = np.linalg.norm(places[:, None] - found.coordinates, axis=-1)
    return member[np.argsort(distance, axis=1)[:, :number]]


@pytest.fixture(scope="module")
def made() -> tuple[Map, np.ndarray]:
    points, member = clusters(240)
    return embed(points, perplexity=15, iterations=250), member


def test_clusters_stay_clusters(made: tuple[Map, np.ndarray]) -> None:
    found, member = made
    assert found.coordinates.shape == (240, 2)
    around = nearest_members(found, member, found.coordinates, 10)
    assert (around == member[:, None]).all()
    np.testing.assert_allclose(found.coordinates.max(axis=0), -found.coordinates.min(axis=0))


def test_new_points_land_in_their_cluster(made: tuple[Map, np.ndarray]) -> None:
    found, member = made
    new, truth = clusters(50, seed=1)
    places = found.place(new)
    assert (nearest_members(found, member, places) == truth[:, None]).all()
    assert np.abs(places).max() < 1.3 * np.abs(found.coordinates).max()


def test_each_new_point_is_placed_for_itself(
    made: tuple[Map, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = made
    new, _ = clusters(12, seed=2)
    before = found.coordinates.copy()
    places = found.place(new)
    np.testing.assert_allclose(found.place(new[::-1]), places[::-1], atol=1e-6)
    np.testing.assert_allclose(found.place(new[3:4]), places[3:4], atol=1e-6)
    monkeypatch.setattr(embedding, "blocks", lambda n: (slice(i, i + 5) for i in range(0, n, 5)))
    np.testing.assert_allclose(found.place(new), places, atol=1e-6)
    np.testing.assert_array_equal(found.coordinates, before)
    assert found.place(np.empty((0, 6))).shape == (0, 2)


def test_same_seed_same_map() -> None:
    points, _ = clusters(100)
    first, second, other = (embed(points, perplexity=10, iterations=60, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.coordinates, second.coordinates)
    assert not np.array_equal(first.coordinates, other.coordinates)


def test_a_loaded_map_places_alike(made: tuple[Map, np.ndarray], tmp_path: Path) -> None:
    found, _ = made
    again = Map.load(found.save(tmp_path / "map.npz"))
    assert [file.name for file in tmp_path.iterdir()] == ["map.npz"]
    assert repr(again) == repr(found) == "Map(240 points of 6 numbers, perplexity 15)"
    for name in Map.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    new, _ = clusters(20, seed=5)
    np.testing.assert_array_equal(again.place(new), found.place(new))


def test_long_points_are_reduced() -> None:
    """Clusters in a few directions of many pixels are found in as many components."""
    points, member = clusters(150)
    mixing = np.random.default_rng(1).normal(size=(6, 400))
    noise = np.random.default_rng(2).normal(0, 0.1, (170, 400))
    found = embed(points @ mixing + noise[:150], perplexity=10, iterations=150, components=5)
    assert found.data.shape == (150, 5)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(5), atol=1e-5)
    new, truth = clusters(20, seed=1)
    places = found.place(new @ mixing + noise[150:])
    assert (nearest_members(found, member, places) == truth[:, None]).all()


def test_scales_do_not_count_where_points_are_standardised() -> None:
    points, member = clusters(120)
    loud = np.column_stack([points, 1e4 * np.random.default_rng(0).normal(size=120), np.full(120, 3.0)])
    fair, unfair = (
        embed(loud, perplexity=10, iterations=100, standardise=standardise) for standardise in (True, False)
    )
    np.testing.assert_allclose(fair.data[:, :7].std(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(fair.data[:, 7], 0)
    told = [np.mean(nearest_members(found, member, found.coordinates, 6)[:, 1:] == member[:, None])
            for found in (fair, unfair)]  # fmt: skip
    assert told[0] > 0.9 > 0.6 > told[1]


def test_neighbour_r2_what_a_map_is_ordered_by() -> None:
    random = np.random.default_rng(0)
    places = random.uniform(size=(800, 2))
    assert neighbour_r2(places, places[:, 0]) > 0.97
    # The mean of k values that know nothing has 1/k of their variance.
    assert neighbour_r2(places, random.normal(size=800), 10) == pytest.approx(-0.1, abs=0.06)
    some = np.where(random.uniform(size=800) < 0.3, np.nan, places[:, 1])
    assert neighbour_r2(places, some) > 0.97
    assert np.isnan(neighbour_r2(places, np.ones(800)))
    # A point is not its own neighbour, even where others stand in the same place.
    same = np.zeros((40, 2))
    assert neighbour_r2(same, random.normal(size=40)) < 0.1


def test_errors_say_what_to_do(tmp_path: Path, made: tuple[Map, np.ndarray]) -> None:
    found, _ = made
    points, _ = clusters(60)
    with pytest.raises(DraperError, match="perplexity=19"):
        embed(points)
    with pytest.raises(DraperError, match="finite"):
        embed(np.where(points > 5, np.nan, points), perplexity=5)
    with pytest.raises(DraperError, match="two axes"):
        embed(points[0])
    with pytest.raises(DraperError, match="at least two"):
        embed(np.ones((60, 3)), perplexity=5)
    with pytest.raises(DraperError, match="components is too small"):
        embed(points, perplexity=5, components=1)
    with pytest.raises(DraperError, match="another dimension"):
        found.place(points[:, :4])
    with pytest.raises(DraperError, match=r"\.npz"):
        found.save(tmp_path / "map.pkl")
    with pytest.raises(DraperError, match="no such file"):
        Map.load(tmp_path / "map.npz")
    np.savez(tmp_path / "other.npz", flux=np.ones(3))
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    np.savez(tmp_path / "pickled.npz", format=np.array([{}], dtype=object))
    for name in ("other", "broken", "pickled"):
        with pytest.raises(DraperError, match="no map"):
            Map.load(tmp_path / f"{name}.npz")


def test_without_opentsne_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openTSNE", None)
    with pytest.raises(DraperError, match=r"draper\[map\]"):
        embed(clusters(60)[0], perplexity=5)
