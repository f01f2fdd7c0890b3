"""What the masked autoencoder is worth, beside regressions and the Cramer-Rao bound.

Parts, all by default; each says its sizes beside its figures:

- labels (P1, P2, P5, P8): label errors with spectrum and without it, by G magnitude; coverage of intervals.
- missing (P3): a share of the photometry is missing, with spectrum and without it.
- ledger (P4): what pre-training is worth at 100, 1,000 and 10,000 labels.
- novelty (P6): stars of a region that training has left out ([Fe/H] below -2; the hottest).
- filling (P7): hidden parts of spectra, and spectra from labels, in units of their errors.
- real: Gaia XP sampled spectra with weak labels, and MILES (``--data``).
- speed: rows per CPU second, in training and at inference.

Stars are those of ``draper simulate xp``: reddened, with parallaxes and eight magnitudes. One thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from draper.configs.train import TrainConfig
from draper.data.spectra import Spectra
from draper.latents.probes import probe
from draper.models.masked.ledger import ledger, regression_inputs, robust_scatter
from draper.models.masked.model import MaskedAutoencoder
from draper.models.masked.novelty import SCORES
from draper.results.estimates import Estimates
from draper.simulate.xp import LowResolution
from masked_stars.bounds import LABELS, Array, bounds
from report import Sheet, arguments, report

Options = Any

Mask = NDArray[np.bool_]

BRIGHTNESS = (9.0, 11.0, 13.0, 15.0, 16.5, 17.65)
"""Ends of the bins of G."""

HELD_OUT = 20_480
"""Further stars on which intervals are calibrated; with fewer, chance moves coverage by more than a point."""

INTERVALS = (0.5, 0.68, 0.9)

PEER = {"training": 258.0, "inference": 1145.0}
"""Rows per CPU second of the Masked Stellar Autoencoder in its own configuration (another machine)."""


def train_config(options: Options, seed: int = 0, **changes: Any) -> TrainConfig:
    """Return how networks are trained here."""
    # Held-out stars are for the calibration: their losses take time, and decide nothing.
    given = {"steps": options.steps, "threads": 1, "progress": "none", "validate_every": 1000, "seed": seed}
    return TrainConfig(**given | changes)


def without_spectrum(spectra: Spectra) -> Spectra:
    """Return the same stars with nothing but their columns."""
    ivar = np.zeros_like(spectra.ivar)
    return Spectra(spectra.grid, spectra.flux, ivar, spectra.table, spectra.quantity, meta=spectra.meta)


class Stars:
    """Training and test stars, and a model that is trained on the former."""

    def __init__(self, options: Options) -> None:
        self.options, self.simulator = options, LowResolution()
        self.train = self.simulator.simulate(options.stars, seed=1)
        self.held_out = self.simulator.simulate(HELD_OUT, seed=501)
        self._models: dict[int, MaskedAutoencoder] = {}
        self.seconds = 0.0

    def test(self, number: int) -> Spectra:
        """Return fresh stars."""
        return self.simulator.simulate(number, seed=1002)

    def model(self, seed: int = 0) -> MaskedAutoencoder:
        """Return the model that is trained on labels and everything else at once."""
        if seed not in self._models:
            begun = time.process_time()
            model = MaskedAutoencoder(labels=LABELS, architecture=self.options.architecture)
            self._models[seed] = model.fit(self.train, self.held_out, train=train_config(self.options, seed))
            self.seconds = time.process_time() - begun
        return self._models[seed]


def bins(spectra: Spectra) -> Iterator[tuple[str, Mask]]:
    """Iterate over bins of G: names, and which stars are in them."""
    g = spectra.table["g_mag"]
    for low, high in pairwise(BRIGHTNESS):
        yield f"{low:g}-{high:g}", (g >= low) & (g < high)


def labels_part(stars: Stars, say: Callable[[str], None]) -> list[Sheet]:
    """Measure label errors by magnitude, with and without spectrum, and coverage."""
    options = stars.options
    test = stars.test(options.test)
    truth = test.columns(LABELS)
    best = dict(zip((True, False), bounds(stars.simulator, test, stars.train), strict=True))
    errors: list[dict[str, Any]] = []
    inside: list[dict[str, Any]] = []
    crossings = 0
    for shown in (True, False):
        train, seen = (one if shown else without_spectrum(one) for one in (stars.train, test))
        first = stars.model(0)
        found: dict[str, list[Array]] = {}
        estimates: list[Estimates] = []
        for seed in range(options.seeds):
            estimates.append(stars.model(seed).predict(test, spectrum=shown))
            found.setdefault("masked", []).append(estimates[-1].median)
            assert estimates[-1].quantiles is not None
            crossings += int((np.diff(estimates[-1].quantiles, axis=1) < 0).sum())
        inputs = regression_inputs(first, train, seen)
        known = train.columns(LABELS)
        for kind, name in (("mlp", "plain MLP"), ("boosting", "boosted trees"), ("ridge", "PCA + ridge")):
            found[name] = [probe(kind, inputs.train, known, inputs.test, 0)]  # type: ignore[arg-type]
            say(f"{name}: {robust_scatter(found[name][0] - truth)}")
        for name, rows in [("all", np.ones(len(test), dtype=bool)), *bins(test)]:
            sigma = best[shown][rows]
            for method, predicted in found.items():
                row: dict[str, Any] = {
                    "spectrum": shown,
                    "G": name,
                    "stars": int(rows.sum()),
                    "method": method,
                }
                scatter = [robust_scatter(one[rows] - truth[rows]) for one in predicted]
                row |= dict(zip(LABELS, np.mean(scatter, axis=0).tolist(), strict=True))
                ratio = [robust_scatter((one[rows] - truth[rows]) / sigma) for one in predicted]
                row |= {
                    f"{label} / bound": float(x)
                    for label, x in zip(LABELS, np.mean(ratio, axis=0), strict=True)
                }
                errors.append(row)
            row = {"spectrum": shown, "G": name, "stars": int(rows.sum()), "method": "Cramer-Rao bound"}
            errors.append(row | dict(zip(LABELS, np.median(sigma, axis=0).tolist(), strict=True)))
        metal = [
            ("[Fe/H] < -1", truth[:, 2] < -1),
            ("-1 to -0.5", (truth[:, 2] >= -1) & (truth[:, 2] < -0.5)),
        ]
        metal += [("> -0.5", truth[:, 2] >= -0.5)]
        for name, rows in [("all", np.ones(len(test), dtype=bool)), *bins(test), *metal]:
            row = {"spectrum": shown, "bin": name, "stars": int(rows.sum())}
            for level in INTERVALS:
                shares = []
                for one in estimates:
                    low, high = one.interval(level)
                    shares.append(((truth >= low) & (truth <= high))[rows].mean(axis=0))
                share = 100 * np.mean(shares, axis=0)
                worst = int(np.abs(share - 100 * level).argmax())
                row |= {f"{100 * level:g} %": f"{share.min():.1f} to {share.max():.1f}"}
                row |= {f"worst at {100 * level:g}": f"{LABELS[worst]} {share[worst] - 100 * level:+.1f}"}
            inside.append(row)
    facts = {
        "training stars": len(stars.train), "held out": HELD_OUT, "steps": options.steps,
        "seeds": options.seeds,
        "CPU s of a training": round(stars.seconds), "figures": "1.4826 x median of |error|",
        "bound": "with photometry, parallax and a Gaussian population as prior; / bound: of error / bound",
        "quantiles that cross": crossings,
    }  # fmt: skip
    return [Sheet("Label errors (P1, P2, P5)", errors, facts), Sheet("Coverage (P8)", inside, facts)]


def over_trainings(
    stars: Stars, one: Callable[[int], list[dict[str, Any]]], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return the mean rows of trainings with other random numbers, and how far these lie apart at most."""
    trained = [one(seed) for seed in range(stars.options.seeds)]
    rows = []
    for same in zip(*trained, strict=True):
        row, apart = dict(same[0]), 0.0
        for name in row:
            if isinstance(row[name], float):
                values = [each[name] for each in same]
                row[name] = float(np.mean(values))
                apart = max(apart, float(np.ptp(values)) / max(abs(row[name]), 1e-9))
        rows.append(row | {"most that trainings differ [%]": 100 * apart})
        say(str(row))
    return rows


