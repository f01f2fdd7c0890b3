"""The network of the cycle method: shapes, bad pixels, who trains what, and whether it learns."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional

from draper.errors import DraperError
from draper.models.translator.cycle import DOMAINS, SATURATION, CycleNetwork, other
from draper.nn.module import Batch
from draper.simulate.made import made_spectra

SMALL = {
    "filters": (4, 8),
    "strides": (2, 2),
    "shared_filters": (12, 16),
    "shared_strides": (2, 1),
    "split_filters": (4, 4),
    "shared": 4,
    "split": 2,
    "discriminator_filters": (4, 8),
    "discriminator_latent_filters": (8,),
}


def network(pixels: int = 96, **changes: object) -> CycleNetwork:
    torch.manual_seed(0)
    return CycleNetwork(pixels, **(SMALL | changes))


def batch(n: int = 6, m: int = 6, pixels: int = 96) -> dict[str, torch.Tensor]:
    """Return made spectra; observed ones are of other stars, and have a line more."""
    sets = {"synthetic": made_spectra(n, pixels=pixels), "observed": made_spectra(m, pixels=pixels, seed=1)}
    tensors = {}
    for domain, spectra in sets.items():
        line = 0.2 * np.exp(-0.5 * ((np.arange(pixels) - 40) / 2) ** 2) * (domain == "observed")
        tensors[f"{domain}.flux"] = torch.tensor(spectra.flux - line, dtype=torch.float32)
        tensors[f"{domain}.ivar"] = torch.tensor(spectra.ivar, dtype=torch.float32)
    return tensors


def prepared(one: CycleNetwork, of: Batch) -> CycleNetwork:
    with torch.no_grad():
        one.prepare(lambda: iter([of]))
    return one.eval()  # without the noise of latents


def terms_of(one: CycleNetwork, of: Batch, player: str = "generators") -> dict[str, torch.Tensor]:
    shared = one.shared(of)
    if player == "discriminators":
        shared = {name: tensor.detach() for name, tensor in shared.items()}
    return one.loss(of, shared, player, 0.5)


# ------------------------------------------------------------------------ shapes


@pytest.mark.parametrize("pixels", [96, 97, 111, 31])
@pytest.mark.parametrize("split", [2, 0])
def test_any_number_of_pixels_and_of_rows(pixels: int, split: int) -> None:
    of = batch(5, 3, pixels)
    one = prepared(network(pixels, split=split), of)
    for rows in (3, 1, 0):
        for domain in DOMAINS:
            flux, ivar = (of[f"{domain}.{name}"][:rows] for name in ("flux", "ivar"))
            shared, code = one.encode(flux, ivar, domain)
            assert shared.shape == (rows, 4, -(-pixels // 8))
            assert (code is not None) == (domain == "observed" and split > 0)
            outputs = [
                one.translate(flux, ivar, other(domain)),
                one.cycle(flux, ivar, domain),
                one.reconstruct(flux, ivar, domain),
            ]
            assert all(made.shape == (rows, pixels) for made in outputs)
    for player in one.players:
        assert all(bool(torch.isfinite(term)) for term in terms_of(one, of, player).values())


def test_published_sizes() -> None:
    """The description gives the numbers of weights; the mask is another input, and 7168 px are 28 * 256.

    Split features are added, which takes as many channels as the shared ones, and pixels have own weights.
    """
    one = CycleNetwork(7167)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in one.named_children()}
    assert sizes["encoders"] == 2 * (14_656 + 32 * 7)
    assert sizes["shared_encoder"] == 1_217_945
    assert sizes["split_encoder"] == 28_900
    assert sizes["shared_decoder"] == 1_237_376
    assert sizes["split_decoder"] == 15_328 + (128 - 32) * (32 * 7 + 1)
    assert sizes["generators"] == 2 * (71_809 - 33 + 33 * 7167)
    longer = 256 * (7 - 6) + 512 * (28 - 24)
    whole = [128 * (7167 + 28 * channels + 1) + 128 * 129 + 129 for channels in (25, 29)]
    assert sizes["discriminators"] == 494_945 + 495_073 + 2 * longer + sum(whole)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(DraperError, match="too few numbers"):
        network(8, split=1)


def test_latents_are_normalised() -> None:
    of = batch()
    for pixels in (96, 31):  # 12 positions of each channel, and 4, which are too few
        part = {name: tensor[:, :pixels] for name, tensor in of.items()}
        one = prepared(network(pixels), part)
        for codes in one.encode(part["observed.flux"], part["observed.ivar"], "observed"):
            assert codes is not None
            over = 2 if pixels == 96 else (1, 2)
            torch.testing.assert_close(
                codes.mean(over), torch.zeros(codes.mean(over).shape), atol=1e-5, rtol=0
            )
            torch.testing.assert_close(
                codes.var(over, correction=0), torch.ones(codes.mean(over).shape), atol=1e-3, rtol=0
            )


# -------------------------------------------------------------------- bad pixels and errors


@pytest.mark.parametrize("content", [0.0, 7.0, torch.nan])
def test_content_of_bad_pixels_does_not_matter(content: float) -> None:
    bad = torch.rand(6, 96, generator=torch.Generator().manual_seed(1)) < 0.1
    bad[2] = True
    losses, encoded = [], []
    for value in (1.0, content):
        of = batch()
        for domain in DOMAINS:
            of[f"{domain}.ivar"][bad] = 0
            of[f"{domain}.flux"][bad] = value
        one = prepared(network(), of)
        losses.append(terms_of(one, of)["total"])
        encoded.append(one.encode(of["observed.flux"], of["observed.ivar"], "observed")[0])
        assert torch.isfinite(losses[-1])
    assert torch.equal(*losses)
    assert torch.equal(*encoded)


def test_bad_pixels_are_seen_as_bad() -> None:
    of = batch()
    one = prepared(network(), of)
    flux, ivar = of["observed.flux"], of["observed.ivar"].clone()
    ivar[:, 10] = 0
    filled = torch.where(ivar > 0, flux, one.mean[1])
    with_mask, _ = one.encode(flux, ivar, "observed")
    without, _ = one.encode(filled, torch.ones_like(ivar), "observed")
    assert not torch.allclose(with_mask, without, atol=1e-4)


def test_misfit_by_hand() -> None:
    """Errors have a floor, bad pixels do not count, and weights of 1 are no errors."""
    of = batch()
    of["observed.ivar"][:, 50:] = 0
    of["synthetic.ivar"][:] = 1
    one = prepared(network(floor=0.01), of)
    shared = one.shared(of)
    floor = 0.01 * of["synthetic.flux"].abs().mean()
    for domain, error in (
        ("observed", (torch.tensor(1e-4) + floor**2).sqrt()),
        (
            "synthetic",
            ((0.1 * of["synthetic.flux"].std(0, correction=0).square().mean().sqrt()) ** 2 + floor**2).sqrt(),
        ),
    ):
        made = shared[f"{domain}.reconstruction"] * one.scale + one.mean[DOMAINS.index(domain)]
        good = of[f"{domain}.ivar"] > 0
        residual = torch.where(good, (made - of[f"{domain}.flux"]) / error, 0.0)
        chi2 = residual.square().sum(1) / good.sum(1)
        expected = (chi2 + SATURATION).log().mean()
        found = one.loss(of, shared, "generators", 0.0)[f"reconstruction_{domain}"]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_scale_of_the_flux_does_not_matter() -> None:
    of = batch()
    tiny = {name: t * 1e-17 if "flux" in name else t * 1e33 for name, t in of.items()}
    of = {name: t if "flux" in name else t * 0.1 for name, t in of.items()}
    one, other_one = prepared(network(), of), prepared(network(), tiny)
    torch.testing.assert_close(
        terms_of(one, of)["total"], terms_of(other_one, tiny)["total"], rtol=1e-3, atol=0
    )


# ------------------------------------------------------------------------ who trains what


@pytest.mark.parametrize(
    "changes", [{}, {"split": 0}, {"adversarial": "hinge"}, {"penalty": 1.0}, {"best_of": 2}]
)
def test_every_weight_belongs_to_one_player(changes: dict[str, object]) -> None:
    of = batch()
    one = prepared(network(**changes), of).train()
    owned = [p for player in one.players for p in one.parameters_of(player)]
    assert len(owned) == len({id(p) for p in owned}) == len(list(one.parameters()))
    for player in one.players:
        weights = list(one.parameters_of(player))
        gradients = torch.autograd.grad(terms_of(one, of, player)["total"], weights, allow_unused=True)
        assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)


def test_players_pull_in_opposite_directions() -> None:
    """A step of the discriminators lowers their loss and raises the generators' adversarial terms."""
    of = batch()
    one = prepared(network(), of)
    shared = {name: tensor.detach() for name, tensor in one.shared(of).items()}
    before = [one.loss(of, shared, player, 0.0) for player in one.players]
    weights = list(one.parameters_of("discriminators"))
    gradients = torch.autograd.grad(before[0]["total"], weights)
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            weight -= 0.01 * gradient
        after = [one.loss(of, shared, player, 0.0) for player in one.players]
    assert after[0]["total"] < before[0]["total"]
    names = [f"adversarial_{domain}" for domain in DOMAINS]
    assert sum(after[1][name] for name in names) > sum(before[1][name] for name in names)
    assert after[1]["reconstruction_observed"] == before[1]["reconstruction_observed"]


