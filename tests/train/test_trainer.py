"""The loop: players, resuming, stopping, averaging, and what it says when it goes wrong."""

import math
import os
import signal

import numpy as np
import pytest
import torch
from toy import CPU, QUICK, Duel, arrays, feed, same, state_of, trainer

from draper.configs.train import TrainConfig
from draper.errors import DivergedError, DraperError, InterruptedTraining
from draper.train import session
from draper.train.checkpoint import FILE, Checkpoint
from draper.train.feed import ArrayFeed
from draper.train.trainer import Trainer


def run(one: Trainer, resume: bool = False) -> list:
    return list(one.events(resume))


def test_equals_a_plain_loop() -> None:
    """The trainer against the same two-player game written out by hand, to the last bit."""

    class Plain(Duel):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Linear(6, 3)  # no dropout: nothing random but the feed

    config = QUICK.replace(schedule="constant", steps=12)
    one = trainer(config, module=Plain())
    torch.manual_seed(1)
    by_hand = Plain()
    by_hand.load_state_dict(one.module.state_dict())
    run(one)
    optimizers = {
        player: torch.optim.Adam(by_hand.parameters_of(player), 1e-3, fused=True)
        for player in by_hand.players
    }
    batches = feed()
    by_hand.train()
    for step in range(12):
        batch = batches.load(step)
        shared = by_hand.shared(batch)
        for player in by_hand.players:
            seen = shared if player == "encoder" else {"z": shared["z"].detach()}
            by_hand.zero_grad()
            by_hand.loss(batch, seen, player, 0.0)["total"].backward()
            optimizers[player].step()
    assert same(state_of(one), dict(by_hand.state_dict()))


def test_events_tell_the_story(tmp_path) -> None:
    events = run(trainer(QUICK.replace(checkpoint_every=20), tmp_path))
    assert [event.kind for event in events].count("log") == 8
    assert [event.step for event in events if event.kind == "checkpoint"] == [20, 40]
    assert events[0].kind == "start"
    assert events[0].facts["threads"] == "1"
    assert events[-1].facts["ended"] == "all steps done"
    log = events[1].metrics
    assert set(log) >= {
        "critic/total",
        "encoder/total",
        "encoder/rebuilt",
        "valid/total",
        "valid/critic/total",
        "rate",
    }
    assert log["rate"] == pytest.approx(1e-3, rel=0.1)


def test_logged_losses_are_means_over_the_steps() -> None:
    every = [e.metrics["encoder/total"] for e in run(trainer(QUICK.replace(log_every=1))) if e.kind == "log"]
    fifth = [e.metrics["encoder/total"] for e in run(trainer(QUICK.replace(log_every=5))) if e.kind == "log"]
    np.testing.assert_allclose(np.reshape(every, (8, 5)).mean(1), fifth, rtol=1e-6)


def test_repeats_are_means_too_and_move_more() -> None:
    once, often = (trainer(QUICK.replace(steps=1, repeats={"critic": n})) for n in (1, 7))
    logs = [next(e for e in run(one) if e.kind == "log").metrics["critic/total"] for one in (once, often)]
    assert 0.5 * logs[0] < logs[1] <= logs[0]
    assert not torch.equal(once.module.critic.weight, often.module.critic.weight)


def test_rates_of_players() -> None:
    one = trainer(QUICK.replace(rates={"critic": 1e-12}))
    before = state_of(one)
    run(one)
    assert torch.allclose(before["critic.weight"], one.module.critic.weight, atol=1e-9)
    assert not torch.allclose(before["decoder.weight"], one.module.decoder.weight, atol=1e-3)
    with pytest.raises(DraperError, match="did you mean 'critic'"):
        trainer(QUICK.replace(rates={"critics": 1e-4}))


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "radam", "sgd"])
def test_resume_is_exact(tmp_path, optimizer: str, ema: float | None) -> None:
    config = QUICK.replace(checkpoint_every=10, optimizer=optimizer, ema=ema, patience=50, clip=1.0, warmup=5)
    whole = trainer(config)
    whole_logs = [event.metrics for event in run(whole) if event.kind == "log"]
    half = trainer(config, tmp_path)
    for event in half.events():
        if event.kind == "checkpoint" and event.step == 20:
            break
    resumed = trainer(config, tmp_path)
    logs = [event.metrics for event in run(resumed, resume=True) if event.kind == "log"]
    assert same(state_of(whole), state_of(resumed))
    assert logs == whole_logs[-len(logs) :]


