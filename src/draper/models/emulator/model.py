"""The Emulator: spectra of labels by a network, and labels of spectra by a fit of that network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from draper.config import Config
from draper.configs.emulator import EmulatorConfig
from draper.configs.fit import FitConfig
from draper.configs.train import TrainConfig
from draper.data.grid import Grid
from draper.data.labels import LabelSet
from draper.data.resample import resample
from draper.data.spectra import Spectra
from draper.errors import DraperError, option_text
from draper.infer.forward import ForwardModel
from draper.infer.label_fit import LabelFit
from draper.infer.limits import Side
from draper.infer.prepare import as_sharp_as_the_model
from draper.infer.zero_point import sun
from draper.instrument.doppler import doppler_factor
from draper.instrument.observed import Widths, is_coarser, observed, only_resamples
from draper.instrument.pipeline import Pipeline
from draper.instrument.resolution import resolving_power_of
from draper.models.base import INFERENCE_ROWS, Model, Progress
from draper.models.dataset import Dataset, Part
from draper.models.emulator.columns import complete_columns, stellar_labels
from draper.models.emulator.distil import distil
from draper.models.emulator.networks import build_network, options_of_network
from draper.models.emulator.propose import propose
from draper.models.emulator.zero_point import described, set_zero_point, with_zero_point, zero_point_section
from draper.models.held_out import Errors, sample, spectrum_errors
from draper.nn.hull import outside
from draper.nn.query import QueryNetwork
from draper.nn.spectral import SpectralNetwork
from draper.results.estimates import Estimates
from draper.results.information import Information

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COMPONENTS = 1000
"""Largest default number of principal components."""


class Emulator(Model):
    """A network that turns labels into a spectrum, as The Payne does, with errors and flags of extrapolation.

    Examples
    --------
    >>> from draper.configs.train import TrainConfig
    >>> from draper.simulate.made import made_spectra
    >>> model = Emulator(hidden=[32, 32]).fit(made_spectra(300), train=TrainConfig(epochs=5, progress="none"))
    >>> model.generate({"teff": [5000, 9000], "logg": 2.5, "fe_h": 0.0}).table["outside_box"]
    array([False,  True])
    """

    name: ClassVar[str] = "emulator"
    accepts: ClassVar[Any] = "any"
    fits_exposures: ClassVar[bool] = True
    errors_from_spectra: ClassVar[bool] = True
    extra_verbs: ClassVar[tuple[str, ...]] = (
        "information",
        "upper_limits",
        "jacobian",
        "propose",
        "learn_error",
        "zero_point",
        "distil",
        "export",
    )
    config: EmulatorConfig
    components: int = 0
    """Number of principal components of the training set; the option of that name replaces it."""
    _forward: ForwardModel | None = None
    """Kept with what the last fit has left for the next one."""

    # -------------------------------------------------------------- the contract

    def design(self, spectra: Part) -> tuple[LabelSet, Pipeline]:
        """Scale labels by the ranges of the training set; the network itself takes care of the flux."""
        names = self.config.labels or stellar_labels(spectra)
        # If some pixels are bad, pixels are learnt instead: components of gappy spectra are less exact.
        # (A radial form has no other way, and fills them in.)
        whole = self.config.architecture == "radial" or all(
            (batch.ivar > 0).all() for batch in spectra.batches()
        )
        self.components = min(MOST_COMPONENTS, len(spectra.grid), max(1, len(spectra) - 1)) if whole else 0
        labels = LabelSet.from_table(spectra.table, names)
        if not np.isfinite(labels.read(spectra.table)).all(axis=1).any():
            raise DraperError(
                "no spectrum has all labels",
                given=", ".join(names),
                hint=f"name fewer with {option_text('labels')}",
            )
        return labels, Pipeline()

    def build(self, grid: Grid, labels: LabelSet) -> SpectralNetwork:
        """Return a new network."""
        return build_network(self.config, grid, labels, self.components)

    def arrays(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return flux and weights."""
        return {"flux": spectra.flux, "ivar": spectra.ivar}

    def targets(self, spectra: Spectra) -> dict[str, NDArray[Any]]:
        """Return the scaled labels, the network's input; the spectra are its output."""
        return {"labels": self.scaled(self.labels.read(spectra.table))}

    def scaled(self, values: ArrayLike) -> NDArray[np.float32]:
        """Return physical labels (n, d) as the network takes them: -0.5 to 0.5 in the box."""
        # A temperature in float32 is off by 1e-4 K; scaled, the rounding is far below any error.
        return (self.labels.scale(values) - 0.5).astype(np.float32)

    @classmethod
    def from_network(cls, network: SpectralNetwork, grid: Grid, labels: LabelSet, **facts: Any) -> Self:
        """Return a model around a network that was trained elsewhere.

        Parameters
        ----------
        network
            Maps labels, scaled to -0.5 to 0.5 by the ranges of ``labels``, to flux on ``grid``.
        facts
            Entries of the model card, such as ``source``; ``quantity`` is that of the spectra (normalised
            flux by default).
        """
        model = cls(labels=labels.names, **options_of_network(network))
        sizes = {"labels": (network.labels, len(labels)), "pixels": (network.pixels, len(grid))}
        for what, (given, expected) in sizes.items():
            if given != expected:
                raise DraperError(
                    f"network and {what} do not fit", given=f"a network of {given} {what}", expected=expected
                )
        model.set_up(grid, labels, Pipeline())
        model.own_module.load_state_dict(network.state_dict())
        model.training = {"quantity": "normalised flux", "unit": "", **facts}
        return model

    def distil(
        self,
        labels: Mapping[str, ArrayLike] | Spectra | int = 5000,
        *,
        grid: Grid | None = None,
        train: TrainConfig | None = None,
        **options: Any,
    ) -> Emulator:
        """Return a new emulator, with other options, trained on the spectra of this one (distillation).

        Parameters
        ----------
        labels
            Labels of the training spectra, or their number, to be drawn between this model's training points.
        grid
            Pixels of the new emulator, with their resolving power; those of this one by default.
        train
            How to train; 5000 steps by default.
        options
            Options of the new emulator, such as ``hidden``.

        Returns
        -------
        Emulator
            Its errors are those on held-out spectra of this emulator, and this emulator's own, in quadrature;
            ``training["distilled_from"]`` names this emulator.
        """
        return distil(self, labels, grid, train, options)

    def export(
        self, path: str | Path, *, medium: Literal["air", "vacuum"] = "air", overwrite: bool = False
    ) -> Path:
        """Write the network in the format of one_payne (npz); it must have ``output="bounded"``.

        ``medium`` is that of the wavelengths in the file; the line lists of one_payne are in air.
        """
        from draper.models.emulator.foreign.export import export

        forward = ForwardModel(self.network, self.own_grid, self.labels)
        return export(forward, self.training, Path(path), medium, overwrite=overwrite)

    def held_out_errors(self, dataset: Dataset) -> Errors:
        """Return the error of the spectra of held-out labels."""
        spectra = sample(dataset)
        return spectrum_errors(spectra, self.reconstruct(spectra))

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Load the arrays of a model; the number of components follows from them."""
        self.components = len(state.get("module.basis", ()))
        if self.components != len(self.network.state_dict().get("basis", ())):
            self.set_up(self.own_grid, self.labels, self.pipeline)
        super().load_state(state)

    @property
    def network(self) -> SpectralNetwork:
        """The network."""
        return cast(SpectralNetwork, self.own_module)

    @property
    def label_fit(self) -> LabelFit:
        """The fit of this model's labels."""
        parts = self.network, self.own_grid, self.labels
        last = self._forward
        if last is None or any(
            new is not old for new, old in zip(parts, (last.function, last.grid, last.labels), strict=True)
        ):
            last = self._forward = ForwardModel(*parts)
        return LabelFit(last)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.network.uncertainty.device

    # ---------------------------------------------------------------- the verbs

    def generate(
        self,
        labels: Mapping[str, ArrayLike] | Spectra,
        options: Config | None = None,
        *,
        grid: Grid | None = None,
        pixels: Any = None,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Spectra:
        """Return the spectra of labels.

        Parameters
        ----------
        labels
            Columns by name, of equal length or one value for all, or spectra that have them. Elements that
            are not given follow iron ([X/Fe] = 0), and ``vmic`` follows from teff and logg.
        options, changes
            Broadening and velocity, see :class:`draper.configs.emulator.GenerateConfig`:
            ``vsini=10, rv=[20, 30]``.
        grid
            Pixels of the spectra; the model's own by default.
        pixels
            Some of those pixels: a slice, a mask, or numbers.
        progress
            Called with the number of spectra that are done, and the number of all.

        Returns
        -------
        Spectra
            With the emulator's own error as ``ivar``, and columns ``outside_box`` and ``outside_hull`` that
            mark labels outside the ranges, or outside the convex hull of a pair of labels, of the training
            spectra. Pixels beyond the model's wavelength range have no weight.
        """
        table = complete_columns(self.labels, labels)
        values = self.labels.read(table)
        x = self.scaled(values)
        chosen = dict(self.options_of("generate", options, **changes))
        widths = Widths.of(len(x), **chosen)
        if twice := set(widths.given) & set(self.labels.names):
            raise DraperError(
                "a label of the model cannot be an option of generate, too",
                given=", ".join(sorted(twice)),
                hint="give it as a label",
            )
        averages = grid is not None and is_coarser(self.own_grid, grid)
        power = resolving_power_of(grid) if averages and grid is not None else None
        if power is not None and "resolving_power" not in widths.given:
            widths = Widths.of(len(x), **chosen | {"resolving_power": power})
        ends = self.own_grid.vacuum[[0, -1]]
        parts = []
        for start in range(0, max(1, len(x)), INFERENCE_ROWS):
            rows = slice(start, start + INFERENCE_ROWS)
            with torch.inference_mode():
                at = torch.from_numpy(x[rows]).to(self.device)
                flux, error, reached, target = observed(
                    self.network(at),
                    self.network.error(at),
                    self.own_grid,
                    widths[rows],
                    None if averages else grid,
                )
                if isinstance(self.network, QueryNetwork) and only_resamples(self.own_grid, widths, target):
                    flux = torch.where(reached, self.network.at(at, target.vacuum.clip(*ends)), flux)
                # Without held-out spectra the errors are unknown, and all pixels count the same.
                ivar = torch.where(torch.isfinite(error), error.square().reciprocal(), 1.0)
                ivar = torch.where(reached, ivar, 0.0)
                beyond = outside(at, self.network.facets).cpu().numpy()
            part = Spectra(
                target,
                flux.cpu().numpy(),
                ivar.cpu().numpy(),
                {
                    **{name: column[rows] for name, column in (table | widths.given).items()},
                    "outside_box": ~self.labels.inside(values[rows]),
                    "outside_hull": beyond,
                },
                str(self.training.get("quantity", "normalised flux")),
                str(self.training.get("unit", "")),
                meta={"source": "emulated", "model": self.name},
            )
            part = resample(part, grid) if averages and grid is not None else part
            parts.append(part if pixels is None else part.pixels(pixels))
            if progress is not None:
                progress(min(rows.stop, len(x)), len(x))
        return Spectra.concat(parts)

    def predict(
        self,
        spectra: Spectra | Sequence[Spectra],
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Estimates:
        """Return labels of spectra by least squares, with their covariance.

        Parameters
        ----------
        spectra
            On any pixels, normalised unless a ``continuum`` is fitted; or several exposures of the same
            stars, with equal ids, which are fitted jointly.
        options, changes
            How to fit, see :class:`draper.configs.fit.FitConfig`: ``rv=0, continuum=2``.
        progress
            Called with the number of stars that are done, and the number of all.

        Returns
        -------
        Estimates
            Labels, ``rv`` [km/s] and widths that are free, with quantiles of their posteriors between the
            ends of the training labels, covariance, ``chi2``, errors if all others were known
            (``<label>_conditional_err``), a flag for each label (measured, limit, prior, edge) and flags of
            spectra: not_converged, rv_limit, outside (the training labels, by what is measured), bad_fit,
            several_minima, no_data.

        Examples
        --------
        >>> from draper.configs.train import TrainConfig
        >>> from draper.simulate.made import made_spectra
        >>> train = TrainConfig(epochs=5, threads=1, progress="none")
        >>> model = Emulator(hidden=[32, 32]).fit(made_spectra(300), train=train)
        >>> model.predict(made_spectra(3, seed=5), rv=0.0).labels.names
        ('teff', 'logg', 'fe_h')
        """
        estimates = self.label_fit.predict(spectra, self.fit_options(options, changes), progress=progress)
        return with_zero_point(estimates, self.training.get("zero_point"))

    def fit_options(self, options: Config | None, changes: Mapping[str, Any]) -> FitConfig:
        """Return how to fit: options, with some changed."""
        return cast(FitConfig, self.options_of("predict", options, **changes))

    def upper_limits(
        self,
        spectra: Spectra | Sequence[Spectra],
        names: Sequence[str],
        level: float = 0.95,
        options: Config | None = None,
        *,
        side: Side = "upper",
        **changes: Any,
    ) -> dict[str, NDArray[np.float64]]:
        """Return upper or lower limits (n,) of labels or free widths, by profile likelihood.

        At a limit, with everything else fitted again, chi2 exceeds its minimum by the value that belongs to
        the one-sided ``level``: 2.706 for 95 %. NaN where the whole range is allowed.
        """
        config = self.fit_options(options, changes)
        return self.label_fit.upper_limits(spectra, names, level, config, side=side)

    def explain(
        self,
        spectra: Spectra,
        options: Config | None = None,
        *,
        progress: Progress | None = None,
        **changes: Any,
    ) -> tuple[Estimates, Spectra]:
        """Return labels as :meth:`predict` does, and the model spectra with continuum on the data's grid.

        Pixels beyond the model have no weight. The column ``rv`` is the fitted or fixed velocity [km/s].
        """
        config = self.fit_options(options, changes)
        estimates, models = self.label_fit.explain(spectra, config, progress=progress)
        estimates = with_zero_point(estimates, self.training.get("zero_point"))
        rv = np.full(len(spectra), config.rv) if config.rv != "free" else estimates["rv"]
        place = models[0].grid.vacuum / np.asarray(doppler_factor(torch.tensor(rv)))[:, None]
        first, last = self.own_grid.vacuum[[0, -1]]
        ivar = np.where((place >= first) & (place <= last), models[0].ivar, 0.0).astype(np.float32)
        return estimates, replace(models[0], ivar=ivar).with_columns(rv=rv)

    def pictures(
        self, spectra: Spectra, estimates: Estimates, options: Config | None = None
    ) -> Iterator[Figure]:
        """Draw spectra as they are fitted: those that are sharper than the model are broadened."""
        (seen,), config = as_sharp_as_the_model(self.own_grid, [spectra], self.fit_options(options, {}))
        return super().pictures(seen, estimates, config)

    def learn_error(self, spectra: Spectra, options: Config | None = None, **changes: Any) -> Self:
        """Learn the emulator's error on real stars, pixel by pixel, from the residuals of their spectra.

        Fits the spectra of at least ten stars, and keeps by how much their residuals exceed the noise and the
        emulator's own error. Later fits add it to the errors of the pixels, unless ``model_error=False``.
        ``options`` and ``changes`` are those of :meth:`predict`. A zero point comes afterwards.
        """
        self._require_no_zero_point("learn_error")
        config = self.fit_options(options, changes)
        self.training["error_learnt_from"] = self.label_fit.learn_error(spectra, config)
        return self

    def zero_point(
        self,
        spectra: Spectra,
        labels: Mapping[str, ArrayLike] | Literal["sun"] | None = None,
        options: Config | None = None,
        *,
        lines: bool | None = None,
        **changes: Any,
    ) -> Self:
        """Take stars with known labels, such as the Sun, as the zero point of the labels of all later fits.

        Lines are corrected by what these stars show of them, and labels are moved so that these stars get, on
        average, the known ones. From five stars on, the scatter of the rest is added to the errors of all
        later fits. The artifact keeps all of it; results say so in a column ``zero_point``.

        Parameters
        ----------
        spectra
            Spectra of the stars.
        labels
            What is known of them: columns by name, with NaN where unknown and ``teff_err`` and so on for
            errors; or ``sun``. By default the columns of the spectra. Stars outside the model's labels are
            left aside.
        options, changes
            How to fit, as later spectra will be fitted; as in :meth:`predict`.
        lines
            Whether lines are corrected; by default if the spectra are at least half as sharp as the model.

        Examples
        --------
        >>> from draper.configs.train import TrainConfig
        >>> from draper.simulate.made import made_spectra
        >>> train = TrainConfig(epochs=5, threads=1, progress="none")
        >>> model = Emulator(hidden=[32, 32]).fit(made_spectra(300), train=train)
        >>> stars = made_spectra(8, seed=5)
        >>> model = model.zero_point(stars, {"teff": stars.table["teff"].clip(4100, 6900)}, rv=0.0)
        >>> str(model.predict(stars, rv=0.0).columns["zero_point"][0])
        '8 stars (lines, labels)'
        """
        if "zero_point" in self.training:
            raise DraperError(
                "the model has a zero point already",
                given=described(self.training["zero_point"]),
                hint="give all reference stars at once, to the model without it",
            )
        if labels == "sun":
            labels = sun(self.labels)
        elif isinstance(labels, str):
            raise DraperError("known labels are columns by name, or sun", given=labels)
        config = self.fit_options(options, changes)
        self.labels, facts = set_zero_point(self.network, self.label_fit, spectra, labels, config, lines)
        self.training["zero_point"] = {**facts, "options": config.model_dump(mode="json", exclude_unset=True)}
        return self

    def _require_no_zero_point(self, verb: str) -> None:
        if "zero_point" in self.training:
            raise DraperError(
                f"{verb} is for a model without a zero point",
                given=described(self.training["zero_point"]),
                hint="use the model that the zero point was given to",
            )

    def card_sections(self) -> Mapping[str, str]:
        """Return what the card says of the zero point."""
        facts = self.training.get("zero_point")
        return {"Zero point": zero_point_section(facts, self.labels)} if facts else {}

    reconstructs_from: ClassVar[str] = "their true labels"

    def reconstruct(self, spectra: Spectra) -> Spectra | None:
        """Return the spectra of the labels in the table, without weight where one is missing."""
        if not set(self.labels.names) <= set(spectra.table):
            return None
        values = self.labels.read(spectra.table)
        complete = np.isfinite(values).all(axis=1)
        grid = None if self.own_grid.matches(spectra.grid) else spectra.grid
        part = self.generate(dict(zip(self.labels.names, values[complete].T, strict=True)), grid=grid)
        flux, ivar = np.zeros((2, *spectra.flux.shape), dtype=np.float32)
        flux[complete], ivar[complete] = part.flux, part.ivar
        return replace(part, flux=flux, ivar=ivar, table={"id": spectra.ids})

    def jacobian(self, labels: Mapping[str, ArrayLike] | Spectra) -> NDArray[np.float32]:
        """Return the derivatives (n, p, d) of the flux by the labels, per physical unit."""
        values = self.labels.read(complete_columns(self.labels, labels))
        derivatives = np.empty((len(values), len(self.own_grid), len(self.labels)), dtype=np.float32)
        for start in range(0, len(values), 32):
            rows = slice(start, start + 32)
            with torch.inference_mode():
                _, columns = self.network.jacobian(
                    torch.from_numpy(self.scaled(values[rows])).to(self.device)
                )
            widths = self.labels.unscale_error(
                self.labels.scale(values[rows]), np.ones((len(values[rows]), len(self.labels)))
            )
            derivatives[rows] = columns.cpu().numpy() / widths[:, None, :]
        return derivatives

    def information(
        self,
        labels: Mapping[str, ArrayLike],
        options: Config | None = None,
        *,
        snr: ArrayLike | None = None,
        ivar: ArrayLike | None = None,
        grid: Grid | None = None,
        resolving_power: float | None = None,
        **changes: Any,
    ) -> Information:
        """Return the smallest errors that :meth:`predict` could have: the Cramer-Rao bound at given labels.

        Parameters
        ----------
        labels
            Columns as for :meth:`generate`; ``rv``, ``vsini``, ``vmac`` of the stars may be among them.
        options, changes
            How the spectra will be fitted, as in :meth:`predict`: what is fixed, free, or has a prior.
        snr, ivar
            Signal-to-noise ratio per pixel at a continuum of 1, or inverse variances (q,) or (n, q).
        grid, resolving_power
            Pixels and lambda / FWHM of the spectrograph; the model's own by default.
        """
        config = self.fit_options(options, changes)
        table = complete_columns(self.labels, {**labels, **config.fixed})
        return self.label_fit.information(
            table, config, snr=snr, ivar=ivar, grid=grid, resolving_power=resolving_power
        )

    def propose(
        self,
        n: int,
        *,
        among: Mapping[str, ArrayLike] | None = None,
        stars: Mapping[str, ArrayLike] | None = None,
        seed: int = 0,
    ) -> dict[str, NDArray[Any]]:
        """Return the labels of n further spectra whose computation would lower the emulator's error most.

        Parameters
        ----------
        n
            How many.
        among
            Columns of labels to choose from, if not every spectrum can be computed; by default labels between
            those of the training spectra. Of more than 4,096 rows (or 2 n), as many are considered at random.
        stars
            Columns of the labels at which the error should be low, such as those of a survey's stars; by
            default those to choose from. Elements and vmic may be left out, as in :meth:`generate`.
        seed
            Seed of what is drawn.

        Returns
        -------
        dict
            A column (n,) for each label, the most useful spectrum first; all columns of ``among``, if given.
        """
        self._require_no_zero_point("propose")
        return propose(self.network, self.labels, n, among=among, stars=stars, seed=seed)

    def citation(self) -> str:
        """Return the BibTeX entries to cite."""
        return (
            "@article{ting2019payne, author = {{Ting}, Yuan-Sen and {Conroy}, Charlie and {Rix}, Hans-Walter "
            "and {Cargile}, Phillip}, title = {The Payne: Self-consistent ab initio Fitting of Stellar "
            "Spectra}, journal = {ApJ}, volume = {879}, pages = {69}, year = {2019}}\n"
            "@software{draper, author = {{the draper developers}}, title = {draper}, year = {2026}}"
        )
