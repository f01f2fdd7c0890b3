"""The Disentangler: latents free of chosen labels and rich in others; the same star with other labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from draper.config import Config
from draper.configs.disentangler import DisentanglerConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.spectra import Spectra, Subset
from draper.errors import DraperError, did_you_mean
from draper.instrument.pipeline import Pipeline
from draper.instrument.standardize import Standardize
from draper.latents.leakage import Leakage
from draper.latents.swap import Swap
from draper.models import artifact
from draper.models.base import Model, Progress
from draper.models.dataset import Dataset, Part
from draper.models.disentangler.checks import require_finite, require_quantities, warn_of_poor_data
from draper.models.disentangler.edits import learn_errors, learn_response
from draper.models.disentangler.leakage import MAX_PROBED, MIN_HELD_OUT, leakage_of
from draper.models.disentangler.swap import label_fit, measurable, swap_labels
from draper.models.held_out import Errors, label_errors, sample, spectrum_errors
from draper.nn.bottleneck import Bottleneck
from draper.nn.discriminators import Adversarial, Discriminators
from draper.nn.disentangle import Disentangling, Sizes
from draper.nn.edits import Edits
from draper.nn.module import Batch
from draper.results.estimates import Estimates
from draper.train.distributed import World

DEFAULT_LABELS = ("teff", "logg", "fe_h", "alpha_fe")
"""Labels that are used, as far as the table has them, if the options name none."""

STRENGTH = {"bottleneck": 50.0, "bins": 0.01, "joint": 0.1, "continuous": 0.1, "hsic": 0.3, "none": 0.0}
"""Default strength of each engine; the misfit beside it is in units of the variance of the fluxes."""

MAX_LABEL_ERROR = 1e3
"""Largest error of a label, in units of its range; a label with this error has no weight."""


class Disentangler(Model):
    """An autoencoder whose latents are free of some labels and rich in others (GANDALF and beyond).

    ``remove`` and ``keep`` name the labels, ``engine`` the method: the default, a bottleneck that encodes
    only what labels do not explain, removes what discriminators only hide. The guide in the documentation
    shows the measurements.

    Examples
    --------
    >>> from draper.configs.train import TrainConfig
    >>> from draper.simulate.made import made_spectra
    >>> train = TrainConfig(epochs=2, threads=1, progress="none")
    >>> model = Disentangler(remove=["teff"], keep=["fe_h"], latent=4, encoder=[32], decoder=[32])
    >>> stars = made_spectra(200)
    >>> model.fit(stars, train=train).encode(stars[:3]).shape
    (3, 4)
    >>> hotter = model.generate(stars[:3], teff=6000.0)
    """

    name: ClassVar[str] = "disentangler"
    extra_verbs: ClassVar[tuple[str, ...]] = ("leakage", "swap")
    config: DisentanglerConfig

    def design(self, spectra: Part) -> tuple[LabelSet, Pipeline]:
        """Scale labels by their ranges, and spectra by their mean and scatter."""
        warn_of_poor_data(spectra, self.config)
        names = self.config.named or tuple(name for name in DEFAULT_LABELS if name in spectra.table)
        require_quantities(spectra.table, names)
        return LabelSet.from_table(spectra.table, names), Pipeline([Standardize.fit(spectra.batches())])

    def build(self, grid: Grid, labels: LabelSet) -> Disentangling:
        """Return a new network."""
        network = self._engine(grid, labels)
        if isinstance(network, Bottleneck):
            network.edits = Edits(len(labels), len(grid))
        return network

    def _engine(self, grid: Grid, labels: LabelSet) -> Disentangling:
        """Return the network of the engine."""
        config = self.config
        remove, keep = ([labels.names.index(name) for name in part] for part in (config.remove, config.keep))
        sizes = Sizes(len(grid), len(labels), config.latent, config.encoder, config.decoder)
        if config.engine == "bottleneck":
            strength = config.strength or (STRENGTH["bottleneck"],)
            return Bottleneck(
                sizes,
                remove,
                keep,
                erase=config.erase,
                information_limit=config.information_limit,
                critic=config.critic,
                kept_cost=config.kept_cost,
                strength=strength * len(remove) if len(strength) == 1 else strength,
            )
        number = len(remove) + len(keep)
        given = config.strength or (STRENGTH[config.engine],)
        discriminators = Discriminators(
            config.engine,
            config.critic,
            config.bins,
            given if len(given) == number else given * number,
            config.ramp,
        )
        return Adversarial(
            sizes,
            remove,
            keep,
            erase=config.erase,
            sees_labels=config.encoder_sees_labels,
            discriminators=discriminators,
        )

    def arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return flux, weights, and labels with errors in units of their ranges.

        A missing label is NaN. A label is taken as exact if the table has no column ``<label>_err``, and as
        nearly unknown where that column has no positive number.
        """
        labels, errors = np.full((2, len(spectra), len(self.labels)), np.nan)
        for number, name in enumerate(self.labels.names):
            for array, column in ((labels, name), (errors, f"{name}_err")):
                if column in spectra.table:
                    array[:, number] = spectra.table[column]
        require_finite(self.labels.names, labels)
        scaled = self.labels.scale_error(labels, errors)
        named = np.array([f"{name}_err" in spectra.table for name in self.labels.names], dtype=bool)
        scaled = np.where(
            scaled > 0, np.minimum(scaled, MAX_LABEL_ERROR), np.where(named, MAX_LABEL_ERROR, 0.0)
        )
        return {
            "flux": spectra.flux,
            "ivar": spectra.ivar,
            "labels": self.labels.scale(labels).astype(np.float32),
            "label_errors": scaled.astype(np.float32),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Set the arrays of an artifact; older ones publish estimates as they are, drawn by spectra."""
        if isinstance(self.network, Bottleneck):
            # Older ones know nothing of changed labels; still older ones nothing of kept latents, either.
            prefix = "module.edits." if "module.by_star" in state else ""
            new = {name: array for name, array in self.state().items() if name.startswith(prefix)}
            state = {**new, "module.by_star": torch.tensor(False), **state}
        super().load_state(state)

    @property
    def noise(self) -> Mapping[str, int]:  # type: ignore[override]
        """Standard normal numbers for each row."""
        return {"noise": self.network.noise_size}

    @property
    def network(self) -> Disentangling:
        """The network, by its own type."""
        return cast(Disentangling, self.own_module)

    @property
    def edits(self) -> Edits:
        """How labels are changed; engine bottleneck only."""
        return cast(Edits, self.network.edits)

    def draw_noise(self) -> Any:
        """Return what draws the noise of latents for :meth:`apply`."""
        return latent_noise(self)

    def held_out_errors(self, dataset: Dataset) -> Errors:
        """Return the errors of reconstructions and of kept labels; removed ones are not to be predicted."""
        spectra = sample(dataset, self.config.keep)
        kept = self.config.keep if not self.config.encoder_sees_labels else ()
        errors = label_errors(self.predict(spectra), spectra, kept) if kept else {}
        return errors | spectrum_errors(spectra, self.reconstruct(spectra))

    def conclude(self, dataset: Dataset, folder: Path | None) -> None:
        """Learn how labels are changed, and measure the leakage on the held-out spectra."""
        if isinstance(self.network, Bottleneck) and self.labels and "edits" not in self.training:
            self._learn_edits(dataset, folder)
        if self.config.probe and self.config.named and "leakage" not in self.training:
            self._probe_held_out(dataset.held_out["spectra"].subset, folder)

    def _learn_edits(self, dataset: Dataset, folder: Path | None) -> None:
        """Learn the response to labels, and the errors of changes on held-out spectra."""
        judge = learn_response(self, dataset.training["spectra"])
        if judge is not None and dataset.has_held_out:
            held_out = dataset.held_out["spectra"].subset
            learn_errors(self, judge, held_out.spectra[held_out.rows], int(self.training["config"]["seed"]))
        self.training["edits"] = {"response": bool(self.edits.response.ready)}
        if folder is not None and World.join(next(iter(self.state().values())).device).is_first:
            artifact.write(self, folder, complete=True)

    def _probe_held_out(self, held_out: Subset, folder: Path | None) -> None:
        """Measure the leakage on the held-out spectra, and record it in the artifact."""
        seed = int(self.training["config"]["seed"])
        labels = (*self.config.remove, *self.config.keep)
        if not labels or any(name not in held_out.table for name in labels):
            return
        known = np.isfinite(np.column_stack([held_out.table[name] for name in labels])).all(axis=1)
        rows = np.sort(np.random.default_rng(seed).permutation(held_out.rows[known])[:MAX_PROBED])
        if len(rows) < MIN_HELD_OUT or not World.join(next(iter(self.state().values())).device).is_first:
            return
        report = self.leakage(held_out.spectra[rows], seeds=(seed,))
        self.training["leakage"] = {"summary": report.summary(), **report.to_json()}
        if folder is not None:
            artifact.write(self, folder, complete=True)

    # ---------------------------------------------------------------- the verbs

    def encode(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> NDArray[np.float32]:
        """Return the latents (n, latent).

        Those of the engine bottleneck are samples, since their means carry more information than the samples.
        The same star, by its ``id``, has the same sample, whichever spectra are encoded with it; without ids
        the same spectrum has. Kept labels come first, as estimated from the spectrum, in units of their
        scatter: corrected so that their errors do not follow removed labels, and with noise. Whoever has the
        model and the spectra can average draws, which tells more: publish latents.
        """
        self.options_of("encode", options, **changes)
        z: NDArray[np.float32]
        (z,) = self.apply(
            spectra,
            lambda batch: (self.network.publish(batch),),
            (self.config.latent,),
            latent_noise(self),
            progress,
        )
        return z

    def generate(
        self,
        spectra: Spectra,
        labels: Mapping[str, ArrayLike] | None = None,
        options: Config | None = None,
        *,
        latents: ArrayLike | None = None,
        progress: Progress | None = None,
        **changes: ArrayLike,
    ) -> Spectra:
        """Return the same stars with other labels; their reconstruction if none is given.

        Parameters
        ----------
        spectra
            Of the stars. Labels that are not changed are estimated from the spectra (engine bottleneck), or
            those of their table.
        labels, changes
            New values (n,), or one for all, by name: ``generate(stars, teff=6500, alpha_fe=0)``. Text with a
            sign is a change of all: ``generate(stars, teff="+500")``.
        options
            This model has none.
        latents
            Latents (n, latent) in place of those of the spectra.
        progress
            Called with how many spectra are done, and how many there are.

        Returns
        -------
        Spectra
            With the labels that the decoder used as columns, and ``outside_box`` where they are outside the
            ranges of the training set. Changed spectra (engine bottleneck) have further columns:
            ``<label>_expected_error``, by how much each label is expected to miss what was asked for, or to
            move along if it was not to change (68 % of held-out changes are within); ``expected_error``, the
            largest of those of the changed labels in units of their ranges; and ``unpopulated``, where no
            training star has similar labels.
        """
        self.options_of("generate", options)
        changed = {**(labels or {}), **changes}
        for name in changed:
            if name not in self.labels.names:
                raise DraperError(
                    f"the model has no label '{name}'",
                    given=name,
                    expected=", ".join(self.labels.names),
                    hint=did_you_mean(name, self.labels.names),
                )
        wanted, change = np.full((len(spectra), len(self.labels)), np.nan), np.zeros(len(self.labels))
        for name, value in changed.items():
            number = self.labels.names.index(name)
            if (step := signed_text(value)) is None:
                wanted[:, number] = values_for(spectra, name, value)
            else:
                change[number] = step
        if np.isinf(wanted).any():
            raise DraperError("new labels are finite, or NaN where the star keeps its own", given="infinity")
        scaled = self.labels.scale(wanted).astype(np.float32)
        edited = None if latents is None else np.asarray(latents, dtype=np.float32)
        if edited is not None and edited.shape != (len(spectra), self.config.latent):
            raise DraperError(
                "the latents do not go with the spectra",
                given=f"shape {edited.shape}",
                expected=f"({len(spectra)}, {self.config.latent})",
            )
        if edited is not None and not np.isfinite(edited).all():
            raise DraperError("latents are not finite", hint="leave out spectra without a good pixel")
        network, draw = self.network, latent_noise(self)

        def more(part: Spectra, rows: slice) -> dict[str, NDArray[Any]]:
            arrays = {**draw(part, rows), "wanted": scaled[rows]}
            return arrays if edited is None else {**arrays, "latents": edited[rows]}

        def make(batch: Batch) -> tuple[Tensor, ...]:
            z = batch["latents"] if edited is not None else network.encode(batch)
            used = network.decoder_labels(batch)
            if edited is not None:
                used = network.with_kept_from(batch, z, used)
            own = used
            if change.any():
                used = network.standardise(self._moved(network.unstandardise(used), change))
            used = torch.where(torch.isfinite(batch["wanted"]), network.standardise(batch["wanted"]), used)
            if changed and isinstance(network, Bottleneck) and bool(self.edits.response.ready):
                made = network.decode(z, own) + self.edits.response(used) - self.edits.response(own)
            else:
                made = network.decode(z, used)
            return self.pipeline.inverse(made, batch["ivar"])[0], network.unstandardise(used), own

        widths = (len(self.own_grid), len(self.labels), len(self.labels))
        flux, used, own = self.apply(spectra, make, widths, more, progress)
        values = self.labels.unscale(used)
        values = np.where(np.isfinite(wanted), wanted, values)
        table = {**spectra.table, **dict(zip(self.labels.names, values.T, strict=True))}
        if changed and isinstance(network, Bottleneck):
            table |= self._trust(own, used, [self.labels.names.index(name) for name in changed])
        return Spectra(
            self.own_grid,
            flux,
            table={**table, "outside_box": ~self.labels.inside(values)},
            quantity=spectra.quantity,
            unit=spectra.unit,
            meta={**spectra.meta, "model": self.name},
        )

    def _trust(
        self, own: NDArray[np.float32], used: NDArray[np.float32], changed: Sequence[int]
    ) -> dict[str, NDArray[Any]]:
        """Return columns of how far new labels (n, l) can be trusted; ``own`` (n, l) are standardised."""
        with torch.no_grad():
            new, old = self.network.standardise(torch.from_numpy(used)), torch.from_numpy(own)
            others = [number for number in range(len(self.labels)) if number not in changed]
            step = new - old
            step[:, others] = 0.0
            scaled = (self.edits.expected(step, new) * self.network.spread).numpy()
            unpopulated = self.edits.unpopulated(new).numpy()
        errors = self.labels.unscale_error(used, scaled)
        return {
            **{
                f"{name}_expected_error": column
                for name, column in zip(self.labels.names, errors.T, strict=True)
            },
            "expected_error": scaled[:, changed].max(axis=1),
            "unpopulated": unpopulated,
        }

    def _moved(self, scaled: Tensor, change: NDArray[np.float64]) -> Tensor:
        """Return scaled labels (n, l) that are changed by so much in physical units (l,)."""
        moved = self.labels.unscale(scaled.double().cpu().numpy()) + change
        return torch.from_numpy(self.labels.scale(moved)).to(scaled)

    def predict(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Estimates:
        """Return labels predicted from the latents, with errors calibrated on held-out spectra.

        Removed labels are predicted as well as kept ones determine them, and their errors are as large.
        ``outside`` flags spectra with a larger misfit than 99 % of the held-out ones.
        """
        self.options_of("predict", options, **changes)
        if self.config.encoder_sees_labels:
            raise DraperError(
                "this model's encoder gets the labels as inputs, so that it would repeat them",
                given="encoder_sees_labels=True",
                hint="train one whose encoder sees the spectra alone",
            )
        network = self.network

        def infer(batch: Batch) -> tuple[Tensor, ...]:
            z = network.encode(batch)
            mean, error = network.head.predict(z)
            misfit = network.misfit(batch, network.decode(z, network.decoder_labels(batch)))
            return network.unstandardise(mean), error * network.spread, misfit[:, None]

        sizes = (len(self.labels), len(self.labels), 1)
        scaled, sigma, misfit = self.apply(spectra, infer, sizes, latent_noise(self), progress)
        median = self.labels.unscale(scaled)
        return Estimates(
            self.labels,
            median,
            self.labels.unscale_error(scaled, sigma),
            spectra.ids,
            flags={
                "outside": misfit[:, 0] > float(network.limit),
                "label_range": ~self.labels.inside(median),
            },
        )

    def leakage(
        self, train: Spectra, test: Spectra | None = None, *, truth: str = "", **options: Any
    ) -> Leakage:
        """Return the leakage: how well fresh probes predict the labels from the latents.

        Parameters
        ----------
        train, test
            Spectra that probes are trained on, and other spectra that they are tested on, which the model
            must not have seen. Of one set, probes learn one half and are tested on the other, and the other
            way round.
        truth
            Suffix of the columns with true labels, such as ``_true`` in a simulated survey.
        options
            Those of :func:`draper.latents.leakage.measure_leakage`, such as ``probes`` and ``seeds``.
        """
        return leakage_of(
            self.encode,
            self.scaled_flux,
            train,
            test,
            removed=self.config.remove,
            kept=self.config.keep,
            kept_columns=self.network.kept_columns,
            moments=self.moments if isinstance(self.network, Bottleneck) else None,
            truth=truth,
            **options,
        )

    def moments(self, spectra: Spectra) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the means and variances (n, latent) of latents that are drawn."""
        network, size = cast(Bottleneck, self.network), self.config.latent
        mean, variance = self.apply(spectra, network.moments, (size, size), latent_noise(self))
        return mean, variance

    def swap(
        self,
        stars: Spectra,
        others: Spectra,
        emulator: Model,
        options: Config | None = None,
        *,
        truth: str = "",
        seed: int = 0,
        **changes: Any,
    ) -> Swap:
        """Return the swap test: spectra get labels of other stars, and a fit measures the labels again.

        Parameters
        ----------
        stars
            Spectra that the model has not seen, with labels.
        others
            Donors of labels, such as the training set.
        emulator
            An emulator of such spectra, which fits their labels.
        options, changes
            How the emulator fits labels, such as ``priors``.
        truth
            Suffix of the columns with true labels, such as ``_true``.
        seed
            Seed of the choice of donors.
        """
        emulator.require("predict")
        fit = emulator.options_of("predict", options, **changes)
        names = measurable(self.labels.names, emulator.labels.names)
        measure = label_fit(lambda spectra: emulator.predict(spectra, fit), names)  # type: ignore[attr-defined]
        return swap_labels(self.generate, measure, stars, others, names, truth=truth, seed=seed)

    def scaled_flux(self, spectra: Spectra) -> NDArray[np.float32]:
        """Return the flux (n, p) in units of the network, with bad pixels at the mean."""
        flux: NDArray[np.float32]
        (flux,) = self.apply(spectra, lambda batch: (batch["flux"],), (len(self.own_grid),))
        return np.nan_to_num(flux)

    def reconstruct(self, spectra: Spectra) -> Spectra:
        """Return the reconstructions."""
        return replace(self.generate(spectra), table=spectra.table)

    def card_sections(self) -> Mapping[str, str]:
        """Return what the probes of the held-out spectra found."""
        if "leakage" not in self.training:
            return {}
        scale = (
            "A leak of 0 is what the kept labels alone tell of a removed one, 1 what the spectra tell; that "
            "of the latents alone or beside true kept labels, the larger one."
        )
        return {"Leakage of the latents": f"{self.training['leakage']['summary']}\n\n{scale}"}

    def citation(self) -> str:
        """Return BibTeX of what a user of this model should cite."""
        return (
            "@article{manteiga2025gandalf, author = {{Manteiga}, M. and {Santoveña}, R. and {Álvarez}, M. A. "
            "and {Dafonte}, C. and {Penedo}, M. G. and {Navarro}, S. and {Corral}, L.}, "
            "title = {Disentangling stellar "
            "atmospheric parameters in astronomical spectra using Generative Adversarial Neural "
            "Networks}, journal = {A&A}, year = {2025}}\n"
            "@software{draper, author = {{the draper developers}}, title = {draper}, year = {2026}}"
        )


def signed_text(value: Any) -> float | None:
    """Return the number of a text with a sign, which is a change: ``"+500"``; None of anything else."""
    if not isinstance(value, str) or value.strip()[:1] not in ("+", "-"):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def values_for(spectra: Spectra, name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return new values (n,) of a label."""
    try:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (len(spectra),))
    except ValueError:
        raise DraperError(
            f"these are no new values of '{name}' for {len(spectra)} spectra",
            given=f"{value!s:.60}",
            expected=f"one number for all, or {len(spectra)} of them",
        ) from None


def latent_noise(model: Disentangler) -> Any:
    """Return a function that draws normal numbers (n, latent) from the model's seed and each spectrum."""
    seed = int(model.training.get("config", {}).get("seed", 0)).to_bytes(8, "little")
    network = model.network
    by_star = not isinstance(network, Bottleneck) or bool(network.by_star)

    def draw(part: Spectra, rows: slice) -> dict[str, NDArray[Any]]:
        # By the star where it has a name: else any change of its flux, however small, would be a new draw.
        names = part.table.get("id") if by_star else None
        flux = np.where(part.ivar > 0, part.flux, 0.0).astype(np.float32)
        numbers = np.empty((len(flux), model.config.latent), dtype=np.float32)
        for row, spectrum in enumerate(flux):
            what = spectrum.tobytes() if names is None else str(names[row]).encode()
            key = int.from_bytes(blake2b(what, digest_size=16, key=seed).digest(), "little")
            numbers[row] = np.random.Generator(np.random.Philox(key=key)).standard_normal(
                numbers.shape[1], dtype=np.float32
            )
        return {"noise": numbers}

    return draw
