"""The reference model, made spectra with known truth, and the checks that every model must pass.

Write your own model by reading :class:`LinearAutoencoder`; check it with::

    from draper.testing import CHECKS

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_model(check, tmp_path):
        check("my-model", tmp_path)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from draper.configs.linear import LinearConfig
from draper.configs.train import TrainConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra, Subset
from draper.errors import DraperError
from draper.instrument.pipeline import Pipeline, Standardize
from draper.models.base import Model
from draper.nn.linear import LinearNetwork
from draper.nn.module import Batch
from draper.registry import config_class, model_class
from draper.results.estimates import Estimates
from draper.train.checkpoint import Checkpoint


class LinearAutoencoder(Model):
    """A linear autoencoder with linear label heads: about the shortest complete model.

    Examples
    --------
    >>> model = LinearAutoencoder(latent=4, labels=["teff"])
    >>> train = TrainConfig(epochs=2, threads=1, progress="none")
    >>> model.fit(made_spectra(200), train=train).encode(made_spectra(3)).shape
    (3, 4)
    """

    name: ClassVar[str] = "linear"
    config: LinearConfig

    def design(self, train: Subset) -> tuple[LabelSet, Pipeline]:
        """Scale labels by their ranges, and spectra by their mean and scatter."""
        labels = LabelSet.from_table(train.table, self.config.labels)
        return labels, Pipeline([Standardize.fit(train.batches())])

    def build(self, grid: Grid, labels: LabelSet) -> LinearNetwork:
        """Return a new network."""
        return LinearNetwork(len(grid), self.config.latent, len(labels), self.config.start)

    def arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return flux, weights and scaled labels; a label that is missing is NaN."""
        arrays = {"flux": spectra.flux, "ivar": spectra.ivar}
        if self.labels:
            scaled = self.labels.scale(self.labels.read(spectra.table))
            arrays["labels"] = scaled.astype(np.float32)
        return arrays

    @property
    def network(self) -> LinearNetwork:
        """The network, by its own type."""
        return cast(LinearNetwork, self.own_module)

    def encode(self, spectra: Spectra) -> NDArray[np.float32]:
        """Return the latent (n, latent)."""
        network = self.network
        z: NDArray[np.float32]
        (z,) = self.apply(spectra, lambda flux, ivar: (network.encoder(flux),), (self.config.latent,))
        return z

    def generate(self, spectra: Spectra) -> Spectra:
        """Return the reconstruction of each spectrum; pixels that were bad are filled in."""
        network = self.network

        def reconstruct(flux: Tensor, ivar: Tensor) -> tuple[Tensor, ...]:
            return self.pipeline.inverse(network.decoder(network.encoder(flux)), ivar)[:1]

        (flux,) = self.apply(spectra, reconstruct, (len(self.own_grid),))
        return Spectra(
            self.own_grid,
            flux,
            table=spectra.table,
            quantity=spectra.quantity,
            unit=spectra.unit,
            meta=spectra.meta,
        )

    def predict(self, spectra: Spectra) -> Estimates:
        """Return labels with their held-out scatter; flagged where a spectrum is unlike the training set."""
        network = self.network
        if not self.labels:
            raise DraperError(
                "this model was trained without labels", hint="train with labels=[...] (--labels)"
            )

        def infer(flux: Tensor, ivar: Tensor) -> tuple[Tensor, ...]:
            z = network.encoder(flux)
            return network.predicted(z), network.misfit(flux, ivar, z)[:, None]

        scaled, misfit = self.apply(spectra, infer, (len(self.labels), 1))
        median = self.labels.unscale(scaled)
        width = self.labels.unscale(network.sigma[None].cpu().numpy()) - self.labels.unscale(
            np.zeros((1, len(self.labels)))
        )
        return Estimates(
            self.labels,
            median,
            np.broadcast_to(width, median.shape),
            spectra.ids,
            flags={
                "outside": misfit[:, 0] > float(network.limit),
                "label_range": ~self.labels.inside(median),
            },
        )

    def citation(self) -> str:
        """Return BibTeX of what a user of this model should cite."""
        return "@software{draper, author = {{the draper developers}}, title = {draper}, year = {2026}}"


# ------------------------------------------------------------- made spectra