def missing_part(stars: Stars, say: Callable[[str], None]) -> list[Sheet]:
    """Measure label errors where photometry is missing."""
    rows = over_trainings(stars, lambda seed: missing_rows(stars, seed), say)
    facts = {"missing": "share of the columns of each star", "trainings": stars.options.seeds}
    return [Sheet("Missing photometry (P3)", rows, facts)]


def missing_rows(stars: Stars, seed: int) -> list[dict[str, Any]]:
    """Return label errors of one training where photometry is missing."""
    test = stars.test(stars.options.test)
    truth = test.columns(LABELS)
    model = stars.model(seed)
    rows = []
    names = model.columns or ()
    for shown in (True, False):
        for share in (0.0, 0.3, 0.6, 0.9):
            random = np.random.default_rng(5)
            lost = random.random((len(test), len(names))) < share
            columns = {
                name: np.where(lost[:, number], np.nan, test.table[name]) for number, name in enumerate(names)
            }
            seen = test.with_columns(**columns)
            estimates = model.predict(seen, spectrum=shown)
            some = np.isfinite(estimates.median[:, 0])
            scatter = robust_scatter(estimates.median[some] - truth[some])
            low, high = estimates.interval(0.68)
            inside = ((truth >= low) & (truth <= high))[some].mean(axis=0)
            least, most = float(100 * inside.min()), float(100 * inside.max())
            row: dict[str, Any] = {"spectrum": shown, "missing": f"{100 * share:g} %"}
            row |= {"stars": int(some.sum()), **dict(zip(LABELS, scatter.tolist(), strict=True))}
            rows.append(row | {"coverage of 68 %, least": least, "most": most})
    return rows