def test_the_adversarial_loss_is_the_cross_entropy_of_pairs() -> None:
    of = batch()
    one = prepared(network(), of)
    shared = one.shared(of)
    for domain in DOMAINS:
        judge = one.discriminators[domain]
        real = judge(shared[f"{domain}.reconstruction"], shared[f"{domain}.latents"])
        fake = judge(shared[f"to_{domain}"], shared[f"to_{domain}.latents"])
        expected = functional.binary_cross_entropy(real.sigmoid(), torch.ones(6))
        expected += functional.binary_cross_entropy(fake.sigmoid(), torch.zeros(6))
        found = one.loss(of, shared, "discriminators", 0.0)[f"judgement_{domain}"]
        torch.testing.assert_close(found, expected)


# ------------------------------------------------------------------------- the batch


def test_training_pass_agrees_with_the_verbs() -> None:
    """Work is shared among domains in training; the spectra are those of separate passes."""
    of = batch(6, 4)
    one = prepared(network(), of)
    shared = one.shared(of)
    s, o = ((of[f"{domain}.flux"], of[f"{domain}.ivar"]) for domain in DOMAINS)
    z, code = one.encode(*o, "observed")
    assert code is not None
    lent = code[[0, 1, 2, 3, 0, 1]]  # row i lends to row i, and again from the first
    for name, expected in (
        ("synthetic.reconstruction", one.reconstruct(*s, "synthetic")),
        ("observed.reconstruction", one.reconstruct(*o, "observed")),
        ("to_synthetic", one.translate(*o, "synthetic")),
        ("to_observed", one.translate(*s, "observed", lent)),
        ("observed.cycle", one.cycle(*o, "observed")),
    ):
        found = shared[name] * one.scale + one.mean[int("observed" in name)]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared["to_synthetic.latents"], z)