def made_spectra(n: int, *, pixels: int = 96, snr: float = 100.0, seed: int = 0) -> Spectra:
    """Return spectra of a few lines whose depths follow three labels, with noise of a known size.

    Examples
    --------
    >>> made_spectra(2)
    Spectra(2 x 96 px, normalised flux, 8460.000-8700.000 A vacuum, columns: id, teff, logg, fe_h)
    """
    grid = Grid.from_wavelength(np.linspace(8460, 8700, pixels), medium="vacuum", resolving_power=2000)
    lines = np.random.default_rng(7)
    centres, widths = lines.uniform(8465, 8695, 24), lines.uniform(2, 6, 24)
    pull = lines.normal(0, 1, (3, 24))
    random = np.random.default_rng([seed, n])
    unit = random.uniform(0, 1, (n, 3))
    depth = 0.35 / (1 + np.exp(-(unit - 0.5) @ pull))
    profile = np.exp(-0.5 * ((grid.vacuum - centres[:, None]) / widths[:, None]) ** 2)
    flux = np.exp(-depth @ profile) + random.normal(0, 1 / snr, (n, pixels))
    table = {
        "id": np.array([f"star-{seed}-{row}" for row in range(n)], dtype=str),
        "teff": 4000 + 3000 * unit[:, 0],
        "logg": 5 * unit[:, 1],
        "fe_h": -2 + 2.5 * unit[:, 2],
    }
    return Spectra(
        grid, flux, np.full((n, pixels), snr**2), table, "normalised flux", meta={"source": "made"}
    )


# --------------------------------------------------------------- the checks

QUICK = TrainConfig(epochs=6, batch_size=32, threads=1, matmul="highest", progress="none", checkpoint_every=5)


def new(name: str) -> Any:
    """Return an unfitted model with the options of its config's ``example``."""
    return model_class(name)(config_class(name)(**config_class(name).example))


def fitted(name: str, **train: Any) -> Any:
    """Return a model after a short training on made spectra."""
    return new(name).fit(made_spectra(160), train=QUICK.replace(**train))


def same_state(one: Any, other: Any) -> bool:
    """Whether two models agree in every bit of every array."""
    a, b = one.state(), other.state()
    return a.keys() == b.keys() and all(
        torch.equal(torch.nan_to_num(a[k].double()), torch.nan_to_num(b[k].double())) for k in a
    )


def outputs(model: Any, spectra: Spectra) -> list[NDArray[Any]]:
    """Return what every verb says about some spectra."""
    found: list[NDArray[Any]] = []
    if "encode" in model.verbs:
        found.append(model.encode(spectra))
    if "predict" in model.verbs:
        found.append(model.predict(spectra).median)
    if "generate" in model.verbs and model.accepts == "own":
        found.append(np.asarray(model.generate(spectra).flux))
    return found


def refused(function: Callable[[], Any]) -> DraperError:
    """Return the error that a call must raise."""
    try:
        function()
    except DraperError as error:
        return error
    raise AssertionError("this must be refused, and is not")


def check_config_rejects_unknown(name: str, folder: Path) -> None:
    """An option that does not exist is refused, and the nearest right one named."""
    config = config_class(name)
    option = next(iter(config.model_fields))
    error = refused(lambda: config(**{f"{option}x": 1}))
    assert option in str(error.hint), error


def check_fit_lowers_loss(name: str, folder: Path) -> None:
    """Fit returns the model itself, and its loss is lower at the end."""
    model = new(name)
    assert model.fit(made_spectra(160), train=QUICK.replace(epochs=20)) is model
    totals = [
        {k: v for k, v in row.items() if k.startswith("valid/") and k.endswith("total")}
        for row in model.history
    ]
    totals = [row for row in totals if row]
    assert sum(totals[-1].values()) < sum(totals[0].values()), totals


def check_gradients_by_player(name: str, folder: Path) -> None:
    """Every trainable parameter gets a gradient from one player, and belongs to no other."""
    model = fitted(name)
    module = model.own_module
    spectra = made_spectra(16, seed=3)
    batch: Batch = {k: torch.from_numpy(np.array(v)) for k, v in model.arrays(spectra).items()}
    if "flux" in batch:
        flux, ivar = model.pipeline(batch["flux"], batch["ivar"])
        batch = {**batch, "flux": flux, "ivar": ivar}
    batch = {**batch, **{k: torch.randn(16, width) for k, width in model.noise.items()}}
    owners: dict[nn.Parameter, str] = {}
    for player in module.players:
        shared = module.shared(batch)
        if player != module.players[-1]:
            shared = {k: tensor.detach() for k, tensor in shared.items()}
        parameters = [p for p in module.parameters_of(player) if p.requires_grad]
        total = module.loss(batch, shared, player, 0.5)["total"]
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients), player
        assert not set(parameters) & set(owners), f"{player} shares parameters with another player"
        owners |= dict.fromkeys(parameters, player)
    missing = [k for k, p in module.named_parameters() if p.requires_grad and p not in owners]
    assert not missing, f"no player moves {missing}"


