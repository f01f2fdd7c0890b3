"""What crashed or went wrong in GANDALF, and does not here (docs/howto/gandalf.md lists it)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from factor_spectra import QUICK, SMALL, labelled, rms, stars

from draper import Spectra, load
from draper.errors import DraperError
from draper.models.disentangler.model import Disentangler
from draper.nn.discriminators import Adversarial
from draper.nn.module import Batch
from draper.testing.checks import same_state
from draper.train.checkpoint import Checkpoint
from draper.train.feed import Feed

ADVERSARIAL = ("bins", "joint", "continuous", "hsic")


def gandalf(**options) -> Disentangler:
    return Disentangler(**{"remove": ("teff",), "engine": "bins", "probe": False, **SMALL, **options})


def batch_of(model: Disentangler, spectra: Spectra) -> Batch:
    """Return spectra as the model's module sees them in training, in their order."""
    arrays = model.training_arrays(spectra)
    batch: Batch = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    drawn = {name: torch.randn(len(spectra), width) for name, width in model.noise.items()}
    return {**model.transformed(batch), **drawn}


def parameters(model: Disentangler) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.own_module.parameters()]


def differs(one: Disentangler, other: Disentangler) -> bool:
    return not all(map(torch.equal, parameters(one), parameters(other)))


# ------------------------------------------------------------------ labels and discriminators


@pytest.mark.parametrize("engine", ["bins", "continuous", "hsic"])
def test_several_labels_have_a_discriminator_each(engine: str) -> None:
    """GANDALF: one optimiser of all discriminators dies at the first step."""
    spectra = stars(120)
    found = gandalf(remove=("teff", "hidden"), keep=("fe_h",), engine=engine).fit(spectra, train=QUICK)
    network = found.own_module
    assert isinstance(network, Adversarial)
    batch = batch_of(found, spectra)
    losses = network.discriminator_losses(
        network.latents(batch), network.labels(batch)[:, network.target_labels]
    )
    assert losses.shape == (3,)
    assert len(set(losses.tolist())) == 3
    if engine == "hsic":
        return
    # Each discriminator's loss moves its own weights, and no other's.
    for number, loss in enumerate(losses):
        gradients = torch.autograd.grad(loss, list(network.critic.parameters()), retain_graph=True)
        for gradient in gradients:
            moved = gradient.flatten(1).abs().amax(1) > 0
            assert moved.tolist() == [number == other for other in range(3)]


def test_a_discriminator_without_classes_reads_the_label_of_its_own_star() -> None:
    """GANDALF: without --discretize each discriminator is compared with the labels of another star."""
    found = gandalf(remove=("teff", "hidden"), engine="continuous").fit(stars(60), train=QUICK)
    network, batch = found.own_module, batch_of(found, stars(60))
    assert isinstance(network, Adversarial)
    z = network.latents(batch)
    labels = network.labels(batch)[:, network.target_labels]
    mean, log_error = network.critic(z).unbind(-1)
    error = log_error.clamp(-7, 3)
    expected = (0.5 * ((labels.T - mean) / error.exp()).square() + error).mean(1)
    torch.testing.assert_close(network.discriminator_losses(z, labels), expected)


def test_a_bin_holds_the_stars_between_its_ends() -> None:
    found = gandalf(bins=4).fit(stars(200), valid=0, train=QUICK)
    network, batch = found.own_module, batch_of(found, stars(200))
    assert isinstance(network, Adversarial)
    teff = stars(200).table["teff"]
    edges = np.linspace(teff.min(), teff.max(), 5)
    expected = np.searchsorted(edges[1:-1], teff, side="right")
    bins = network.bin_numbers(network.labels(batch)[:, network.target_labels])[:, 0].numpy()
    assert np.mean(bins == expected) > 0.99  # but for rounding at the edges
    assert set(bins) == {0, 1, 2, 3}


