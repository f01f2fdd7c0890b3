"""The bottleneck: what its code costs, who sets the price, and what the encoder sees."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from draper.nn.bottleneck import PACE, REGRESSOR_WEIGHT, Bottleneck
from draper.nn.disentangle import Sizes
from draper.nn.module import Batch

ROWS, PIXELS, LATENT = 12, 9, 5


def network(remove: tuple[int, ...] = (0,), keep: tuple[int, ...] = (1,), **options) -> Bottleneck:
    torch.manual_seed(0)
    sizes = Sizes(PIXELS, 3, LATENT, (6,), (6,))
    given = {
        "erase": False,
        "information_limit": 2.0,
        "critic": (4,),
        "strength": (50.0,) * len(remove),
        **options,
    }
    return Bottleneck(sizes, remove, keep, **given)


def batch(rows: int = ROWS, seed: int = 1) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "flux": torch.randn(rows, PIXELS, generator=random),
        "ivar": torch.rand(rows, PIXELS, generator=random) + 0.5,
        "labels": torch.rand(rows, 3, generator=random),
        "label_errors": torch.full((rows, 3), 0.1),
        "noise": torch.randn(rows, LATENT + PIXELS + 1, generator=random),
    }


def losses(one: Bottleneck, of: Batch, progress: float = 0.5) -> dict[str, torch.Tensor]:
    return one.loss(of, one.shared(of), "model", progress)


# ------------------------------------------------------------------ price and rate


def test_the_code_costs_its_divergence_from_the_prior() -> None:
    one, of = network().eval(), batch()
    mean, spread = one.code(of, one.decoder_labels(of))
    exact = kl_divergence(Normal(mean, (0.5 * spread).exp()), Normal(0.0, 1.0)).sum(1).mean()
    assert mean.shape == (ROWS, LATENT - 1), "a kept label is one latent, and costs nothing"
    torch.testing.assert_close(losses(one, of)["rate"], exact)


def test_the_price_rises_while_the_rate_exceeds_its_limit() -> None:
    one = network(information_limit=2.0)
    one.price.fill_(10.0)
    misfit = torch.tensor(3.0)
    for rate, factor in ((4.0, 1 + PACE), (100.0, 1 + PACE), (3.0, 1 + 0.5 * PACE), (2.0, 1.0)):
        before = float(one.price)
        one.update_price_and_noise(torch.tensor(rate), misfit)
        assert float(one.price) == pytest.approx(before * factor, rel=1e-5)
    before = float(one.price)
    one.update_price_and_noise(torch.tensor(1.0), misfit)
    assert float(one.price) == pytest.approx(before * (1 - 0.5 * PACE), rel=1e-5)
    for _ in range(1000):
        one.update_price_and_noise(torch.tensor(0.0), misfit)
    assert float(one.price) == 1.0, "a nat is never cheaper than a nat"
    for _ in range(2000):
        one.update_price_and_noise(torch.tensor(9.0), misfit)
    assert float(one.price) == 1e4


def test_the_noise_follows_the_misfit() -> None:
    one = network()
    assert torch.isnan(one.noise)
    for misfit, expected in ((4.0, 4.0), (2.0, 4.0 - 2 * PACE)):
        one.update_price_and_noise(torch.tensor(1.0), torch.tensor(misfit))
        assert float(one.noise) == pytest.approx(expected)


def test_controllers_move_in_training_alone() -> None:
    one, of = network(information_limit=1e-9).eval(), batch()
    losses(one, of)
    assert torch.isnan(one.noise)
    assert one.price == 1
    terms = losses(one.train(), of)
    torch.testing.assert_close(one.noise, terms["misfit"].detach())
    assert float(one.price) == pytest.approx(1 + PACE)
    assert {"price", "noise"} <= set(one.moving)


def test_the_price_is_what_a_nat_costs() -> None:
    """In nats a pixel: misfits by half, over the noise; the rate by its price; leaks beside them."""
    one, of = network().train(), batch()
    of["noise"][:, LATENT:] = 0  # no further noise for the reader, which depends on the misfit
    one.noise.fill_(0.7)
    cheap = losses(one, of)
    one.noise.fill_(0.7)
    one.price.fill_(5.0)
    dear = losses(one, of)
    torch.testing.assert_close(dear["total"] - cheap["total"], 4.0 * cheap["rate"] / PIXELS)
    one.noise.fill_(1.4)
    one.price.fill_(5.0)
    misfits = 2 * (dear["total"] - losses(one, of)["total"]) / (1 / 0.7 - 1 / 1.4)
    assert misfits > 0.99 * (dear["misfit"] + dear["plain"])
    rest = dear["total"] - 0.5 * misfits / 0.7 - (5.0 * dear["rate"] + dear["leak"]) / PIXELS
    torch.testing.assert_close(rest, REGRESSOR_WEIGHT * dear["regressor"], rtol=1e-3, atol=1e-4)


def test_misfits_are_weighed_by_the_errors() -> None:
    one, of = network().eval(), batch()
    of["ivar"][:, 3] = 0
    made = torch.zeros(ROWS, PIXELS)
    expected = (of["ivar"] * of["flux"] ** 2).sum(1) / (PIXELS - 1)
    torch.testing.assert_close(one.misfit(of, made), expected)
    of["ivar"][0] = 0
    assert one.misfit(of, made)[0] == 0


# --------------------------------------------------------------- what is seen of what


def test_the_encoder_sees_what_labels_do_not_explain() -> None:
    one, of = network().eval(), batch()
    labels = one.decoder_labels(of)
    moved = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(5))
    shifted = {**of, "flux": of["flux"] + (one.plain(moved) - one.plain(labels)).detach()}
    for found, expected in zip(one.code(shifted, moved), one.code(of, labels), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Nor does it teach the decoder of labels what to leave to it.
    mean, _ = one.code(of, labels)
    gradients = torch.autograd.grad(mean.sum(), list(one.plain.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_bad_pixels_are_no_residual() -> None:
    one, of = network().eval(), batch()
    of["ivar"][:, :4] = 0
    other = {**of, "flux": of["flux"].clone()}
    other["flux"][:, :4] = 7.0
    labels = one.decoder_labels(of)
    torch.testing.assert_close(one.code(other, labels)[0], one.code(of, labels)[0])


def test_latents_are_kept_labels_and_a_draw() -> None:
    one, of = network(keep=(2, 1)).eval(), batch()
    z, labels = one.latents(of), one.decoder_labels(of)
    torch.testing.assert_close(z[:, :2], labels[:, [2, 1]])
    mean, spread = one.code(of, labels)
    torch.testing.assert_close(z[:, 2:], mean + (0.5 * spread).exp() * of["noise"][:, : LATENT - 2])
    torch.testing.assert_close(one.publish(of), z)
    edited = z.clone()
    edited[:, 0] = 9.0
    recalled = one.with_kept_from(of, edited, labels)
    torch.testing.assert_close(recalled[:, 2], torch.full_like(recalled[:, 2], 9.0))
    torch.testing.assert_close(recalled[:, :2], labels[:, :2])
    torch.testing.assert_close(one.with_kept_from(of, z, labels), labels)


def test_labels_come_from_the_spectrum_also_where_they_are_known() -> None:
    one, of = network().eval(), batch()
    other = {**of, "labels": torch.full_like(of["labels"], torch.nan)}
    torch.testing.assert_close(one.latents(other), one.latents(of))
    torch.testing.assert_close(
        one.decode(one.latents(other), one.decoder_labels(other)),
        one.decode(one.latents(of), one.decoder_labels(of)),
    )


def test_training_adds_noise_of_up_to_the_size_of_the_errors() -> None:
    one = network()
    of = {**batch(4000), "flux": torch.zeros(4000, PIXELS), "ivar": torch.full((4000, PIXELS), 4.0)}
    of["ivar"][:, 0] = 0
    assert torch.equal(one.with_added_noise(of)["flux"], of["flux"]), (
        "none as long as the misfit is not known"
    )
    one.noise.fill_(0.25)
    added = one.with_added_noise(of)["flux"]
    assert (added[:, 0] == 0).all()
    # A share between 0 and 1 of sqrt(noise / ivar): its mean square is a third.
    assert float(added[:, 1:].square().mean()) == pytest.approx(0.25 / 4 / 3, rel=0.05)
    one.noise.fill_(100.0)
    assert float(one.with_added_noise(of)["flux"][:, 1:].square().mean()) == pytest.approx(
        1 / 4 / 3, rel=0.05
    )
    shared = one.eval().shared(of)
    torch.testing.assert_close(shared["mean"], one.estimate(of)[0])


def test_the_level_of_noise_is_measured_on_the_training_set() -> None:
    one, of = network(), batch(40)
    of["ivar"][:, 0] = 0
    one.prepare(lambda: iter([{name: rows[:30] for name, rows in of.items()},
                              {name: rows[30:] for name, rows in of.items()}]))  # fmt: skip
    levels = np.log(of["ivar"][:, 1:].numpy().mean(1))
    np.testing.assert_allclose(one.level, [levels.mean(), levels.std()], rtol=1e-4)
    assert float(one.pixels) == PIXELS - 1
    np.testing.assert_allclose(one.centre, of["labels"].mean(0), rtol=1e-5)
    np.testing.assert_allclose(one.spread, of["labels"].std(0, correction=0), rtol=1e-5)


# ------------------------------------------------------------------------- leaks


def test_only_what_kept_labels_do_not_tell_is_a_leak() -> None:
    one, of = network(remove=(0, 2), keep=(1,), strength=(50.0, 7.0)).eval(), batch()
    shared = one.shared(of)
    latents, kept = one.discriminator_losses(shared, of)
    terms = one.loss(of, shared, "model", 0.0)
    paid = torch.tensor([50.0, 7.0]) * (kept - latents).clamp(min=0)
    torch.testing.assert_close(terms["leak"], paid.sum())
    # The rival sees the kept labels themselves, and is no matter of the encoder.
    with torch.no_grad():
        for bias in one.critic["kept"].biases:
            bias += 50.0
    worse = one.loss(of, shared, "model", 0.0)["leak"]
    assert worse > terms["leak"]
    with torch.no_grad():
        one.critic["latents"].biases[-1] += 500.0
    assert one.loss(of, shared, "model", 0.0)["leak"] == 0


def test_without_kept_labels_the_rival_is_the_scatter() -> None:
    one, of = network(keep=()).eval(), batch()
    assert set(one.critic) == {"latents"}
    _, known = one.discriminator_losses(one.shared(of), of)
    assert known.tolist() == [0.5]
    assert one.latents(of).shape == (ROWS, LATENT)


def test_a_leak_moves_the_encoder_against_its_discriminator() -> None:
    """The penalty on a leak raises the loss of the discriminator."""
    one, of = network(keep=(), strength=(1e6,)).eval(), batch()
    with torch.no_grad():
        # A discriminator that knows a little: the label is what it reads, but for noise.
        one.prepare(lambda: iter([of]))
    read = torch.optim.Adam(one.critic.parameters(), 0.01)
    shared = {name: tensor.detach() for name, tensor in one.shared(of).items()}
    for _ in range(1500):
        read.zero_grad()
        one.loss(of, shared, "critic", 0.0)["total"].backward()
        read.step()
    before = one.discriminator_losses(one.shared(of), of)[0]
    assert float(before.detach()) < 0.2
    weights = list(one.encoder.parameters())
    gradients = torch.autograd.grad(losses(one, of)["total"], weights)
    size = torch.stack([gradient.norm() for gradient in gradients]).norm()
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            weight -= 0.02 * gradient / size
    assert one.discriminator_losses(one.shared(of), of)[0] > before + 1e-3


def test_nothing_to_remove_has_no_discriminator() -> None:
    one = network(remove=(), strength=())
    assert one.players == ("head", "model")
    assert "leak" not in losses(one, batch())


# -------------------------------------------------------------- the likeliest labels


def test_likely_labels_weigh_spectrum_and_publication_by_their_errors() -> None:
    one, of = network(), batch()
    one.prepare(lambda: iter([of]))
    published, errors = one.labels(of), of["label_errors"] / one.spread
    shared = {"mean": published + 1.0, "log_error": (errors * 2**0.5).log()}
    torch.testing.assert_close(
        one.combined_labels(of, shared), published + 0.5
    )  # the spectrum's error is as large


def test_exact_labels_are_taken_and_unknown_ones_are_read() -> None:
    one, of = network(), batch()
    one.prepare(lambda: iter([of]))
    of["label_errors"].zero_()
    of["labels"][3, 1] = torch.nan
    shared = {"mean": torch.full((ROWS, 3), 7.0), "log_error": torch.zeros(ROWS, 3)}
    found = one.combined_labels(of, shared)
    assert found[3, 1] == 7.0
    known = torch.isfinite(of["labels"])
    torch.testing.assert_close(found[known], one.labels(of)[known])


def test_likely_labels_do_not_move_the_code() -> None:
    one, of = network().train(), batch()
    one.prepare(lambda: iter([of]))
    shared = one.shared(of)
    terms = one.losses(of, shared, "model", 0.5)
    moved = torch.autograd.grad(terms["combined"], list(one.parameters()), allow_unused=True)
    names = {
        name.split(".")[0]
        for (name, _), gradient in zip(one.named_parameters(), moved, strict=True)
        if gradient is not None
    }
    assert names == {"plain", "decoder"}
