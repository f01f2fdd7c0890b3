"""What every model must do; each check takes the name of a registered model and an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from draper.configs.train import TrainConfig
from draper.data.spectra import Spectra
from draper.errors import DraperError
from draper.models.artifact import read
from draper.nn.module import Batch
from draper.registry import config_class, model_class
from draper.results.estimates import Estimates
from draper.train.checkpoint import Checkpoint

QUICK = TrainConfig(epochs=6, batch_size=32, threads=1, matmul="highest", progress="none", checkpoint_every=5)

SHORT = QUICK.replace(steps=27)
"""Six epochs of the example data; a simulator has no epochs of its own."""


def new(name: str) -> Any:
    """Return an unfitted model with the options of its config's ``example``."""
    return model_class(name)(config_class(name)(**config_class(name).example))


def data_of(name: str, n: int = 160, seed: int = 0) -> dict[str, Any]:
    """Return small training data of a model, by input."""
    found: dict[str, Any] = model_class(name).example_data(n, seed)
    return found


def spectra_of(name: str, n: int, seed: int = 0) -> Spectra:
    """Return spectra with true labels, as the verbs of a model take them."""
    found: Spectra = model_class(name).example_spectra(n, seed)
    return found


def changed(data: dict[str, Any], change: Callable[[Spectra], Spectra]) -> dict[str, Any]:
    """Return training data with every set of spectra changed; simulators stay as they are."""
    return {name: change(one) if isinstance(one, Spectra) else one for name, one in data.items()}


def fitted(name: str, **train: Any) -> Any:
    """Return a model after a short training on its example data."""
    return new(name).fit(**data_of(name), train=SHORT.replace(**train))


def same_state(one: Any, other: Any) -> bool:
    """Whether two models agree in every bit of every array."""
    a, b = one.state(), other.state()
    return a.keys() == b.keys() and all(
        torch.equal(torch.nan_to_num(a[k].double()), torch.nan_to_num(b[k].double())) for k in a
    )


def outputs(model: Any, spectra: Spectra) -> list[NDArray[Any]]:
    """Return what every verb says about some spectra: values, errors and flags."""
    found: list[NDArray[Any]] = []
    if "encode" in model.verbs:
        found.append(model.encode(spectra))
    if "predict" in model.verbs:
        estimates = model.predict(spectra)
        found += [
            estimates.median,
            estimates.sigma,
            *(flag.astype(float) for flag in estimates.flags.values()),
        ]
    if "generate" in model.verbs and model.accepts == "own":
        found.append(np.asarray(model.generate(spectra).flux))
    return found


def trained(name: str) -> Any:
    """Return a model that has learnt enough to be judged by its numbers."""
    return new(name).fit(**data_of(name, 800), train=SHORT.replace(steps=900, learning_rate=5e-3))


def batch_of(model: Any, n: int, seed: int) -> Batch:
    """Return a batch as the model's module sees it in training."""
    dataset = model.gather(None, 0, seed, **data_of(model.name, n, seed))
    train = SHORT.replace(batch_size=n, seed=seed)
    feed = model.feed(dataset, dataset.training, train, device=torch.device("cpu"), world=1)
    batch: Batch = feed.ready(feed.load(0))
    return batch


def refused(function: Callable[[], Any]) -> DraperError:
    """Return the error that a call must raise."""
    try:
        function()
    except DraperError as error:
        return error
    raise AssertionError("this must be refused, and is not")


ALIKE = 5e-3
"""By how much a row of a fit may depend on its neighbours: it ends anywhere near enough to the minimum."""


def check_config_rejects_unknown(name: str, folder: Path) -> None:
    """An option that does not exist is refused, and the nearest right one named."""
    config = config_class(name)
    option = next(iter(config.model_fields))
    error = refused(lambda: config(**{f"{option}x": 1}))
    assert option in str(error.hint), error


def check_fit_lowers_loss(name: str, folder: Path) -> None:
    """Fit returns the model itself, and the loss of a player is lower at the end.

    Not that of every one: players work against each other, or start from their closed-form solution.
    """
    model = new(name)
    assert model.fit(**data_of(name), train=SHORT.replace(steps=90, validate_every=10)) is model
    totals = [
        {k: v for k, v in row.items() if k.startswith("valid/") and k.endswith("total")}
        for row in model.history
    ]
    totals = [row for row in totals if row]
    assert any(totals[-1][k] < first for k, first in totals[0].items()), totals


