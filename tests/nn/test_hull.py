"""Points beyond the hull of others count as outside if their errors do not explain it."""

import torch

from draper.nn.hull import CLEARLY, SLACK, beyond, facets, outside

RANDOM = torch.Generator().manual_seed(0)
PLANES = facets(torch.rand(300, 6, generator=RANDOM) - 0.5)
POINTS = 1.15 * (torch.rand(200, 6, generator=RANDOM) - 0.5).double()


def test_without_errors_all_points_outside_are_beyond() -> None:
    none = torch.zeros(len(POINTS), 6, 6).double()
    assert 20 < int(outside(POINTS.float(), PLANES).sum()) < 180
    assert torch.equal(beyond(POINTS, none, PLANES), outside(POINTS.float(), PLANES))


def test_errors_are_those_along_each_half_plane() -> None:
    """The same from all points and all half-planes at once."""
    roots = 0.02 * torch.randn(len(POINTS), 6, 6, generator=RANDOM).double()
    covariance = roots @ roots.mT
    normal, offset = PLANES[:, :-1].double(), PLANES[:, -1].double()
    sigma = torch.einsum("fi,nij,fj->nf", normal, covariance, normal).sqrt()
    expected = (POINTS @ normal.T + offset > SLACK + CLEARLY * sigma).any(1)
    found = beyond(POINTS, covariance, PLANES)
    assert torch.equal(found, expected)
    assert 0 < int(found.sum()) < int(outside(POINTS.float(), PLANES).sum())


def test_what_was_hardly_measured_is_never_beyond() -> None:
    unknown = torch.full((len(POINTS), 6, 6), torch.nan).double()
    assert not beyond(POINTS, unknown, PLANES).any()
    assert beyond(POINTS[:0], unknown[:0], PLANES).shape == (0,)