@pytest.mark.parametrize("engine", ["bottleneck", *ADVERSARIAL])
def test_an_outlier_leaves_bins_empty(engine: str) -> None:
    """GANDALF: the output is as wide as the occupied bins of the first label."""
    spectra = stars(120)
    fe_h = np.array(spectra.table["fe_h"])
    fe_h[7] = 40.0
    wide = spectra.with_columns(fe_h=fe_h)
    bins = {"bins": 6} if engine in ("bins", "joint") else {}
    found = gandalf(remove=("teff", "fe_h"), engine=engine, **bins).fit(wide, valid=0, train=QUICK)
    assert np.isfinite(found.predict(wide).median).all()
    assert found.labels["fe_h"].high == 40.0
    if engine == "bins":
        network = found.own_module
        assert isinstance(network, Adversarial)
        classes = network.bin_numbers(network.labels(batch_of(found, wide))[:, network.target_labels])
        assert sorted(set(classes[:, 1].tolist())) == [0, 5]
        assert len(set(classes[:, 0].tolist())) == 6


@pytest.mark.parametrize("engine", ["bottleneck", "bins"])
def test_a_constant_label_is_named(engine: str) -> None:
    flat = stars(60).with_columns(fe_h=np.zeros(60))
    with pytest.raises(DraperError, match="'fe_h' does not vary") as error:
        gandalf(keep=("fe_h",), engine=engine).fit(flat, train=QUICK)
    assert "leave it out" in str(error.value)
    unknown = stars(60).with_columns(fe_h=np.full(60, np.nan))
    with pytest.raises(DraperError, match="no finite value"):
        gandalf(keep=("fe_h",), engine=engine).fit(unknown, train=QUICK)


def test_labels_are_named_and_not_guessed_by_their_place() -> None:
    """Columns in another order, and others beside them, change nothing."""
    spectra = stars(60)
    moved = Spectra(
        spectra.grid, spectra.flux, spectra.ivar,
        {name: spectra.table[name] for name in ("hidden", "fe_h", "id", "teff")}, spectra.quantity,
    )  # fmt: skip
    one, other = (gandalf(keep=("fe_h",)).fit(data, train=QUICK) for data in (spectra, moved))
    assert same_state(one, other)
    np.testing.assert_array_equal(one.predict(moved).median, other.predict(spectra).median)


# ------------------------------------------------------------------- networks and batches