def check_gradients_by_player(name: str, folder: Path) -> None:
    """Every trainable parameter gets a gradient from one player, and belongs to no other."""
    model = fitted(name)
    module = model.own_module
    batch = batch_of(model, 16, seed=3)
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


def check_moving_buffers_are_named(name: str, folder: Path) -> None:
    """A buffer that a loss changes stands in ``moving``, so that processes share it."""
    model = fitted(name)
    module = model.own_module.train()
    before = {k: buffer.clone() for k, buffer in module.named_buffers()}
    batch = batch_of(model, 16, seed=3)
    shared = module.shared(batch)
    for player in module.players:
        module.loss(batch, shared, player, 0.5)
    changed = {
        k for k, b in module.named_buffers() if not torch.equal(b.nan_to_num(), before[k].nan_to_num())
    }
    assert changed <= set(module.moving), f"add {changed - set(module.moving)} to moving"


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
        new(name).fit(**data_of(name), train=SHORT, out=folder / "run")
    except ProcessLookupError:
        pass
    finally:
        Checkpoint.write = written  # type: ignore[method-assign]
    assert len(calls) == 2, "the run ended before it could be interrupted"
    resumed = new(name).fit(**data_of(name), train=SHORT, out=folder / "run", resume=True)
    assert same_state(whole, resumed)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.history]
    assert rows == [{k: v for k, v in row.items() if k != "seconds"} for row in whole.history]


def check_save_and_load(name: str, folder: Path) -> None:
    """A loaded model says exactly what the saved one said."""
    model, spectra = fitted(name), spectra_of(name, 20, seed=9)
    loaded = read(model.save(folder / "model"))
    assert same_state(model, loaded)
    assert loaded.config == model.config
    for before, after in zip(outputs(model, spectra), outputs(loaded, spectra), strict=True):
        assert np.array_equal(before, after, equal_nan=True)


def check_gaps_are_tolerated(name: str, folder: Path) -> None:
    """Missing labels and bad pixels are tolerated; without a good pixel the answer is NaN and flagged."""

    def damaged(spectra: Spectra) -> Spectra:
        random = np.random.default_rng(0)
        flux, ivar = np.array(spectra.flux), np.array(spectra.ivar)
        bad = random.random(flux.shape) < 0.1
        flux[bad], ivar[bad] = np.nan, 0
        ivar[3] = 0
        table = {
            label: np.where(random.random(len(spectra)) < 0.2, np.nan, column)
            if column.dtype.kind == "f"
            else column
            for label, column in spectra.table.items()
        }
        return Spectra(spectra.grid, flux, ivar, table, spectra.quantity)

    model = new(name).fit(**changed(data_of(name), damaged), train=SHORT)
    spectra = damaged(spectra_of(name, 160))
    rest = np.arange(len(spectra)) != 3
    for output in outputs(model, spectra):
        assert np.isfinite(output[rest]).all()
    if "predict" in model.verbs and model.needs_pixels:
        estimates = model.predict(spectra)
        assert np.isnan(estimates.median[3]).all()
        assert np.array_equal(estimates.flags["no_data"], ~rest)
    flux = np.where(np.arange(len(spectra.grid)) == 5, np.nan, spectra.flux)
    assert "ivar" in str(refused(lambda: Spectra(spectra.grid, flux, np.ones_like(flux))))


def check_spectra_without_pixels(name: str, folder: Path) -> None:
    """A model that needs pixels refuses data that have none, and says why."""
    model, data = new(name), data_of(name)
    if not model.needs_pixels or not any(isinstance(one, Spectra) for one in data.values()):
        return
    empty = changed(data, lambda one: Spectra(one.grid, one.flux, 0 * one.ivar, one.table, one.quantity))
    assert "good pixel" in str(refused(lambda: model.fit(**empty, train=SHORT)))