def test_losses_are_means_over_rows() -> None:
    """A batch may be divided among processes."""
    of = batch()
    one = prepared(network(penalty=1.0), of)
    halves = [{name: tensor[rows] for name, tensor in of.items()} for rows in (slice(3), slice(3, 6))]
    for player in one.players:
        whole = terms_of(one, of, player)
        parts = [terms_of(one, half, player) for half in halves]
        for name, term in whole.items():
            torch.testing.assert_close(term, (parts[0][name] + parts[1][name]) / 2, rtol=1e-4, atol=1e-5)


def test_the_most_real_synthetic_spectra_are_chosen() -> None:
    of = batch(7, 4)
    one = prepared(network(best_of=3), of)
    one.eval()
    everything = one.shared(of)
    assert len(everything["synthetic.flux"]) == 7
    lent = one.encode(of["observed.flux"], of["observed.ivar"], "observed")[1]
    assert lent is not None
    pairs = torch.cat([everything["synthetic.latents"], lent[torch.arange(7) % 4]], dim=1)
    logits = one.discriminators["observed"](everything["to_observed"], pairs)
    expected = [int(logits[:3].argmax()), 3 + int(logits[3:6].argmax())]
    chosen = one.train().shared(of)
    torch.testing.assert_close(chosen["synthetic.flux"], everything["synthetic.flux"][expected])
    assert len(chosen["observed.flux"]) == 4