def test_nothing_of_the_process_is_changed() -> None:
    torch.manual_seed(3)
    threads, mode = torch.get_num_threads(), torch.get_float32_matmul_precision()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    expected = torch.rand(3)
    torch.manual_seed(3)
    one = Trainer(Duel(), feed(), None, QUICK.replace(matmul="medium"), device=CPU)
    torch.manual_seed(3)
    for _ in one.events():
        assert torch.get_float32_matmul_precision() == mode
        assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), expected)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_average_is_exponential() -> None:
    config = QUICK.replace(ema=0.5, steps=3, schedule="constant")
    averaged = trainer(config)
    live = trainer(config.replace(ema=None, log_every=1))
    weights = [live.module.decoder.weight.detach().clone()]
    weights += [live.module.decoder.weight.detach().clone() for event in live.events() if event.kind == "log"]
    run(averaged)
    mean = weights[0]
    for step, weight in enumerate(weights[1:], start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * weight
    torch.testing.assert_close(averaged.module.decoder.weight, mean)


def test_early_stopping_keeps_the_best() -> None:
    config = QUICK.replace(steps=2000, patience=3, validate_every=10, learning_rate=0.05, schedule="constant")
    one = trainer(config)
    events = run(one)
    valid = [e.metrics["valid/total"] for e in events if e.kind == "log" and "valid/total" in e.metrics]
    assert one.step < 2000
    assert np.argmin(valid) == len(valid) - 4
    assert events[-1].metrics["valid/total"] == min(valid)
    assert "no improvement of valid/total" in events[-1].facts["ended"]
    assert one.validate()["valid/total"] == pytest.approx(min(valid), rel=1e-6)


def test_early_stopping_on_a_metric_that_is_not() -> None:
    with pytest.raises(DraperError, match="did you mean 'valid/rebuilt'"):
        run(trainer(QUICK.replace(patience=1, metric="valid/rebuild")))


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e12])
def test_divergence_names_step_player_and_term(tmp_path, poison: float) -> None:
    one = trainer(QUICK.replace(checkpoint_every=10), tmp_path, Duel(poison_at=25, poison=poison))
    with pytest.raises(DivergedError, match=r"step 25: the term 'total' of player 'encoder'") as caught:
        run(one)
    assert caught.value.exit_code == 3
    kept = Checkpoint.read(tmp_path)
    assert kept.state["step"] == 20
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.tensors.values())


def test_weights_spoilt_by_an_infinite_gradient_are_never_written(tmp_path) -> None:
    one = trainer(QUICK.replace(checkpoint_every=1), tmp_path, Duel(infinite_gradient=True))
    with pytest.raises(DivergedError, match="step"):
        run(one)
    kept = Checkpoint.read(tmp_path)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.group("weights").values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_write_a_checkpoint(tmp_path, number: signal.Signals) -> None:
    whole = trainer()
    run(whole)
    one = trainer(folder=tmp_path)
    with pytest.raises(InterruptedTraining) as caught:
        for event in one.events():
            if event.kind == "log" and event.step == 15:
                os.kill(os.getpid(), number)
    assert caught.value.signal_number == number
    assert Checkpoint.read(tmp_path).state["step"] == 16
    resumed = trainer(folder=tmp_path)
    run(resumed, resume=True)
    assert same(state_of(whole), state_of(resumed))


def test_resume_refusals(tmp_path) -> None:
    with pytest.raises(DraperError, match="no checkpoint"):
        run(trainer(folder=tmp_path), resume=True)
    with pytest.raises(DraperError, match="no folder to resume"):
        run(trainer(), resume=True)
    run(trainer(QUICK.replace(checkpoint_every=10), tmp_path))
    with pytest.raises(DraperError, match=r"batch_size=8.*\n.*batch_size=16"):
        run(trainer(QUICK.replace(batch_size=8, checkpoint_every=10), tmp_path), resume=True)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(DraperError, match="damaged"):
        run(trainer(folder=tmp_path), resume=True)


def test_bfloat16_trains_near_float32() -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        one = trainer(QUICK.replace(precision=precision))
        logs = [event.metrics["encoder/rebuilt"] for event in run(one) if event.kind == "log"]
        assert one.module.decoder.weight.dtype == torch.float32
        losses.append(logs[-1])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_clip_bounds_the_step() -> None:
    config = QUICK.replace(steps=1, optimizer="sgd", learning_rate=1.0, schedule="constant", clip=1e-3)
    one = trainer(config)
    before = state_of(one)
    run(one)
    moved = [
        (before[k] - v).square().sum()
        for k, v in state_of(one).items()
        if not k.startswith(("critic", "calls"))
    ]
    assert float(sum(moved)) ** 0.5 == pytest.approx(1e-3, rel=1e-3)