def check_bad_pixels_do_not_matter(name: str, folder: Path) -> None:
    """Whatever stands in a bad pixel changes neither what is learnt nor what is said."""

    def filled(filling: float) -> Callable[[Spectra], Spectra]:
        def change(spectra: Spectra) -> Spectra:
            ivar = np.array(spectra.ivar)
            ivar[np.random.default_rng(0).random(ivar.shape) < 0.1] = 0
            flux = np.where(ivar > 0, spectra.flux, filling)
            return Spectra(spectra.grid, flux, ivar, spectra.table, spectra.quantity)

        return change

    models = [new(name).fit(**changed(data_of(name), filled(value)), train=SHORT) for value in (0.0, 7.0)]
    assert same_state(*models)
    spectra = [filled(value)(spectra_of(name, 160)) for value in (0.0, 7.0)]
    for first, second in zip(*map(outputs, models, spectra), strict=True):
        assert np.array_equal(first, second, equal_nan=True)


def check_held_out_spectra_teach_nothing(name: str, folder: Path) -> None:
    """Held-out spectra decide neither transforms, nor labels, nor weights, early stopping aside."""

    def brighter(spectra: Spectra) -> Spectra:
        return Spectra(spectra.grid, 3 * spectra.flux, spectra.ivar, spectra.table, spectra.quantity)

    data = data_of(name)
    valid = {key: spectra_of(name, 40, seed=3) for key in data}
    one, other = (
        new(name).fit(**data, valid=held_out, train=SHORT.replace(patience=None))
        for held_out in (valid, {key: brighter(spectra) for key, spectra in valid.items()})
    )
    assert one.labels == other.labels
    pairs = zip(one.pipeline.state_dict().values(), other.pipeline.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    parameters = zip(one.own_module.parameters(), other.own_module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in parameters)


def check_a_second_fit_goes_on(name: str, folder: Path) -> None:
    """Fine-tuning starts from the weights of the first fit."""
    model = fitted(name)
    before = [parameter.detach().clone() for parameter in model.own_module.parameters()]
    model.fit(**data_of(name), train=SHORT.replace(steps=1, learning_rate=1e-12))
    for parameter, kept in zip(model.own_module.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), kept, rtol=1e-5, atol=1e-7)


def check_predictions_are_physical(name: str, folder: Path) -> None:
    """Labels come back in their units and order, with errors of the right size and flags that mean it."""
    if "predict" not in new(name).verbs:
        return
    model, test = trained(name), spectra_of(name, 200, seed=8)
    estimates: Estimates = model.predict(test)
    assert np.array_equal(estimates.ids, test.ids)
    for number, label in enumerate(estimates.labels.names):
        if label not in test.table:  # a velocity, say, that a fit finds beside the labels
            continue
        truth = test.table[label]
        error = estimates[label] - truth
        assert np.std(error) < 0.8 * np.std(truth), f"{label} is no better than its mean"
        pull = np.std(error / estimates.sigma[:, number])
        assert 0.3 < pull < 3, f"the errors of {label} are off by a factor {pull:.2g}"
    assert np.mean(estimates.flags["outside"]) < 0.2
    strange = Spectra(test.grid, test.flux[:, ::-1], test.ivar, test.table, test.quantity)
    assert np.mean(model.predict(strange).flags["outside"]) > 0.5


def check_generated_spectra_are_physical(name: str, folder: Path) -> None:
    """A model that rebuilds spectra gives them in the units of those it was given, in their order."""
    if "generate" not in new(name).verbs or new(name).accepts != "own":
        return
    model, test = trained(name), spectra_of(name, 100, seed=8)
    rebuilt = model.reconstruct(test)
    if rebuilt is None:
        return
    assert rebuilt.grid.matches(test.grid)
    assert rebuilt.quantity == test.quantity
    assert np.array_equal(rebuilt.ids, test.ids)
    misfit = np.std(rebuilt.flux - test.flux)
    assert misfit < np.std(test.flux - test.flux.mean(axis=0)), "no better than the mean spectrum"


def check_evaluation_tells_the_truth(name: str, folder: Path) -> None:
    """A report counts every spectrum, agrees with the predictions, and knows the training set again."""
    model = fitted(name)
    if "evaluate" not in model.verbs:
        return
    test = spectra_of(name, 40, seed=8)
    report = model.evaluate(test)
    assert not any("was trained on" in note for note in report.notes)
    for source in data_of(name).values():
        if isinstance(source, Spectra):
            assert any("was trained on" in note for note in model.evaluate(source).notes)
    if report.estimates is not None:
        for label, figures in report.labels.items():
            error = report.estimates[label] - test.table[label]
            assert figures["number"] == 40
            np.testing.assert_allclose(figures["bias"], error.mean(), rtol=1e-6, atol=1e-9)
    found = json.loads(report.write(folder / "report.json").read_text())
    assert found["labels"] or found["spectra"], "a report that says nothing"


