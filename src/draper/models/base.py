"""The contract of every model: fit, save and load here; the verbs in the final classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from draper.config import Config, ModelConfig
from draper.configs.train import TrainConfig
from draper.data.arrays import has_good_pixel
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra, has_errors
from draper.errors import DraperError, did_you_mean
from draper.instrument.pipeline import Pipeline
from draper.models import artifact
from draper.models.dataset import Dataset, Part, Source, gather
from draper.models.described import OptionsSignature, summary_of
from draper.models.held_out import Errors, label_errors, record_errors, sample, spectrum_errors
from draper.models.lock import locked
from draper.models.provenance import NO_ERRORS, NOTES, SEEN, relation, with_noise
from draper.models.run import claim_folder, continuable, require_empty, run_training
from draper.nn.module import Batch, Module
from draper.nn.precision import fastest_mode, matmul_mode, one_thread
from draper.registry import config_class
from draper.results.estimates import Estimates
from draper.results.report import Report
from draper.simulate.made import made_spectra
from draper.train.distributed import World
from draper.train.feed import Feed
from draper.train.session import pick_device
from draper.train.tracking import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERBS = ("encode", "generate", "predict", "evaluate")

Progress = Callable[[int, int], None]
"""Called by verbs while they work, with how many spectra are done and how many there are."""

INFERENCE_ROWS = 256
"""Rows evaluated together: beyond it the outputs leave the processor's cache."""