def test_prefetching_changes_nothing() -> None:
    one, other = trainer(resident=True), trainer(resident=False)
    run(one)
    run(other)
    assert same(state_of(one), state_of(other))


def test_steps_follow_from_epochs() -> None:
    assert TrainConfig(epochs=2).total_steps(1000, 100) == 20
    assert TrainConfig(epochs=0.01).total_steps(1000, 100) == 1
    assert TrainConfig(epochs=2, steps=7).total_steps(1000, 100) == 7


def test_threads_and_mode_are_chosen_by_trial() -> None:
    free = TrainConfig(steps=2, progress="none")
    wide = ArrayFeed({**arrays(64)}, batch_size=64, noise={"epsilon": 3})
    one = Trainer(Duel(), wide, None, free, device=CPU)
    before = int(one.module.calls)
    facts = run(one)[0].facts
    assert int(facts["threads"]) >= 1
    assert facts["matmul"] in ("highest", "medium")
    assert int(one.module.calls) == before + 2, "trials must not touch the module's buffers"


@pytest.mark.parametrize(("limit", "processes", "threads"), [("", "1", 8), ("4", "1", 4), ("1", "2", 4)])
def test_threads_obey_the_environment(
    limit: str, processes: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(session, "_seconds", lambda trial, module, batch: 1 / trial.threads)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    alone = session.Session("cpu", 1, "highest", "float32")
    assert session._fastest_threads(alone, Duel(), {}) == threads


def test_early_stopping_needs_held_out_rows() -> None:
    with pytest.raises(DraperError, match="held-out rows"):
        Trainer(Duel(), feed(), None, QUICK.replace(patience=2), device=CPU)


class Tied(Duel):
    """The decoder goes by two names."""

    def __init__(self) -> None:
        super().__init__()
        self.alias = self.decoder

    def parameters_of(self, player: str):
        return super().parameters_of(player)


def test_a_parameter_with_two_names_is_averaged_once_and_resumed(tmp_path) -> None:
    config = QUICK.replace(ema=0.9, checkpoint_every=10)
    whole, plain = trainer(config, module=Tied()), trainer(config)
    whole.module.load_state_dict({**plain.module.state_dict(), **alias_of(plain)})
    whole = Trainer(whole.module, feed(), feed(40, seed=3), config, device=CPU, folder=tmp_path / "a")
    for event in whole.events():
        if event.kind == "checkpoint" and event.step == 20:
            break
    resumed = trainer(config, tmp_path / "a", Tied())
    run(resumed, resume=True)
    run(plain)
    assert torch.equal(resumed.module.alias.weight, resumed.module.decoder.weight)
    assert torch.equal(resumed.module.decoder.weight, plain.module.decoder.weight)


def alias_of(one: Trainer) -> dict[str, torch.Tensor]:
    return {f"alias.{name}": value for name, value in one.module.decoder.state_dict().items()}


def test_a_held_out_loss_that_is_not_finite_stops_the_run() -> None:
    class Broken(Duel):
        def loss(self, batch, shared, player, progress):
            terms = super().loss(batch, shared, player, progress)
            return terms if self.training else {**terms, "total": terms["total"] / 0}

    with pytest.raises(DivergedError, match="held-out loss 'valid/"):
        run(trainer(module=Broken()))


def test_gradients_can_be_taken_inside_a_loss() -> None:
    class Penalised(Duel):
        def loss(self, batch, shared, player, progress):
            terms = super().loss(batch, shared, player, progress)
            if player == "critic":
                z = shared["z"].detach().requires_grad_()
                (slope,) = torch.autograd.grad(self.critic(z).sum(), z, create_graph=True)
                terms["total"] = terms["total"] + slope.square().mean()
            return terms

    assert run(trainer(module=Penalised()))[-1].kind == "end"


def test_a_run_that_is_killed_after_its_last_step_goes_on(tmp_path) -> None:
    config = QUICK.replace(steps=23, checkpoint_every=10, ema=0.9)
    whole = trainer(config, tmp_path)
    events = run(whole)
    assert [event.step for event in events if event.kind == "checkpoint"] == [10, 20, 23]
    resumed = trainer(config, tmp_path)
    assert [event.kind for event in run(resumed, resume=True)] == ["start", "checkpoint", "end"]
    assert same(state_of(whole), state_of(resumed))


def test_signals_are_free_again_when_a_listener_fails() -> None:
    from contextlib import closing

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), closing(trainer().events()) as events:
        for event in events:
            if event.kind == "log":
                raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) == before