def ledger_part(stars: Stars, say: Callable[[str], None]) -> list[Sheet]:
    """Measure what pre-training is worth."""
    options = stars.options
    model = MaskedAutoencoder(architecture=options.architecture)
    model.fit(stars.train, train=train_config(options))
    labelled = stars.simulator.simulate(16_384, seed=77)
    rows = ledger(model, labelled, LABELS[:4], seeds=options.seeds, say=say)
    facts = {"pre-trained on": len(stars.train), "held out": "30 % of 16,384", "gain": "over no pre-training"}
    return [Sheet("What pre-training is worth (P4)", rows, facts)]


def novelty_part(stars: Stars, say: Callable[[str], None]) -> list[Sheet]:
    """Count flags of stars of regions that training has left out."""
    rows = over_trainings(stars, lambda seed: novelty_rows(stars, seed), say)
    facts = {"training stars": len(stars.train), "trainings": stars.options.seeds}
    return [Sheet("Regions left out (P6)", rows, facts)]


def novelty_rows(stars: Stars, seed: int) -> list[dict[str, Any]]:
    """Return how one training for each region finds the stars that it has left out."""
    rows = []
    test = stars.test(stars.options.test)
    for name, column, sign, limit in (
        ("[Fe/H] < -2", "fe_h", -1, -2.0),
        ("Teff > 6000 K", "teff", 1, 6000.0),
    ):
        train = stars.train[sign * stars.train.column(column) <= sign * limit]
        model = MaskedAutoencoder(labels=("teff", "logg", "fe_h"), architecture=stars.options.architecture)
        model.fit(train, train=train_config(stars.options, seed))
        strange = sign * test.column(column) > sign * limit
        for shown in (True, False):
            estimates = model.predict(test, spectrum=shown)
            p = estimates.columns["p_value"]
            row: dict[str, Any] = {"left out": name, "spectrum": shown, "stars": int(strange.sum())}
            row["AUROC"] = float(roc_auc_score(strange, -np.log(np.maximum(p, 1e-300))))
            bright = test.table["g_mag"] < 15
            row["AUROC, G < 15"] = float(
                roc_auc_score(strange[bright], -np.log(np.maximum(p[bright], 1e-300)))
            )
            for score in SCORES:
                values = -np.log(np.maximum(estimates.columns[f"p_{score}"], 1e-300))
                row[score] = float(roc_auc_score(strange, values))
            flagged = estimates.flags["outside"] | estimates.flags["label_range"]
            row["flagged [%]"] = float(100 * flagged[strange].mean())
            row["of the others [%]"] = float(100 * flagged[~strange].mean())
            rows.append(row)
    return rows


def filling_part(stars: Stars, say: Callable[[str], None]) -> list[Sheet]:
    """Fill hidden parts of spectra, and make spectra from labels; in units of measured and stated errors."""
    rows = over_trainings(stars, lambda seed: filling_rows(stars, seed), say)
    facts = {
        "against": "noise-free coefficients", "stars": min(stars.options.test, 4096),
        "trainings": stars.options.seeds, "figures": "1.4826 x median of |x|",
    }  # fmt: skip
    return [Sheet("Filling (P7)", rows, facts)]