def check_same_seed_same_weights(name: str, folder: Path) -> None:
    """The seed decides everything, whatever torch's own generator has done before."""
    one = fitted(name, seed=5)
    torch.rand(3)
    assert same_state(one, fitted(name, seed=5))
    assert not same_state(one, fitted(name, seed=6))


def check_resume_is_exact(name: str, folder: Path) -> None:
    """A run that is interrupted and resumed equals one that is not, bit for bit."""
    whole = fitted(name)
    written = Checkpoint.write
    calls = []

    def write_and_die(self: Any, path: Path) -> Path:
        result = written(self, path)
        calls.append(path)
        if len(calls) == 2:
            raise ProcessLookupError
        return result

    Checkpoint.write = write_and_die  # type: ignore[assignment,method-assign]
    try:
        new(name).fit(made_spectra(160), train=QUICK, out=folder / "run")
    except ProcessLookupError:
        pass
    finally:
        Checkpoint.write = written  # type: ignore[method-assign]
    assert len(calls) == 2, "the run ended before it could be interrupted"
    resumed = new(name).fit(made_spectra(160), train=QUICK, out=folder / "run", resume=True)
    assert same_state(whole, resumed)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.history]
    assert rows == [{k: v for k, v in row.items() if k != "seconds"} for row in whole.history]


def check_save_and_load(name: str, folder: Path) -> None:
    """A loaded model says exactly what the saved one said."""
    from draper.models.artifact import read

    model, spectra = fitted(name), made_spectra(20, seed=9)
    loaded = read(model.save(folder / "model"))
    assert same_state(model, loaded)
    assert loaded.config == model.config
    for before, after in zip(outputs(model, spectra), outputs(loaded, spectra), strict=True):
        assert np.array_equal(before, after, equal_nan=True)


def check_gaps_are_tolerated(name: str, folder: Path) -> None:
    """Missing labels and bad pixels are tolerated; NaN flux with a weight is refused."""
    spectra = made_spectra(160)
    random = np.random.default_rng(0)
    flux, ivar = np.array(spectra.flux), np.array(spectra.ivar)
    bad = random.random(flux.shape) < 0.1
    flux[bad], ivar[bad] = np.nan, 0
    ivar[3] = 0
    table = dict(spectra.table)
    for label in ("teff", "logg", "fe_h"):
        table[label] = np.where(random.random(len(spectra)) < 0.2, np.nan, table[label])
    broken = Spectra(spectra.grid, flux, ivar, table, spectra.quantity)
    model = new(name).fit(broken, train=QUICK)
    for output in outputs(model, broken):
        assert np.isfinite(output).all()
    error = refused(lambda: Spectra(spectra.grid, np.where(bad, np.nan, spectra.flux), spectra.ivar))
    assert "ivar" in str(error)


def check_wrong_grid_and_labels(name: str, folder: Path) -> None:
    """A wrong grid or label is refused with both sides named."""
    model = fitted(name)
    if model.accepts == "own":
        other = made_spectra(4, pixels=90)
        error = refused(lambda: outputs(model, other))
        assert "96 px" in str(error), error
        assert "90 px" in str(error), error
    if model.labels:
        renamed = made_spectra(60).with_columns(teff=None, teffx=np.linspace(4000, 5000, 60))
        error = refused(lambda: new(name).fit(renamed, train=QUICK))
        assert "teffx" in str(error), error


def check_any_number(name: str, folder: Path) -> None:
    """Verbs work on one spectrum and on none, and one spectrum gives what it gives among others."""
    model, spectra = fitted(name), made_spectra(300, seed=4)
    for number in (0, 1):
        for output in outputs(model, spectra[:number]):
            assert len(output) == number
    for among, alone in zip(outputs(model, spectra), outputs(model, spectra[7:8]), strict=True):
        np.testing.assert_allclose(among[7:8], alone, rtol=1e-4, atol=1e-4)


CHECKS: tuple[Callable[[str, Path], None], ...] = (
    check_config_rejects_unknown,
    check_fit_lowers_loss,
    check_gradients_by_player,
    check_same_seed_same_weights,
    check_resume_is_exact,
    check_save_and_load,
    check_gaps_are_tolerated,
    check_wrong_grid_and_labels,
    check_any_number,
)
"""Every check takes the name of a registered model and an empty folder."""
