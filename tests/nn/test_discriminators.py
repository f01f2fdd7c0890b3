"""Discriminators: the sign of their losses in the loss of the encoder, and who trains which weights."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from draper.nn.discriminators import Adversarial, Discriminators
from draper.nn.disentangle import OUTSIDE, Sizes
from draper.nn.module import Batch

ROWS, PIXELS, LATENT = 60, 8, 3
ENGINES = ("bins", "joint", "continuous", "hsic")
READING = ("bins", "joint", "continuous")
"""Engines whose discriminators are networks."""


def network(
    engine: str = "bins",
    remove: tuple[int, ...] = (0,),
    keep: tuple[int, ...] = (),
    strength: float = 1e4,
    *,
    ramp: float = 0.0,
    sees_labels: bool = False,
) -> Adversarial:
    torch.manual_seed(0)
    discriminators = Discriminators(engine, (8,), 4, (strength,) * (len(remove) + len(keep)), ramp)
    sizes = Sizes(PIXELS, 2, LATENT, (6,), (6,))
    one = Adversarial(
        sizes, remove, keep, erase=False, sees_labels=sees_labels, discriminators=discriminators
    )
    with torch.no_grad():
        one.prepare(lambda: iter([batch()]))
    return one.eval()


def batch(rows: int = ROWS) -> dict[str, torch.Tensor]:
    """Return spectra of which two pixels are the labels."""
    random = torch.Generator().manual_seed(1)
    flux = torch.randn(rows, PIXELS, generator=random)
    return {"flux": flux, "ivar": torch.ones(rows, PIXELS), "labels": flux[:, :2].clone()}


def losses_of(one: Adversarial, of: Batch) -> torch.Tensor:
    return one.discriminator_losses(one.latents(of), one.labels(of)[:, one.target_labels])


def schooled(one: Adversarial, of: Batch) -> Adversarial:
    """Let the discriminators learn, so that their losses depend on the latents."""
    if "critic" in one.players:
        optimizer = torch.optim.Adam(one.critic.parameters(), 0.03)
        shared = {name: tensor.detach() for name, tensor in one.shared(of).items()}
        for _ in range(150):
            optimizer.zero_grad()
            one.loss(of, shared, "critic", 0.0)["total"].backward()
            optimizer.step()
    return one


def step(one: Adversarial, of: Batch, player: str, size: float = 0.02) -> None:
    """Move what belongs to a player down its loss."""
    shared = one.shared(of)
    if player != one.players[-1]:
        shared = {name: tensor.detach() for name, tensor in shared.items()}
    weights = list(one.parameters_of(player))
    total = one.loss(of, shared, player, 1.0)["total"]
    gradients = torch.autograd.grad(total, weights, allow_unused=True)
    norm = torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm()
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                weight -= size * gradient / norm


# ------------------------------------------------------------------------- signs


@pytest.mark.parametrize("engine", ENGINES)
def test_removing_makes_discriminators_fail_and_keeping_makes_them_succeed(engine: str) -> None:
    for remove, keep, sign in (((0,), (), 1), ((), (0,), -1)):
        of = batch()
        one = schooled(network(engine, remove, keep), of)
        before = losses_of(one, of).sum()
        step(one, of, "model")
        assert sign * (losses_of(one, of).sum() - before) > 1e-4


def test_labels_of_both_kinds_pull_in_opposite_directions() -> None:
    of = batch()
    one = schooled(network("bins", (0,), (1,)), of)
    before = losses_of(one, of)
    step(one, of, "model")
    removed, kept = (losses_of(one, of) - before).tolist()
    assert removed > 0 > kept


@pytest.mark.parametrize("engine", ENGINES)
def test_the_loss_is_that_of_manteiga_et_al(engine: str) -> None:
    """Misfit minus the sum of lambda times the discriminators' losses; and its gradient."""
    remove, keep = ((0, 1), ()) if engine == "joint" else ((0,), (1,))
    of, signs = batch(), torch.tensor([1.0] if engine == "joint" else [1.0, -1.0])
    one = schooled(network(engine, remove, keep, strength=0.3), of)
    terms = one.loss(of, one.shared(of), "model", 0.5)
    failure = losses_of(one, of)
    torch.testing.assert_close(terms["discriminators"], failure.sum())
    made = one.decode(one.latents(of), one.labels(of))
    misfit = (made - of["flux"]).square().mean()
    torch.testing.assert_close(terms["misfit"], misfit)
    expected = misfit - 0.3 * (signs * failure).sum()
    torch.testing.assert_close(terms["total"], expected)
    weights = list(one.encoder.parameters())
    for found, wanted in zip(
        torch.autograd.grad(terms["total"], weights, retain_graph=True),
        torch.autograd.grad(expected, weights),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ramp", [0.5, 1.0])
def test_strength_rises_with_progress(ramp: float) -> None:
    of, one = batch(), network("bins", ramp=ramp, strength=1.0)
    paid = []
    for progress in (0.0, ramp / 4, ramp / 2, ramp, 1.0):
        terms = one.loss(of, one.shared(of), "model", progress)
        paid.append(float((terms["misfit"] - terms["total"]).detach() / terms["discriminators"].detach()))
    np.testing.assert_allclose(paid, [0, 0.25, 0.5, 1, 1], atol=1e-5)


def test_worse_than_the_scatter_is_no_success() -> None:
    """The loss of a discriminator has no bound: the encoder would gain by making it arbitrarily wrong."""
    of, one = batch(), network("continuous")
    with torch.no_grad():
        one.critic.biases[-1][..., 0] += 50.0
    assert float(losses_of(one, of).detach()) > 0.5
    terms = one.loss(of, one.shared(of), "model", 1.0)
    assert float(terms["discriminators"].detach()) == 0.5
    weights = list(one.encoder.parameters())
    for found, plain in zip(
        torch.autograd.grad(terms["total"], weights, retain_graph=True),
        torch.autograd.grad(terms["misfit"], weights),
        strict=True,
    ):
        torch.testing.assert_close(found, plain)


# ----------------------------------------------------------------- who moves what


def parts(one: Adversarial) -> dict[str, list[torch.Tensor]]:
    groups = {"encoder": one.encoder, "decoder": one.decoder, "head": one.head}
    groups |= {"critic": one.critic} if hasattr(one, "critic") else {}
    return {name: [p.detach().clone() for p in part.parameters()] for name, part in groups.items()}


def moved(before: dict, after: dict) -> set[str]:
    return {name for name in before if not all(map(torch.equal, before[name], after[name]))}


@pytest.mark.parametrize("engine", READING)
def test_nobody_moves_the_weights_of_another(engine: str) -> None:
    of, one = batch(), network(engine)
    assert one.players == ("critic", "head", "model")
    for player, expected in (
        ("critic", {"critic"}), ("head", {"head"}), ("model", {"encoder", "decoder"}),
    ):  # fmt: skip
        before = parts(one)
        step(one, of, player)
        assert moved(before, parts(one)) == expected
    owned = [p for player in one.players for p in one.parameters_of(player)]
    assert len(owned) == len({id(p) for p in owned}) == len(list(one.parameters()))


def test_what_discriminators_see_is_cut_from_the_encoder() -> None:
    """The trainer detaches what they are given; their loss has no other way to the encoder."""
    of, one = batch(), network("bins", (0,), (1,))
    z = one.latents(of).detach()
    total = one.loss(of, {"z": z}, "critic", 0.0)["total"]
    gradients = torch.autograd.grad(total, list(one.encoder.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients)


@pytest.mark.parametrize(
    ("engine", "remove", "keep"), [("none", (0,), (1,)), ("hsic", (0,), (1,)), ("bins", (), ())]
)
def test_there_are_discriminators_only_where_they_are_needed(
    engine: str, remove: tuple[int, ...], keep: tuple[int, ...]
) -> None:
    one, of = network(engine, remove, keep), batch()
    assert one.players == ("head", "model")
    terms = one.loss(of, one.shared(of), "model", 1.0)
    assert ("discriminators" in terms) == (engine == "hsic")
    if engine != "hsic":
        torch.testing.assert_close(terms["total"], terms["misfit"])


# ----------------------------------------------------------- classes and unknown labels


def test_joint_classes_are_the_digits_of_all_labels() -> None:
    of, one = batch(), network("joint", (0, 1))
    assert one.critic(one.latents(of)).shape == (1, ROWS, 16)
    labels = one.labels(of)
    digits = one.bin_numbers(labels)
    torch.testing.assert_close(
        losses_of(one, of)[0],
        functional.cross_entropy(one.critic(one.latents(of))[0], digits[:, 0] + 4 * digits[:, 1]),
    )


def test_bins_are_of_equal_width_and_end_at_the_extremes() -> None:
    one, of = network("bins", (0, 1)), batch()
    labels = one.labels(of)
    bins = one.bin_numbers(labels).numpy()
    for number in range(2):
        values = labels[:, number].numpy()
        edges = np.linspace(values.min(), values.max(), 5)
        np.testing.assert_array_equal(bins[:, number], np.searchsorted(edges[1:-1], values, side="right"))
    assert bins.min() == 0
    assert bins.max() == 3
    beyond = one.bin_numbers(torch.tensor([[-99.0, 99.0]]))
    assert beyond.tolist() == [[0, 3]]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("known", [ROWS // 2, 1, 0])
def test_rows_whose_label_is_unknown_weigh_nothing(engine: str, known: int) -> None:
    of = batch()
    one = network(engine)
    of["labels"][known:, 0] = torch.nan
    found = losses_of(one, of)
    weights = list(one.encoder.parameters())
    total = one.loss(of, one.shared(of), "model", 1.0)["total"]
    assert all(bool(torch.isfinite(g).all()) for g in torch.autograd.grad(total, weights))
    if known == 0:
        assert float(found.detach().sum()) == (1.0 if engine == "hsic" else 0.0)
        return
    few = {name: rows[:known] for name, rows in of.items()}
    if engine != "hsic":  # whose latents are in units of the scatter of the whole batch
        torch.testing.assert_close(found, losses_of(one, few))
    other = {**of, "flux": torch.cat([of["flux"][:known], of["flux"][known:].flip(0)])}
    torch.testing.assert_close(losses_of(one, other), found)


def test_joint_classes_want_all_labels_of_a_star() -> None:
    of = batch()
    one = network("joint", (0, 1))
    of["labels"][10:, 1] = torch.nan
    few = {name: rows[:10] for name, rows in of.items()}
    torch.testing.assert_close(losses_of(one, of), losses_of(one, few))


def test_ranges_are_those_of_all_batches_and_of_known_labels() -> None:
    one, of = network("bins", (0, 1)), batch()
    of["labels"][:20, 0] = torch.nan
    thirds = [{name: rows[start : start + 20] for name, rows in of.items()} for start in (0, 20, 40)]
    with torch.no_grad():
        one.prepare(lambda: iter(thirds))
    labels = one.labels(of).numpy()
    np.testing.assert_allclose(one.low, np.nanmin(labels, axis=0))
    np.testing.assert_allclose(one.high, np.nanmax(labels, axis=0))
    known = of["labels"].numpy()
    np.testing.assert_allclose(one.centre, np.nanmean(known, axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.spread, np.nanstd(known, axis=0), rtol=1e-5)


def test_the_decoder_gets_the_heads_prediction_of_an_unknown_label() -> None:
    of = batch()
    of["labels"][5:, 1] = torch.nan
    for sees_labels in (False, True):
        one = network("none", sees_labels=sees_labels)
        used, labels = one.decoder_labels(of), one.labels(of)
        known = torch.isfinite(labels)
        assert torch.equal(used[known], labels[known])
        read = torch.zeros_like(used) if sees_labels else one.head(one.latents(of))[0]
        assert torch.equal(used[~known], read[~known])
        assert not used.requires_grad


# ---------------------------------------------------------------------- the end of a run


def halves(of: Batch) -> Callable:
    return lambda: iter(
        [{name: rows[part] for name, rows in of.items()} for part in (slice(25), slice(25, 60))]
    )


def test_the_limit_is_a_quantile_of_held_out_misfits() -> None:
    one, of = network("none"), batch()
    of["ivar"][7] = 100.0
    with torch.no_grad():
        one.finish(halves(of), halves(of))
        made = one.decode(one.encode(of), one.decoder_labels(of))
        misfits = (of["ivar"] * (made - of["flux"]).square()).mean(1)
    assert float(one.limit) == pytest.approx(float(misfits.sort().values[int(np.ceil(OUTSIDE * ROWS)) - 1]))
    assert torch.isfinite(one.head.stretch).all()


def test_nothing_is_known_where_nothing_was_held_out() -> None:
    one, of = network("none"), batch()
    with torch.no_grad():
        one.finish(halves(of), None)
    assert torch.isinf(one.limit)
    assert torch.isnan(one.head.stretch).all()


def test_bad_pixels_are_no_misfit() -> None:
    one, of = network("none"), batch()
    of["ivar"][:, 2:] = 0
    of["ivar"][:, 1] = 3.0
    made = one.decode(one.latents(of), one.labels(of))
    error = (made - of["flux"]).square()
    expected = ((error[:, 0] + 3 * error[:, 1]) / 4).mean()
    torch.testing.assert_close(one.loss(of, one.shared(of), "model", 0.0)["misfit"], expected)
    of["ivar"][0] = 0
    assert torch.isfinite(one.loss(of, one.shared(of), "model", 0.0)["total"])
