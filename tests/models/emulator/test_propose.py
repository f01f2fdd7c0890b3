"""Which spectra to compute next."""

import numpy as np
import pytest
import torch

from draper import TrainConfig, samples
from draper.errors import DraperError
from draper.models.emulator.model import Emulator
from draper.models.emulator.propose import best
from draper.nn.emulator import EmulatorNetwork
from draper.nn.hull import outside


@pytest.fixture(scope="module", params=["radial", "perceptron"])
def model(request: pytest.FixtureRequest) -> Emulator:
    made = Emulator(architecture=request.param, components=20, hidden=(16,))
    spectra = samples.load("rvs-grid")[:150].pixels(np.arange(0, 5000, 20))
    return made.fit(spectra, valid=0, train=TrainConfig(steps=30, progress="none"))


def test_proposed_labels_lie_among_the_training_spectra_and_are_all_different(model: Emulator) -> None:
    found = model.propose(12, seed=3)
    assert list(found) == list(model.labels.names)
    x = torch.from_numpy(model.scaled(np.stack(list(found.values()), axis=1)))
    assert not outside(x, model.network.facets).any()
    assert len(torch.unique(x, dim=0)) == 12
    again = model.propose(12, seed=3)
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_the_posterior_is_a_covariance_whose_diagonal_is_the_leverage(model: Emulator) -> None:
    network = model.network
    assert isinstance(network, EmulatorNetwork)
    x = network.points[:40] + 0.02
    with torch.no_grad():
        covariance, own = network.posterior(x, x).double(), network.leverage(x).double()
    assert torch.allclose(covariance.diagonal(), own, rtol=1e-3, atol=1e-6 * float(own.max()))
    assert torch.linalg.eigvalsh(covariance).min() > -1e-4 * float(own.max())


def test_stars_draw_proposals_to_them(model: Emulator) -> None:
    rows = samples.load("rvs-grid").table
    cool = {name: rows[name][rows["teff"] < 4700] for name in model.labels.names}
    near = np.median(model.propose(15, stars=cool)["teff"])
    assert near < np.median(model.propose(15)["teff"])


def test_proposals_are_rows_of_a_table_that_is_given(model: Emulator) -> None:
    rows = samples.load("rvs-grid").table
    table = {name: rows[name][150:400] for name in model.labels.names}
    table["id"] = np.array([f"star-{number}" for number in range(250)])
    found = model.propose(10, among=table)
    for row, name in enumerate(found["id"]):
        assert found["teff"][row] == table["teff"][int(name.removeprefix("star-"))]
    with pytest.raises(DraperError, match="fewer labels to choose from"):
        model.propose(400, among=table)
    with pytest.raises(DraperError, match="no row of the table"):
        model.propose(1, among={"teff": [9e4], "logg": [2.0], "fe_h": [0.0]})


def test_a_network_from_elsewhere_says_that_it_does_not_know(model: Emulator) -> None:
    network = EmulatorNetwork(len(model.labels), len(model.own_grid), (4,))
    foreign = Emulator.from_network(network, model.own_grid, model.labels)
    with pytest.raises(DraperError, match="does not know where it is uncertain"):
        foreign.propose(3)


def test_choices_are_those_of_the_whole_matrix(model: Emulator) -> None:
    network = model.network
    assert isinstance(network, EmulatorNetwork)
    x = network.points[:60] + 0.01
    with torch.no_grad():
        own = network.posterior(x, x).double()
        found = best(network, x, x, 8).tolist()
    for count, number in enumerate(found):
        gain = own.square().sum(1) / (own.diagonal().clamp(min=0) + network.posterior_noise)
        gain[found[:count]] = 0
        assert gain[number] >= (1 - 1e-3) * gain.max()
        own = own - torch.outer(own[number], own[number]) / (own[number, number] + network.posterior_noise)


def test_an_architecture_without_a_posterior_says_so() -> None:
    query = Emulator(architecture="query", hidden=(4,))
    spectra = samples.load("rvs-grid")[:30].pixels(np.arange(0, 5000, 500))
    query.fit(spectra, valid=0, train=TrainConfig(steps=2, progress="none"))
    with pytest.raises(DraperError, match="this architecture does not know how its error would change"):
        query.propose(3)