def test_domains_start_alike() -> None:
    """A star has the same latents in both, and the spectra made of latents differ by the mean spectra."""
    of = batch()
    one = prepared(network(split=0), of)
    deviation = of["synthetic.flux"] - one.mean[0]
    z, _ = one.encode(of["synthetic.flux"], of["synthetic.ivar"], "synthetic")
    seen, _ = one.encode(one.mean[1] + deviation, of["synthetic.ivar"], "observed")
    torch.testing.assert_close(z, seen, rtol=1e-3, atol=1e-4)
    difference = one.decode(z, None, "observed") - one.decode(z, None, "synthetic")
    torch.testing.assert_close(difference, (one.mean[1] - one.mean[0]).expand(6, -1), rtol=1e-3, atol=1e-5)


def test_latents_are_noisy_in_training_alone() -> None:
    of = batch()
    one = prepared(network(), of)
    names = ("synthetic.reconstruction", "to_observed", "to_synthetic", "observed.latents")
    before, again = one.shared(of), one.shared(of)
    noisy = one.train().shared(of)
    for name in names:
        assert torch.equal(before[name], again[name])
        assert not torch.allclose(before[name], noisy[name], atol=1e-3)
    assert torch.equal(before["synthetic.flux"], noisy["synthetic.flux"])


# ---------------------------------------------------------------------------- learning


def halves(of: Batch) -> Iterator[Batch]:
    for rows in (slice(20), slice(20, 32)):
        yield {name: tensor[rows] for name, tensor in of.items()}


@pytest.fixture(scope="module")
def trained() -> tuple[CycleNetwork, Batch, list[dict[str, float]]]:
    """Return a network after some steps, its data, and its losses at the start and at the end."""
    of = batch(32, 32)
    one = network()
    with torch.no_grad():
        one.prepare(lambda: halves(of))
    players = {p: torch.optim.Adam(one.parameters_of(p), 5e-3, betas=(0.5, 0.999)) for p in one.players}
    history = []
    for _ in range(60):
        shared = one.shared(of)
        for player, optimizer in players.items():
            last = player == one.players[-1]
            seen = shared if last else {name: tensor.detach() for name, tensor in shared.items()}
            terms = one.loss(of, seen, player, 0.0)
            weights = list(one.parameters_of(player))
            for weight, gradient in zip(weights, torch.autograd.grad(terms["total"], weights), strict=True):
                weight.grad = gradient
            optimizer.step()
        history.append({name: float(term.detach()) for name, term in terms.items()})
    with torch.no_grad():
        one.finish(lambda: halves(of), None)
    return one.eval(), of, history


def test_losses_fall(trained: tuple[CycleNetwork, Batch, list[dict[str, float]]]) -> None:
    first, last = trained[2][0], trained[2][-1]
    for domain in DOMAINS:
        for term in ("reconstruction", "cycle"):
            assert last[f"{term}_{domain}"] < first[f"{term}_{domain}"] - 0.5


def test_translation_adds_the_line(trained: tuple[CycleNetwork, Batch, list[dict[str, float]]]) -> None:
    """Observed spectra have a line at pixel 40 that synthetic ones lack."""
    one, of, _ = trained
    flux, ivar = of["synthetic.flux"], of["synthetic.ivar"]
    with torch.no_grad():
        change = (one.translate(flux, ivar, "observed") - flux).mean(0)
    assert change[40] < -0.1
    assert change.abs().median() < 0.05


def test_split_codes_are_drawn_from_their_prior(
    trained: tuple[CycleNetwork, Batch, list[dict[str, float]]],
) -> None:
    one, of, _ = trained
    with torch.no_grad():
        _, split = one.encode(of["observed.flux"], of["observed.ivar"], "observed")
        assert split is not None
        drawn = one.sampled_split(4000, torch.Generator().manual_seed(1))
        again = one.sampled_split(4000, torch.Generator().manual_seed(1))
        spectra = one.decode(
            one.encode(of["synthetic.flux"], of["synthetic.ivar"], "synthetic")[0], drawn[:32], "observed"
        )
    assert torch.equal(drawn, again)
    assert drawn.shape == (4000, *split.shape[1:])
    torch.testing.assert_close(drawn.mean(0), split.mean(0), atol=0.15, rtol=0)
    torch.testing.assert_close(drawn.std(0), split.std(0), atol=0.15, rtol=0)
    white = network().sampled_split(4000, torch.Generator().manual_seed(1))  # before the end of training
    assert (white.mean(0) - split.mean(0)).abs().max() > 0.3
    assert torch.isfinite(spectra).all()
    assert one.typical_split().shape == (1, *split.shape[1:])