def check_processes_agree(name: str, folder: Path) -> None:
    """Two processes do what one does, to 1e-5."""
    program = f"""
        import json, os
        from draper.testing.checks import SHORT, data_of, new
        model = new({name!r}).fit(**data_of({name!r}, 200), train=SHORT.replace(ema=0.9, clip=1.0))
        if os.environ["RANK"] == "0":
            print("HISTORY" + json.dumps(model.history))
    """
    script = folder / "script.py"
    script.write_text(textwrap.dedent(program))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("HISTORY"))
    two = json.loads(line.removeprefix("HISTORY"))
    one = new(name).fit(**data_of(name, 200), train=SHORT.replace(ema=0.9, clip=1.0)).history
    assert len(one) == len(two)
    for alone, together in zip(one, two, strict=True):
        for term in set(alone) - {"seconds"}:
            np.testing.assert_allclose(together[term], alone[term], rtol=1e-5, err_msg=term)


def check_wrong_grid_and_labels(name: str, folder: Path) -> None:
    """A wrong grid or label is refused with both sides named."""
    model = fitted(name)
    if model.accepts == "own":
        spectra = spectra_of(name, 4)
        pixels = len(spectra.grid)
        error = refused(lambda: outputs(model, spectra.pixels(slice(0, pixels - 6))))
        assert f"{pixels} px" in str(error), error
        assert f"{pixels - 6} px" in str(error), error
    data = data_of(name)
    if model.labels and any(isinstance(one, Spectra) for one in data.values()):
        label = model.labels.names[0]

        def renamed(spectra: Spectra) -> Spectra:
            values = spectra.table.get(label, np.zeros(len(spectra)))
            return spectra.with_columns(**{label: None, f"{label}x": values})

        error = refused(lambda: new(name).fit(**changed(data, renamed), train=SHORT))
        assert f"{label}x" in str(error), error


def check_further_labels(name: str, folder: Path) -> None:
    """Labels that come with a later fit are learnt, or refused with the reason."""
    model, data = fitted(name), data_of(name)
    known = model.labels.names
    table = next((one.table for one in data.values() if isinstance(one, Spectra)), {})
    further = [key for key, column in table.items() if column.dtype.kind == "f" and key not in known][:1]
    if not further:
        return
    reason = None
    try:
        model.fit(**data, labels=further, train=SHORT)
    except DraperError as error:
        reason = str(error)
    assert model.labels.names == (known if reason else (*known, *further))
    assert reason is None or further[0] in reason, reason
    if reason is None:
        loaded: Any = read(model.save(folder / "model"))
        assert loaded.predict(spectra_of(name, 3)).labels.names == (*known, *further)


def check_any_number(name: str, folder: Path) -> None:
    """Verbs work on one spectrum and on none, and one spectrum gives what it gives among others."""
    model, spectra = fitted(name), spectra_of(name, 300, seed=4)
    for number in (0, 1):
        for output in outputs(model, spectra[:number]):
            assert len(output) == number
    for among, alone in zip(outputs(model, spectra), outputs(model, spectra[7:8]), strict=True):
        alike = 1e-4 if model.accepts == "own" else ALIKE
        np.testing.assert_allclose(among[7:8], alone, rtol=alike, atol=alike)


CHECKS: tuple[Callable[[str, Path], None], ...] = (
    check_config_rejects_unknown,
    check_fit_lowers_loss,
    check_gradients_by_player,
    check_moving_buffers_are_named,
    check_same_seed_same_weights,
    check_resume_is_exact,
    check_processes_agree,
    check_save_and_load,
    check_a_second_fit_goes_on,
    check_gaps_are_tolerated,
    check_spectra_without_pixels,
    check_bad_pixels_do_not_matter,
    check_held_out_spectra_teach_nothing,
    check_predictions_are_physical,
    check_generated_spectra_are_physical,
    check_evaluation_tells_the_truth,
    check_wrong_grid_and_labels,
    check_further_labels,
    check_any_number,
)
"""Every check takes the name of a registered model and an empty folder."""
