"""Inpainting: layouts, players that keep arrays apart, and the completion of spectra and labels."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from draper.configs.train import TrainConfig
from draper.data.labels import Label, LabelSet
from draper.errors import DraperError
from draper.models.retriever import aspa
from draper.models.retriever.inpaint import (
    LATENT,
    Inpainting,
    PictureDiscriminator,
    PictureGenerator,
    RowDiscriminator,
    inpainting,
)
from draper.models.retriever.layouts import AspaLayout
from draper.nn.module import Batch
from draper.simulate.planets import LABELS
from draper.train.feed import ArrayFeed
from draper.train.trainer import Trainer

TWO = LabelSet([Label("planet_radius", "RJ", 0.8, 1.5), Label("log_h2o", "dex", -8, -1)])
PIXELS = 24


def toy(labels: torch.Tensor) -> torch.Tensor:
    """Return spectra (n, 24) that radius and water (n, 2) determine."""
    line = torch.exp(-(((torch.linspace(0, 1, PIXELS) - 0.5) / 0.1) ** 2))
    return 0.01 + 0.003 * labels[:, :1] + 0.0005 * labels[:, 1:] * line


def rows(number: int, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.rand(number, 2, generator=random)
    z = torch.randn(number, LATENT, generator=random)
    return {"flux": toy(labels), "ivar": torch.ones(number, PIXELS), "labels": labels, "z": z}


def prepared(module: Inpainting, *batches: Batch) -> Inpainting:
    def sweep() -> Iterator[Batch]:
        yield from batches

    with torch.no_grad():
        module.prepare(sweep)
    return module


def plain(*batches: Batch, hidden: tuple[int, ...] = (16,)) -> Inpainting:
    torch.manual_seed(0)
    return prepared(inpainting(PIXELS, TWO, hidden=hidden), *(batches or [rows(200)]))


# ------------------------------------------------------------------------------------------------- layouts


def test_the_plain_layout_returns_what_it_holds():
    module, batch = plain(), rows(20, seed=1)
    arrays = module.layout.encode(batch["flux"], batch["labels"])
    assert arrays.shape == (20, *module.layout.shape)
    flux, labels = module.layout.decode(arrays)
    torch.testing.assert_close(flux, batch["flux"], rtol=1e-6, atol=0)
    torch.testing.assert_close(labels, batch["labels"])


def test_the_plain_layout_scales_shape_and_level_by_the_training_set():
    batch = rows(200)
    parts = [{name: tensor[part] for name, tensor in batch.items()} for part in (slice(50), slice(50, 200))]
    arrays = plain(*parts).layout.encode(batch["flux"], batch["labels"])
    varies = torch.tensor([*[True] * (PIXELS + 4), *[False] * 8])
    torch.testing.assert_close(arrays[:, varies].mean(0), torch.zeros(PIXELS + 4), atol=2e-3, rtol=0)
    torch.testing.assert_close(arrays[:, varies].std(0), torch.ones(PIXELS + 4), atol=1e-2, rtol=0)
    np.testing.assert_array_equal(arrays[:, PIXELS + 4 : PIXELS + 8], batch["labels"][:, :1].expand(-1, 4))


def test_a_pixel_that_never_changes_is_no_noise():
    batch = rows(50)
    flat = torch.full_like(batch["flux"], 0.01) + 0.001 * batch["labels"][:, :1]
    arrays = plain({**batch, "flux": flat}).layout.encode(flat, batch["labels"])
    assert arrays[:, :PIXELS].abs().max() < 0.1  # else the rounding of single precision would have scatter 1


def test_labels_of_the_picture_are_found_by_name():
    order = [6, 2, 0, 1, 5, 4, 3]
    layout = AspaLayout(LabelSet([LABELS[number] for number in order]))
    labels = torch.rand(5, 7)
    flux = 0.01 + 0.01 * torch.rand(5, 515)
    pictures = layout.encode(flux, labels)
    physical = LABELS.unscale(labels[:, torch.tensor(order).argsort()].double())
    np.testing.assert_allclose(pictures, aspa.encode(flux.numpy(), physical), rtol=1e-6)
    torch.testing.assert_close(layout.decode(pictures)[1], labels, atol=1e-5, rtol=0)


def test_the_picture_takes_its_own_labels_and_wavelengths_only():
    with pytest.raises(DraperError, match="seven labels"):
        inpainting(515, TWO, "aspa")
    with pytest.raises(DraperError, match="515 wavelengths"):
        inpainting(514, LABELS, "aspa")
    flux = torch.full((3, 515), 0.001)
    batch = {"flux": flux, "ivar": torch.ones(3, 515), "labels": torch.full((3, 7), 0.5)}
    with pytest.raises(DraperError, match="3 of 3"):
        prepared(inpainting(515, LABELS, "aspa", width=8), batch)


@pytest.mark.parametrize("known", [[0, 1, 2], range(0, PIXELS, 2), range(PIXELS)])
def test_what_is_known_of_a_row_does_not_depend_on_the_rest(known):
    """Two spectra that agree in the known pixels give the same context; any difference there shows."""
    layout, batch = plain().layout, rows(2, seed=3)
    mask = torch.zeros(PIXELS, dtype=torch.bool)
    mask[list(known)] = True
    flux = torch.where(mask, batch["flux"][:1], batch["flux"])
    given = torch.tensor([False, True])
    labels = torch.tensor([[0.1, 0.4], [0.9, 0.4]])
    seen = layout.context(layout.encode(flux, labels), mask, given)
    assert seen.shape == (2, len(known) + 4 + 4)
    torch.testing.assert_close(seen[0], seen[1], atol=2e-3, rtol=0)
    flux[1, 0] += 1e-4
    changed = layout.context(layout.encode(flux, labels), mask, given)
    assert (changed[1] - seen[1]).abs().max() > 0.1
    if mask.all():  # then it is the array itself
        kept = layout.encode(flux, labels)[:, [*range(PIXELS + 4), *range(PIXELS + 8, PIXELS + 12)]]
        torch.testing.assert_close(changed, kept, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("every", [1, 3, 515])
def test_what_is_known_of_a_picture_does_not_depend_on_the_rest(every):
    layout = AspaLayout(LABELS)
    random = torch.Generator().manual_seed(0)
    flux = 0.01 + 0.01 * torch.rand(2, 515, generator=random)
    known = torch.arange(515) % every == 0
    flux = torch.where(known, flux[:1], flux)
    labels = torch.rand(2, 7, generator=random)
    given = torch.zeros(7, dtype=torch.bool)
    seen = layout.context(layout.encode(flux, labels), known, given)
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=0)
    if every == 1:
        mask = aspa.masks()["parameters"]
        np.testing.assert_array_equal(seen[0], layout.encode(flux, labels)[0][mask])
    # One bin of a section is known by its depth alone, which is largest and smallest of the known ones.
    assert seen.shape[1] == {1: 851, 3: 515 // 3 + 1 + 14 * 23, 515: 1}[every]


# ------------------------------------------------------------------------------------------------- players


@pytest.mark.parametrize("eval_mode", [False, True])
@pytest.mark.parametrize(
    "discriminator", [PictureDiscriminator(8), RowDiscriminator(20, (8,))], ids=["picture", "row"]
)
def test_images_are_kept_apart(discriminator: nn.Module, eval_mode: bool):
    discriminator.train(not eval_mode)
    arrays = torch.rand(4, 33, 33) if isinstance(discriminator, PictureDiscriminator) else torch.rand(4, 20)
    before = discriminator(arrays).detach().numpy()
    assert before.shape == (4,)
    arrays[2] = torch.rand_like(arrays[2])
    after = discriminator(arrays).detach().numpy()
    assert after[2] != before[2]
    np.testing.assert_array_equal(np.delete(after, 2), np.delete(before, 2))


def test_networks_have_the_published_sizes():
    sizes = [sum(p.numel() for p in one(64).parameters()) for one in (PictureGenerator, PictureDiscriminator)]
    assert sizes == pytest.approx([4.77e6, 4.31e6], rel=2e-3)


def test_each_player_has_its_own_loss():
    module, batch = plain(), rows(8)
    shared = module.shared(batch)
    real, made = (torch.sigmoid(module.discriminator(shared[name])) for name in ("real", "made"))
    terms = module.loss(batch, shared, "discriminator", 0.0)
    torch.testing.assert_close(terms["real"], -real.log().mean())
    torch.testing.assert_close(terms["made"], -(1 - made).log().mean())
    torch.testing.assert_close(terms["total"], terms["real"] + terms["made"])
    generator = module.loss(batch, shared, "generator", 0.0)["total"]
    torch.testing.assert_close(generator, -made.log().mean())
    owned = [{id(p) for p in module.parameters_of(player)} for player in module.players]
    assert owned[0].isdisjoint(owned[1])
    assert owned[0] | owned[1] == {id(p) for p in module.parameters()}


@pytest.mark.parametrize("player", Inpainting.players)
@pytest.mark.parametrize("layout", ["plain", "aspa"])
def test_a_divided_batch_gives_the_same_gradients(layout: str, player: str):
    module, batch = (plain(), rows(8)) if layout == "plain" else pictures(8)
    weights = list(module.parameters_of(player))

    def gradient(part: slice) -> torch.Tensor:
        share = {name: tensor[part] for name, tensor in batch.items()}
        total = module.loss(share, module.shared(share), player, 0.0)["total"]
        return torch.cat([g.ravel() for g in torch.autograd.grad(total, weights)])

    halves = (gradient(slice(4)) + gradient(slice(4, 8))) / 2
    torch.testing.assert_close(halves, gradient(slice(8)), rtol=1e-4, atol=1e-6)


def pictures(number: int) -> tuple[Inpainting, dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    batch = {
        "flux": 0.01 + 0.01 * torch.rand(number, 515, generator=random),
        "ivar": torch.ones(number, 515),
        "labels": torch.rand(number, 7, generator=random),
        "z": torch.randn(number, LATENT, generator=random),
    }
    torch.manual_seed(0)
    return prepared(inpainting(515, LABELS, "aspa", width=4), batch), batch


def test_incomplete_rows_teach_nothing():
    module, batch = plain(), rows(8)
    batch["ivar"][1, 3] = 0
    batch["labels"][2, 0] = torch.nan
    batch["flux"][1, 3] = torch.nan
    condensed = module.condense(batch)
    assert condensed["weight"].tolist() == [1, 0, 0, 1, 1, 1, 1, 1]
    assert module.condense(condensed) is condensed
    losses = [module.loss(batch, module.shared(batch), player, 0.0)["real"] for player in ["discriminator"]]
    batch["flux"][2], batch["labels"][2] = 7.0, torch.nan
    again = module.loss(batch, module.shared(batch), "discriminator", 0.0)["real"]
    assert torch.isfinite(again)
    assert again == losses[0]
    whole = {name: tensor[3:] for name, tensor in batch.items()}
    whole["ivar"] = torch.zeros_like(whole["ivar"])
    with pytest.raises(DraperError, match="no spectrum of the training set"):
        plain(whole)


def test_numbers_of_a_batch_become_uniform():
    module = plain()
    module.generator = nn.Identity()
    made = module.shared(rows(500))["made"]
    assert made.abs().max() <= 1
    np.testing.assert_allclose(np.quantile(made, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.01)


def test_all_randomness_comes_with_the_batch():
    module, batch = plain().train(), rows(8)
    losses = [module.loss(batch, module.shared(batch), "generator", 0.0)["total"] for _ in range(2)]
    assert losses[0] == losses[1]


# ---------------------------------------------------------------------------------------------- completion


class Blend(nn.Module):
    """A generator whose first input blends two arrays."""

    def __init__(self, ends: torch.Tensor) -> None:
        super().__init__()
        self.ends = ends

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        share = (z[:, :1] + 1) / 2
        flat = self.ends.flatten(1)
        return (flat[0] + share * (flat[1] - flat[0])).unflatten(1, self.ends.shape[1:])


def blending(module: Inpainting, flux: torch.Tensor, labels: torch.Tensor) -> Inpainting:
    """Let a module generate what lies between two spectra."""
    module.generator = Blend(module.layout.encode(flux, labels))
    return module


@pytest.mark.parametrize("known", [range(PIXELS), range(8, 16), [12]])
def test_a_spectrum_between_two_is_found(known):
    labels = torch.tensor([[0.2, 0.1], [0.8, 0.9]])
    module = blending(plain(), toy(labels), labels)
    mask = torch.zeros(PIXELS, dtype=torch.bool)
    mask[list(known)] = True
    truth = labels[0] + 0.3 * (labels[1] - labels[0])
    flux = toy(truth[None])[0]
    unseen = torch.where(mask, flux, torch.nan)
    found = module.complete(
        unseen, 1e-7 * flux, mask, restarts=4, steps=200, rate=0.03, prior=0.0, generator=seeded()
    )
    torch.testing.assert_close(found.labels, truth.expand(4, -1), atol=0.02, rtol=0)
    torch.testing.assert_close(found.flux, flux.expand(4, -1), rtol=5e-3, atol=0)
    assert (found.distance < 0.5).all()


def test_the_spectrum_of_a_known_label_is_found():
    labels = torch.tensor([[0.5, 0.1], [0.5, 0.9]])
    module = blending(plain(), toy(labels), labels)
    flux = toy(torch.tensor([[0.5, 0.7]]))[0]
    known = torch.arange(PIXELS) == 0  # which water does not change
    given = torch.tensor([torch.nan, 0.7])
    found = module.complete(
        flux, 1e-9 * flux, known, given, restarts=4, steps=150, rate=0.03, prior=0.0, generator=seeded()
    )
    torch.testing.assert_close(found.labels, torch.tensor([[0.5, 0.7]]).expand(4, -1), atol=0.02, rtol=0)
    torch.testing.assert_close(found.flux, flux.expand(4, -1), rtol=2e-3, atol=0)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("bins", ["all", "wfc3", "every third"])
def test_a_picture_between_two_is_found(bins):
    wave = torch.linspace(0, 60, 515)
    flux = torch.stack([0.01 + 0.0010 * torch.sin(wave), 0.02 + 0.0015 * torch.sin(wave)])
    labels = torch.stack([torch.full((7,), 0.2), torch.full((7,), 0.8)])
    module = blending(inpainting(515, LABELS, "aspa", width=4), flux, labels)
    middle, labels_of_it = module.layout.decode(module.generator(torch.full((1, LATENT), -0.4)))
    known = {
        "all": torch.ones(515, dtype=torch.bool),
        "wfc3": torch.from_numpy(aspa.bins_of(7, 8).copy()),
        "every third": torch.arange(515) % 3 == 0,
    }[bins]
    data = middle[0].nan_to_num(0.015)
    found = module.complete(
        data, 1e-8 * data, known, restarts=3, steps=150, rate=0.03, prior=0.0, generator=seeded()
    )
    torch.testing.assert_close(found.labels, labels_of_it.expand(3, -1), atol=0.02, rtol=0)
    kept = torch.isfinite(middle[0])
    assert kept.sum() == 511
    torch.testing.assert_close(found.flux[:, kept], middle[:, kept].expand(3, -1), rtol=0.03, atol=0)


def test_each_restart_sees_other_noise():
    labels = torch.tensor([[0.0, 0.5], [1.0, 0.5]])
    module = blending(plain(), toy(labels), labels)
    flux, known = toy(torch.tensor([[0.5, 0.5]]))[0], torch.ones(PIXELS, dtype=torch.bool)
    options = {"restarts": 64, "steps": 150, "rate": 0.03, "prior": 0.0}
    scatter = [
        float(
            module.complete(flux, torch.full((PIXELS,), error), known, generator=seeded(), **options)
            .labels[:, 0]
            .std()
        )
        for error in (1e-6, 3e-4)
    ]
    # 3e-4 over the square root of 24 pixels is 0.02 of the range of 0.003.
    assert scatter[0] < 0.005
    assert 0.005 < scatter[1] < 0.1


def test_completion_repeats_itself_and_keeps_restarts_apart():
    module, known = plain(), torch.ones(PIXELS, dtype=torch.bool)
    flux = toy(torch.tensor([[0.5, 0.5]]))[0]
    options = {"restarts": 3, "steps": 5}
    first, again = (
        module.complete(flux, 1e-3 * flux, known, generator=seeded(), **options) for _ in range(2)
    )
    np.testing.assert_array_equal(first.flux, again.flux)
    assert not any(parameter.grad is not None for parameter in module.parameters())
    assert first.flux.requires_grad is False


def test_something_must_be_known():
    with pytest.raises(DraperError, match="no pixel"):
        plain().complete(torch.ones(PIXELS), torch.ones(PIXELS), torch.zeros(PIXELS) > 1, generator=seeded())


def test_trained_it_finds_labels_of_spectra():
    batch = rows(2000)
    feed = ArrayFeed(
        {name: batch[name].numpy() for name in ("flux", "ivar", "labels")},
        batch_size=64, noise={"z": LATENT}, resident=True,
    )  # fmt: skip
    torch.manual_seed(0)
    module = inpainting(PIXELS, TWO, hidden=(64, 64))
    with torch.no_grad():
        module.prepare(feed.sweep)
    config = TrainConfig(
        steps=1000, batch_size=64, learning_rate=1e-3, threads=1, progress="none", matmul="highest"
    )  # fmt: skip
    test = rows(8, seed=9)
    known = torch.ones(PIXELS, dtype=torch.bool)
    error = torch.full((PIXELS,), 2e-5)

    def misfit() -> float:
        found = [
            module.complete(flux, error, known, restarts=8, steps=100, rate=0.05, generator=seeded())
            .labels.median(0)
            .values
            for flux in test["flux"]
        ]
        return float((torch.stack(found) - test["labels"]).square().mean().sqrt())

    before = misfit()
    for _ in Trainer(
        module, feed.condensed(module.condense), None, config, device=torch.device("cpu")
    ).events():
        pass
    after, of_the_mean = misfit(), float((test["labels"] - 0.5).square().mean().sqrt())
    assert after < 0.5 * of_the_mean
    assert after < 0.5 * before


def test_a_discriminator_learns_to_tell_pictures():
    module, batch = pictures(32)
    wave = torch.linspace(0, 6, 515)
    batch["flux"] = 0.012 + 0.004 * batch["labels"][:, :1] + 0.001 * torch.sin(wave)
    feed = ArrayFeed(
        {name: batch[name].numpy() for name in ("flux", "ivar", "labels")},
        batch_size=16, noise={"z": LATENT}, resident=True,
    )  # fmt: skip
    config = TrainConfig(
        steps=30, batch_size=16, rates={"generator": 1e-6}, threads=1, progress="none", log_every=10,
        matmul="highest",
    )  # fmt: skip
    trainer = Trainer(module, feed.condensed(module.condense), None, config, device=torch.device("cpu"))
    totals = [e.metrics["discriminator/total"] for e in trainer.events() if e.kind == "log"]
    assert totals[-1] < 0.5 * totals[0]