@pytest.mark.parametrize("engine", ["bottleneck", "bins", "continuous"])
@pytest.mark.parametrize("sizes", [(5,), (7, 6, 5)], ids=str)
def test_layers_may_be_of_any_number(engine: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    """GANDALF: with one hidden layer it trains to the end, then fails before anything is saved."""
    options = {"encoder": sizes, "decoder": sizes, "critic": sizes, "engine": engine}
    found = gandalf(**options).fit(stars(60), train=QUICK, out=tmp_path / "model")
    assert f"encoder={list(sizes)}" in found.summary()
    again = load(tmp_path / "model")
    assert isinstance(again, Disentangler)
    np.testing.assert_array_equal(again.encode(stars(5)), found.encode(stars(5)))


@pytest.mark.parametrize("engine", ["bottleneck", *ADVERSARIAL])
def test_batches_larger_than_the_training_set(engine: str) -> None:
    train = QUICK.replace(batch_size=256)
    large = gandalf(engine=engine).fit(stars(40), train=train)
    whole = gandalf(engine=engine).fit(stars(40), train=QUICK.replace(batch_size=36))
    assert not differs(large, whole), "all rows are one batch"


@pytest.mark.parametrize("engine", ["bottleneck", *ADVERSARIAL])
def test_a_last_batch_of_a_single_spectrum(engine: str) -> None:
    found = gandalf(engine=engine).fit(stars(60), valid=stars(17, seed=2), train=QUICK.replace(batch_size=16))
    assert np.isfinite(found.history[-1]["valid/total"])
    assert np.isfinite(gandalf(engine=engine).fit(stars(3), valid=0, train=QUICK).encode(stars(3))).all()


# ------------------------------------------------------------------------------- lambda


def test_one_strength_for_all_or_one_for_each() -> None:
    """GANDALF divides a single lambda by the number of labels without saying so."""
    spectra, labels = stars(80), {"remove": ("teff", "hidden"), "keep": ("fe_h",)}
    fits = [
        gandalf(strength=strength, **labels).fit(spectra, train=QUICK)
        for strength in ((0.5,), (0.5, 0.5, 0.5), (0.5, 0.5, 0.1))
    ]
    assert not differs(fits[0], fits[1])
    assert differs(fits[0], fits[2])
    network = fits[2].own_module
    assert isinstance(network, Adversarial)
    torch.testing.assert_close(network.signed_strength, torch.tensor([0.5, 0.5, -0.1]))
    removing = [
        gandalf(strength=strength, engine="bottleneck", **labels).fit(spectra, train=QUICK)
        for strength in ((500.0,), (500.0, 500.0), (500.0, 0.0))
    ]
    assert not differs(removing[0], removing[1])
    assert differs(removing[0], removing[2])


def test_joint_discriminator_pays_its_strength_once() -> None:
    found = gandalf(remove=("teff", "hidden"), engine="joint", strength=(0.2,), bins=3)
    network = found.fit(stars(60), train=QUICK).own_module
    batch = batch_of(found, stars(60))
    terms = network.loss(batch, network.shared(batch), "model", 1.0)
    torch.testing.assert_close(terms["total"], terms["misfit"] - 0.2 * terms["discriminators"])


@pytest.mark.parametrize("ramp", [1, 0.5])
def test_strength_may_rise_over_the_run(ramp: float) -> None:
    """GANDALF refuses the number 3, and takes '3' to fail later."""
    spectra = stars(80)
    at_once, rising = (gandalf(strength=(0.5,), ramp=value).fit(spectra, train=QUICK) for value in (0, ramp))
    assert differs(at_once, rising)
    network, batch = rising.own_module, batch_of(rising, spectra)
    shared = network.shared(batch)
    for progress, share in ((0.0, 0.0), (ramp / 2, 0.5), (ramp, 1.0), (1.0, 1.0)):
        terms = network.loss(batch, shared, "model", progress)
        torch.testing.assert_close(terms["total"], terms["misfit"] - share * 0.5 * terms["discriminators"])
    plain = at_once.own_module.loss(batch, at_once.own_module.shared(batch), "model", 0.0)
    torch.testing.assert_close(plain["total"], plain["misfit"] - 0.5 * plain["discriminators"])


def test_discriminators_are_no_part_of_a_run_without_strength() -> None:
    none = gandalf(engine="none").fit(stars(60), train=QUICK)
    assert "critic" not in none.own_module.players
    zero = gandalf(strength=(0.0,)).fit(stars(60), train=QUICK)
    assert "critic" in zero.own_module.players
    terms = zero.history[-1]
    assert terms["model/total"] == pytest.approx(terms["model/misfit"])


# ------------------------------------------------------------------- what is in the data


def test_a_flux_above_one_can_be_rebuilt() -> None:
    """GANDALF's decoder ends in a sigmoid."""
    spectra = stars(400)
    bright = Spectra(spectra.grid, 3 * spectra.flux + 2, spectra.ivar / 9, spectra.table, "flux", "Jy")
    found = gandalf(engine="none").fit(bright, train=QUICK.replace(steps=200))
    made = found.generate(bright)
    assert (made.quantity, made.unit) == ("flux", "Jy")
    assert made.flux.max() > 4
    assert rms(made.flux - bright.flux) < 0.5 * rms(bright.flux - bright.flux.mean(0))


def test_a_missing_label_is_not_zero() -> None:
    """GANDALF writes 0 K for a missing label; here it neither weighs nor moves what labels are scaled by."""
    spectra, known = stars(200), np.arange(200) % 3 > 0
    some = labelled(spectra, known, "teff")
    found = gandalf().fit(some, valid=0, train=QUICK)
    assert found.labels["teff"].low == spectra.table["teff"][known].min()
    expected = found.labels.scale(spectra.table["teff"][known][:, None])
    np.testing.assert_allclose(found.own_module.centre, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.own_module.spread, expected.std(), rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["2m19541819+1749140", "TIC 42/x", "étoile*α", "a,b;\"c'", "../../x", " ", "-1", "nan"]
)
def test_names_of_stars_are_any_text(name: str, tmp_path: Path) -> None:
    """GANDALF: names are parts of paths, and lower-case ones are not found."""
    ids = np.array([f"{name}{row}" for row in range(60)])
    spectra = stars(60).with_columns(id=ids)
    found = gandalf().fit(spectra, train=QUICK.replace(steps=2), out=tmp_path / "model")
    assert found.predict(spectra).ids.tolist() == ids.tolist()
    assert found.generate(spectra[:2]).ids.tolist() == ids[:2].tolist()
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_rows_of_one_star_stand_on_one_side() -> None:
    """GANDALF splits rows, so that a star is learnt from and judged by."""
    spectra = stars(120).with_columns(id=np.repeat([f"star {number}" for number in range(12)], 10))
    dataset = gandalf().gather(spectra, 0.25, 0)
    training, held_out = (set(parts["spectra"].table["id"]) for parts in (dataset.training, dataset.held_out))
    assert len(held_out) == 3
    assert not training & held_out


# ------------------------------------------------------------------- seeds and resumption


@pytest.mark.parametrize("engine", ADVERSARIAL)
def test_the_same_seed_twice_gives_the_same_model(engine: str) -> None:
    """GANDALF's seed is that of the split alone."""
    one, other, third = (
        gandalf(engine=engine).fit(stars(80), train=QUICK.replace(seed=seed)) for seed in (1, 1, 2)
    )
    assert same_state(one, other)
    assert differs(one, third)


@pytest.fixture
def interrupted(monkeypatch) -> Callable[[Disentangler, Spectra, Path], None]:
    """Return what begins a run and kills it after its first checkpoint."""

    def begin(model: Disentangler, spectra: Spectra, out: Path) -> None:
        written = Checkpoint.write

        def write_and_die(self: Checkpoint, path: Path) -> Path:
            written(self, path)
            raise ProcessLookupError

        with monkeypatch.context() as context:
            context.setattr(Checkpoint, "write", write_and_die)
            with pytest.raises(ProcessLookupError):
                model.fit(spectra, valid=0.25, train=QUICK.replace(checkpoint_every=5), out=out)

    return begin


def test_resuming_keeps_the_split(
    interrupted: Callable[[Disentangler, Spectra, Path], None], tmp_path: Path, monkeypatch
) -> None:
    """GANDALF divides anew when it resumes: stars of the test set are learnt from."""
    spectra, out, train = stars(80), tmp_path / "model", QUICK.replace(checkpoint_every=5)
    parts: list[list[int]] = []
    made = Disentangler.feed

    def noted(self: Disentangler, dataset, part, *rest, **options) -> Feed:
        parts.append(part["spectra"].subset.rows.tolist())
        return made(self, dataset, part, *rest, **options)

    monkeypatch.setattr(Disentangler, "feed", noted)
    interrupted(gandalf(), spectra, out)
    resumed = gandalf().fit(spectra, valid=0.25, train=train, out=out, resume=True)
    learnt, held_out = parts[:2]
    assert parts[2:] == [learnt, held_out]
    assert len(held_out) == 20
    assert not set(learnt) & set(held_out)
    assert same_state(gandalf().fit(spectra, valid=0.25, train=train), resumed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda call: call | {"train": call["train"].replace(seed=1)}, "other data|other options"),
        (lambda call: call | {"valid": 0.5}, "other data"),
        (lambda call: call | {"data": stars(80, seed=1)}, "other data"),
        (lambda call: call | {"model": gandalf(strength=(0.3,))}, "other options"),
        (lambda call: call | {"train": call["train"].replace(learning_rate=1e-3)}, "other options"),
    ],
    ids=["seed", "part", "stars", "strength", "rate"],
)
def test_resuming_refuses_what_would_mix_the_parts(
    interrupted: Callable[[Disentangler, Spectra, Path], None], tmp_path: Path, change, words: str
) -> None:
    interrupted(gandalf(), stars(80), tmp_path / "model")
    call = change(
        {"model": gandalf(), "data": stars(80), "valid": 0.25, "train": QUICK.replace(checkpoint_every=5)}
    )
    with pytest.raises(DraperError, match=words):
        call["model"].fit(
            call["data"], valid=call["valid"], train=call["train"], out=tmp_path / "model", resume=True
        )


def test_several_models_are_trained_in_one_process() -> None:
    """GANDALF keeps its settings in globals of its modules."""
    first = gandalf().fit(stars(60), train=QUICK)
    before = parameters(first)
    gandalf(keep=("fe_h",), engine="continuous", latent=3).fit(stars(60, seed=1), train=QUICK)
    assert all(map(torch.equal, parameters(first), before))