class Model(ABC):
    """What users hold: options, grid, labels, transforms, network, and the verbs.

    A final class names itself (``name``), says how a network is made from options, grid and labels
    (:meth:`design`, :meth:`build`) and which arrays go in (:meth:`arrays`, :meth:`targets`), and defines the
    verbs that it has. Options are given as keywords, or as one config object.

    Verbs have the same signature in every model; those that a model lacks are not defined:

    - ``encode(spectra, options=None, *, progress=None, **changes)`` returns latents (n, d);
    - ``predict(spectra, options=None, *, progress=None, **changes)`` returns estimates of labels;
    - ``generate(*what, options=None, *, progress=None, **changes)`` returns spectra; ``what`` are the
      arguments that ``config.generate_from`` names.

    ``options`` are of the class that ``config.verb_options`` names for the verb, ``changes`` are single
    options by name, and ``progress`` is called with the numbers of spectra that are done, and of all.
    """

    name: ClassVar[str]
    """Its name in the registry."""

    accepts: ClassVar[Literal["own", "any"]] = "own"
    """Whether verbs take spectra on the model's own grid alone, or on any; with ``any``, ``generate`` takes
    a ``grid``, on whose pixels the spectra come out."""

    errors_from_spectra: ClassVar[bool] = False
    """Whether errors of predicted labels follow from the errors of the spectra."""

    needs_pixels: ClassVar[bool] = True
    """Whether a spectrum without any good pixel is useless to the model: it is left out of training, and what
    verbs return for it is NaN. A model that also takes photometry, say, sets it to False."""

    extra_verbs: ClassVar[tuple[str, ...]] = ()
    """Public methods besides encode, generate, predict and evaluate, which commands may ask for."""

    fits_exposures: ClassVar[bool] = False
    """Whether ``predict`` also takes exposures of the same objects: a sequence of spectra with equal ids."""

    __signature__ = OptionsSignature()

    noise: Mapping[str, int] = {}
    """Standard normal numbers that the module needs with each row: name to count."""

    def __init_subclass__(cls) -> None:
        """Let each verb compute with one thread: here, so that no family can forget it."""
        for name in {*VERBS, "explain", "reconstruct", *cls.extra_verbs} & vars(cls).keys():
            if vars(cls)[name] is not None:  # by which a subclass leaves out a verb
                setattr(cls, name, one_thread()(vars(cls)[name]))

    def __init__(self, config: ModelConfig | None = None, **options: Any) -> None:
        self.config = config_class(self.name)(**options) if config is None else config.replace(**options)
        self.grid: Grid | None = None
        self.labels = LabelSet()
        self.pipeline = Pipeline()
        self.module: Module | None = None
        self.training: dict[str, Any] = {}
        self.history: list[dict[str, float]] = []

    # ---------------------------------------------- what a final class defines

    @abstractmethod
    def design(self, *args: Any, **parts: Any) -> tuple[LabelSet, Pipeline]:
        """Return labels and transforms, measured on the training parts alone.

        A final class names one argument for each input of its config:
        ``def design(self, spectra: Part)``, or ``def design(self, synthetic: Part, observed: Part)``.
        """

    @abstractmethod
    def build(self, grid: Grid, labels: LabelSet) -> Module:
        """Return a new network for a grid and labels."""

    @abstractmethod
    def arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return the named arrays (n, ...) that verbs need; ``flux`` and ``ivar`` get transformed."""

    def targets(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return the named arrays (n, ...) that only training needs, such as scaled labels."""
        return {}

    @classmethod
    def example_data(cls, n: int, seed: int = 0) -> dict[str, Source]:
        """Return small data with known truth, by input; the public checks train the model on them."""
        return {"spectra": made_spectra(n, seed=seed)}

    @classmethod
    def example_spectra(cls, n: int, seed: int = 0) -> Spectra:
        """Return spectra with true labels like those of :meth:`example_data`, as the verbs take them."""
        return made_spectra(n, seed=seed)

    def add_labels(self, labels: LabelSet) -> None:
        """Let the model learn further labels in a later fit; most models cannot."""
        raise DraperError(
            f"{type(self).__name__} cannot learn further labels after its first fit",
            given=", ".join(labels.names),
            hint="train a new model with all labels",
        )

    def conclude(self, dataset: Dataset, folder: Path | None) -> None:
        """Do what comes after training, such as measuring; ``folder`` is that of the artifact, if any."""
        del dataset, folder

    def held_out_errors(self, dataset: Dataset) -> Errors:
        """Return errors on some held-out objects beside those of the mean, by label, or of ``spectra``.

        Training ends with them, and with a warning where a model is no better than the mean. A model whose
        verbs take long, or that is made for something else, measures what it is made for.
        """
        spectra = sample(dataset, self.labels.names)
        if self.labels and "predict" in self.verbs and set(self.labels.names) & set(spectra.table):
            return label_errors(self.predict(spectra), spectra, self.labels.names)  # type: ignore[attr-defined]
        return spectrum_errors(spectra, self.reconstruct(spectra))

    def card_sections(self) -> Mapping[str, str]:
        """Return further sections of the model card, by title."""
        return {}

    @abstractmethod
    def citation(self) -> str:
        """Return BibTeX of what a user of this model should cite."""

    # ------------------------------------------------------------ the contract

    @property
    def table_columns(self) -> tuple[str, ...]:
        """Columns besides labels that the model knows of objects without spectra, if it needs no pixels."""
        return ()

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs that this model has; one that predicts or generates can be evaluated."""
        own = tuple(verb for verb in VERBS[:-1] if callable(getattr(type(self), verb, None)))
        core = (*own, "evaluate") if {"generate", "predict"} & set(own) else own
        return (*core, *self.extra_verbs)

    def require(self, verb: str) -> None:
        """Raise an error if this model lacks a verb."""
        if verb not in self.verbs:
            raise DraperError(
                f"{type(self).__name__} has no verb '{verb}'",
                given=self.name,
                expected=f"one of its verbs: {', '.join(self.verbs)}",
            )

    def options_of(self, verb: str, options: Config | None = None, **changes: Any) -> Config:
        """Return the options of a verb, of the class that the model's config names for it.

        Parameters
        ----------
        verb
            Such as ``predict``.
        options
            Options to start from; the defaults unless given.
        changes
            Single options by name.
        """
        known = self.config.options_class(verb)
        if unknown := set(changes) - set(known.model_fields):
            name = min(unknown)
            raise DraperError(
                f"{verb} of the model '{self.name}' has no option '{name}'",
                given=f"{name}={changes[name]!r:.60}",
                expected=f"one of {', '.join(known.model_fields)}" if known.model_fields else "no option",
                hint=did_you_mean(name, known.model_fields),
            )
        if options is None:
            return known(**changes)
        if not isinstance(options, known) or options.model_fields_set - set(known.model_fields):
            raise DraperError(
                f"these are not options of {verb} of the model '{self.name}'",
                given=type(options).__name__,
                expected=known.__name__ if known.model_fields else "no options",
            )
        return options.replace(**changes)

    def fit(
        self,
        data: Source | None = None,
        valid: Source | float | Mapping[str, Source | float] | None = None,
        train: TrainConfig | None = None,
        out: str | Path | None = None,
        resume: bool = False,
        *,
        labels: Sequence[str] = (),
        **sources: Source,
    ) -> Self:
        """Train the model; a second call continues from the weights of the first.

        Parameters
        ----------
        data
            Spectra, the path of a file that holds them, Parquet partitions that are streamed, or a simulator,
            for a model with one input.
        valid
            Held-out spectra, or the fraction of the objects to hold out: a tenth by default, none with 0. A
            model of several inputs takes one fraction for all, or a dict by input. Errors of predictions are
            measured on them.
        train
            How to train; options that are not set have the model's own defaults.
        out
            Folder of the artifact, with checkpoints while training. Without it nothing is written.
        resume
            Continue from the checkpoint in ``out``; the result is that of a run without interruption.
        labels
            Further labels that a trained model is to learn, where it can.
        sources
            The inputs by name, for a model with several: ``fit(synthetic=..., observed=...)``.

        Returns
        -------
        Model
            Itself.
        """
        chosen = {} if train is None else train.model_dump(exclude_unset=True)
        folder = None if out is None else Path(out)
        dataset = self.gather(data, valid, TrainConfig(**chosen).seed, **sources)
        own = self.config.training_for(min(len(part) for part in dataset.training.values()))
        # If epochs are given, the model's default number of steps is ignored.
        own = {k: v for k, v in own.items() if not ("epochs" in chosen and k == "steps")}
        train = TrainConfig(**{**own, **chosen})
        if not dataset.has_held_out and "patience" not in chosen:
            train = train.replace(patience=None)  # the model's default has nothing to watch
        if labels:
            self._learn_further(dataset, labels)
        if self.needs_pixels:
            for part in dataset.training.values():
                part.grid.require_several_pixels()
        device = pick_device(train.device)
        world = World.join(device)
        with locked(folder if world.is_first else None), continuable(folder):
            state = claim_folder(folder, resume, self, dataset, train)
            world.wait()  # no process may look into the folder after the first has written to it
            if state != "complete":
                is_new = self.module is None
                if is_new:
                    found, pipeline = self.design(**dataset.training)
                    with torch.random.fork_rng(devices=[]):
                        torch.default_generator.manual_seed(train.seed)
                        self.set_up(next(iter(dataset.training.values())).grid, found, pipeline)
                for part in (*dataset.training.values(), *dataset.held_out.values()):
                    self.check(part)
                run_training(
                    self, dataset, train, device, world, folder, prepare=is_new, resume=state == "begun"
                )
            self.conclude(dataset, folder)
            if world.is_first:
                record_errors(self, dataset, folder)
        return self

    def gather(
        self,
        data: Source | None,
        valid: Source | float | Mapping[str, Source | float] | None,
        seed: int,
        **sources: Source,
    ) -> Dataset:
        """Return the training and held-out parts of what is given to :meth:`fit`."""
        inputs = self.config.inputs
        if data is not None:
            if len(inputs) > 1:
                names = ", ".join(f"{one.name}=..." for one in inputs)
                raise DraperError(
                    f"{type(self).__name__} takes several inputs", given="data without a name", expected=names
                )
            if inputs[0].name in sources:
                raise DraperError(f"the input '{inputs[0].name}' is given twice", hint="leave out one")
            sources = {inputs[0].name: data, **sources}
        return gather(inputs, sources, valid, seed, needs_pixels=self.needs_pixels)

    def _learn_further(self, dataset: Dataset, names: Sequence[str]) -> None:
        if self.module is None:
            raise DraperError(
                "further labels are for a model that is trained",
                given=", ".join(names),
                hint="name the labels of a new model in its options",
            )
        if new := [name for name in names if name not in self.labels.names]:
            table = next(iter(dataset.training.values())).table
            self.add_labels(LabelSet.from_table(table, new))

    def training_arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return the named arrays (n, ...) that the network is trained on."""
        return {**self.arrays(spectra), **self.targets(spectra)}

    def feed(self, dataset: Dataset, parts: Mapping[str, Part], train: TrainConfig, **options: Any) -> Feed:
        """Return the batches of the training or the held-out parts of a data set."""
        return dataset.feed(
            parts, self.training_arrays, train, transform=self.transformed, noise=self.noise, **options
        )

    def transformed(self, batch: Batch) -> Batch:
        """Return a batch with the recorded transforms applied to flux and ivar, where it has them."""
        if "flux" not in batch:
            return batch
        with torch.no_grad():
            flux, ivar = self.pipeline(batch["flux"], batch["ivar"])
        return {**batch, "flux": flux, "ivar": ivar}

    # -------------------------------------------------------------- evaluation

    @one_thread()
    def evaluate(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        snr: float | None = None,
        seed: int = 0,
        by: Sequence[str] = (),
        progress: Progress | None = None,
        **changes: Any,
    ) -> Report:
        """Evaluate the model on spectra with known labels that it was not trained on.

        Parameters
        ----------
        spectra
            Spectra with true labels as columns.
        options
            Options of ``predict``.
        snr
            Signal-to-noise ratio per pixel of noise that is added to computed spectra before their labels are
            predicted; no noise by default.
        seed
            Seed of the noise.
        by
            Columns by which figures of merit are given, too, in five groups of equal size.
        progress
            Called with the number of spectra that are done, and of all.
        changes
            Single options of ``predict`` by name.
        """
        for name in by:
            spectra.column(name)  # an unknown one is an error before the work begins
        options = self.options_of("evaluate", options, **changes)
        if len(spectra) == 0:
            raise DraperError("there are no spectra to evaluate the model on", given=repr(spectra))
        seen = relation(self.training, spectra, self.needs_pixels)
        noisy = spectra if snr is None else with_noise(spectra, snr, seed)
        estimates, version, origin = None, self.reconstruct(spectra), self.reconstructs_from
        if self.labels and "predict" in self.verbs:
            if version is None:
                estimates, version = self.explain(noisy, options, progress=progress)
                origin = "the predicted labels"
            else:
                estimates = self.predict(noisy, options, progress=progress)  # type: ignore[attr-defined]
        notes = [NOTES[seen]] if seen in NOTES else []
        if estimates is not None and self.errors_from_spectra and not has_errors(noisy):
            notes.append(NO_ERRORS)
        facts = {
            "spectra": f"{len(spectra):,} x {len(spectra.grid):,} pixels, {spectra.grid.extent}",
            "source": str(spectra.meta.get("source", "memory")),
            "seen before": SEEN[seen],
            "trained on": f"{self.training['spectra']:,} spectra"
            if "spectra" in self.training
            else "unknown",
            **({} if snr is None else {"noise": f"added: S/N {snr:g} per pixel, seed {seed}"}),
            **{f"option {k}": str(v) for k, v in options.model_dump(exclude_unset=True, mode="json").items()},
        }
        return Report(self.name, spectra, estimates, version, origin, facts, tuple(notes), tuple(by))

    reconstructs_from: ClassVar[str] = "the spectra themselves"
    """What :meth:`reconstruct` computes spectra from."""

    def reconstruct(self, spectra: Spectra) -> Spectra | None:
        """Return the model's version of the spectra on the same pixels, or None where it has none."""
        return cast(Spectra, self.generate(spectra)) if "generate" in self.verbs else None  # type: ignore[attr-defined]

    def explain(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> tuple[Estimates, Spectra | None]:
        """Return what ``predict`` does, and the model's version of the spectra on the same pixels.

        The latter is None where the model has none. If it is Doppler-shifted, its column ``rv`` says by how
        much [km/s].
        """
        self.require("predict")
        estimates = self.predict(spectra, options, progress=progress, **changes)  # type: ignore[attr-defined]
        made = self.reconstruct(spectra)
        # A velocity in the table of the data is that of a catalogue: spectra may be at rest all the same.
        return estimates, None if made is None else made.with_columns(rv=None)

    def draws(self, spectra: Spectra, options: Config | None = None) -> bool:
        """Return whether :meth:`pictures` can draw spectra."""
        return len(spectra) == 0 or self.explain(spectra[:1], options)[1] is not None

    def pictures(
        self, spectra: Spectra, estimates: Estimates, options: Config | None = None
    ) -> Iterator[Figure]:
        """Draw one spectrum after the other with the model's version of it.

        Parameters
        ----------
        spectra
            Observed spectra.
        estimates
            What ``predict`` has returned for them with these options.
        options
            Options of ``predict``.
        """
        from draper.plots.overlay import plot_overlay, quality_of_fit, title_of_estimates

        _, made = self.explain(spectra, options)
        assert made is not None
        for row, velocity in enumerate(made.table.get("rv", [0.0] * len(made))):
            rv = float(velocity) if np.isfinite(velocity) else 0.0
            title = title_of_estimates(estimates, row)
            fit = quality_of_fit(estimates, row)
            yield plot_overlay(spectra[row], made[row], title=title, rv=rv, fit=fit)

    # ---------------------------------------------------------- for the verbs

    def set_up(self, grid: Grid, labels: LabelSet, pipeline: Pipeline) -> None:
        """Fix grid, labels and transforms, and build the network."""
        self.grid, self.labels, self.pipeline = grid, labels, pipeline
        self.module = self.build(grid, labels).eval()

    @property
    def own_module(self) -> Module:
        """The network; an error before the first fit."""
        if self.module is None:
            raise DraperError(f"this {type(self).__name__} is not trained", hint="call fit, or draper.load")
        return self.module

    @property
    def own_grid(self) -> Grid:
        """The grid; an error before the first fit."""
        if self.grid is None:
            raise DraperError(f"this {type(self).__name__} is not trained", hint="call fit, or draper.load")
        return self.grid

    def check(self, spectra: Spectra | Part) -> None:
        """Refuse spectra that are not on the model's grid."""
        if self.accepts == "own":
            self.own_grid.require(
                spectra.grid,
                "the spectra are not on the model's grid",
                "resample them: draper convert FILE --grid ..., or draper.read(..., grid=...)",
            )

    def apply(
        self,
        spectra: Spectra,
        function: Callable[[Batch], tuple[Tensor, ...]],
        widths: tuple[int, ...],
        more: Callable[[Spectra, slice], dict[str, NDArray[Any]]] | None = None,
        progress: Progress | None = None,
    ) -> tuple[NDArray[np.float32], ...]:
        """Apply a function of a transformed batch to all spectra, block by block.

        Parameters
        ----------
        spectra
            The n spectra.
        function
            From a batch to tensors (rows, k).
        widths
            The second axes of these tensors, so that zero spectra give empty arrays.
        more
            Returns further arrays of some spectra, which are the given rows of all.
        progress
            Called after each block.

        Returns
        -------
        tuple of ndarray (n, k)
            NaN for spectra without a good pixel, if the model needs pixels.
        """
        self.check(spectra)
        device = next(iter(self.state().values())).device
        results = tuple(np.empty((len(spectra), width), dtype=np.float32) for width in widths)
        with torch.inference_mode(), matmul_mode(fastest_mode(device.type)):
            for start in range(0, len(spectra), INFERENCE_ROWS):
                rows = slice(start, start + INFERENCE_ROWS)
                part = spectra[rows]
                arrays = {**self.arrays(part), **({} if more is None else more(part, rows))}
                batch = {name: torch.from_numpy(np.array(array)).to(device) for name, array in arrays.items()}
                for result, tensor in zip(results, function(self.transformed(batch)), strict=True):
                    result[rows] = tensor.cpu().numpy()
                    if self.needs_pixels:
                        result[rows][~has_good_pixel(spectra.ivar[rows])] = np.nan
                if progress is not None:
                    progress(min(rows.stop, len(spectra)), len(spectra))
        return results

    def to(self, device: str) -> Self:
        """Move the model to a device, on which its verbs compute: auto, cpu, cuda, cuda:1, mps."""
        for part in (self.own_module, self.pipeline):
            part.to(pick_device(device))
        return self

    # ------------------------------------------------------------ the artifact

    def state(self) -> dict[str, Tensor]:
        """Return every array of network and transforms by name."""
        groups = {"module": self.own_module, "pipeline": self.pipeline}
        return {
            f"{group}.{name}": tensor
            for group, owner in groups.items()
            for name, tensor in owner.state_dict().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Set the arrays that :meth:`state` returned."""
        for group, owner in {"module": self.own_module, "pipeline": self.pipeline}.items():
            prefix = f"{group}."
            owner.load_state_dict(
                {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            )

    def save(self, path: str | Path, *, overwrite: bool = False, half: bool = False) -> Path:
        """Write the artifact folder, or replace one (``overwrite``); ``half``: large arrays as float16."""
        folder = Path(path)
        if not (overwrite and (folder / artifact.DESCRIPTION).exists()):
            require_empty(folder)
        artifact.write(self, folder, complete=True, half=half)
        History(folder / artifact.HISTORY, self.history)
        return folder

    def summary(self) -> str:
        """Return a few lines about the model."""
        return summary_of(self)

    __str__ = summary

    def __repr__(self) -> str:
        state = "not fitted" if self.module is None else f"fitted on {self.grid!r}"
        return f"{type(self).__name__}({state})"


def load(path: str | Path) -> Model:
    """Return the model in an artifact folder, as in ``draper.load("model/").predict(spectra)``."""
    if not artifact.describe(path)["complete"]:
        raise DraperError(
            "the training of this model is not complete",
            given=path,
            hint="continue it: the same fit(..., resume=True), or draper train ... --resume",
        )
    return cast(Model, artifact.read(path))