def filling_rows(stars: Stars, seed: int) -> list[dict[str, Any]]:
    """Return the errors of what one training fills in."""
    test = stars.test(min(stars.options.test, 4096))
    model = stars.model(seed)
    truth = stars.simulator.coefficients(torch.from_numpy(stars.simulator.prior.read(test.table))).numpy()
    order = np.arange(110) % 55
    hidden = {"BP": np.arange(110) < 55, "RP": np.arange(110) >= 55, "orders from 10": order >= 10}
    rows = []
    cases: list[tuple[str, Spectra, str, Mask]] = [("nothing", test, "all", np.ones(110, dtype=bool))]
    for name, part in hidden.items():
        ivar = np.where(part, 0, test.ivar)
        seen = Spectra(
            test.grid,
            test.flux,
            ivar,
            test.table,
            test.quantity,
            correlation=test.correlation,
            meta=test.meta,
        )
        cases.append((name, seen, "all", part))
    cases.append(("the spectrum", test, "columns", np.ones(110, dtype=bool)))
    cases.append(("all but labels", test, "labels", np.ones(110, dtype=bool)))
    for name, seen, given, part in cases:
        filled = model.generate(seen, given=given)
        off = (filled.flux - truth)[:, part]
        stated = off * np.sqrt(filled.ivar[:, part])
        measured = off * np.sqrt(test.ivar[:, part])
        first = off[:, [0]] / truth[:, part][:, [0]]
        rows.append(
            {
                "hidden": name,
                "error / sigma of measurement": float(1.4826 * np.median(np.abs(measured))),
                "error / stated sigma": float(1.4826 * np.median(np.abs(stated))),
                "first coefficient [%]": float(100 * 1.4826 * np.median(np.abs(first))),
            }
        )
    return rows


def real_part(stars: Stars, say: Callable[[str], None]) -> list[Sheet]:
    """Measure label errors on real spectra: XP sampled with weak labels, and MILES."""
    from masked_stars.real import miles, xp_sampled

    options = stars.options
    return [
        *xp_sampled(options.data, options.seeds, options.steps, say),
        *miles(options.data, options.seeds, say),
    ]


def speed_part(stars: Stars, say: Callable[[str], None]) -> list[Sheet]:
    """Measure rows per CPU second."""
    some = stars.train[:8192]
    rows = []
    for architecture in ("mlp", "tokens"):
        times = {}
        for steps in (2, 2, 102):  # the first one pays for what is imported and compiled
            begun = time.process_time()
            model = MaskedAutoencoder(architecture=architecture)
            model.fit(some, valid=0, train=train_config(stars.options, steps=steps))
            times[steps] = time.process_time() - begun
        tuned = MaskedAutoencoder(labels=LABELS, architecture=architecture)
        tuned.fit(some, valid=0, train=train_config(stars.options, steps=2))
        inference = []
        for novelty in (False, True):
            begun = time.process_time()
            tuned.predict(some, novelty=novelty)
            inference.append(len(some) / (time.process_time() - begun))
        training = 100 * 512 / (times[102] - times[2])
        weights = sum(one.numel() for one in tuned.own_module.parameters())
        rows.append(
            {
                "architecture": architecture,
                "weights": weights,
                "training [rows / CPU s]": training,
                "times the peer's": training / PEER["training"],
                "inference [rows / CPU s]": inference[0],
                "times the peer's ": inference[0] / PEER["inference"],
                "with novelty": inference[1],
            }
        )
        say(str(rows[-1]))
    facts = {"peer": f"{PEER}, from its fact sheet (another machine)", "batch": 512, "threads": 1}
    return [Sheet("Speed", rows, facts)]


PARTS: dict[str, Callable[[Stars, Callable[[str], None]], list[Sheet]]] = {
    "labels": labels_part,
    "missing": missing_part,
    "ledger": ledger_part,
    "novelty": novelty_part,
    "filling": filling_part,
    "real": real_part,
    "speed": speed_part,
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which parts")
    parser.add_argument("--stars", type=int, help="training stars")
    parser.add_argument("--test", type=int, default=8192, help="test stars")
    parser.add_argument("--steps", type=int, help="steps of a training")
    parser.add_argument("--seeds", type=int, help="trainings with other random numbers")
    parser.add_argument("--architecture", choices=("mlp", "tokens"), default="mlp")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="FOLDER")
    options = parser.parse_args()
    options.stars = options.stars or (122_880 if options.full else 40_960)
    options.steps = options.steps or (12_000 if options.full else 3000)
    options.seeds = options.seeds or (3 if options.full else 1)
    torch.set_num_threads(1)
    stars = Stars(options)

    def say(text: str) -> None:
        print(text, flush=True)

    for part in options.parts:
        for number, sheet in enumerate(PARTS[part](stars, say)):
            path = options.json
            if path is not None:
                path = path.with_name(f"{path.stem}-{part}-{number}{path.suffix}")
            report(sheet.title, sheet.rows, sheet.facts, path)


if __name__ == "__main__":
    main()
