"""What ``evaluate`` says of models, and the page it writes."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from draper import Estimates, Label, LabelSet, Spectra, TrainConfig, load
from draper.errors import DraperError
from draper.models.emulator.model import Emulator
from draper.models.provenance import relation
from draper.results.report import Report
from draper.testing import LinearAutoencoder, made_spectra

LABELS = ("teff", "logg", "fe_h")
TRAIN = TrainConfig(
    epochs=40, batch_size=32, learning_rate=5e-3, threads=1, matmul="highest", progress="none"
)


def clean(n: int, seed: int = 0) -> Spectra:
    spectra = made_spectra(n, snr=1e6, seed=seed)
    return Spectra(
        spectra.grid, spectra.flux, table=spectra.table, quantity=spectra.quantity, meta=spectra.meta
    )


@pytest.fixture(scope="module")
def linear() -> LinearAutoencoder:
    return LinearAutoencoder(latent=6, labels=LABELS, start="pca").fit(made_spectra(400), train=TRAIN)


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator(hidden=(48, 48)).fit(clean(500), train=TRAIN.replace(epochs=60, learning_rate=1e-2))


@pytest.fixture(scope="module")
def report(linear: LinearAutoencoder) -> Report:
    return linear.evaluate(made_spectra(80, seed=5))


def test_figures_are_those_of_the_predictions(linear: LinearAutoencoder, report: Report) -> None:
    test = made_spectra(80, seed=5)
    estimates = linear.predict(test)
    for name in LABELS:
        found = report.labels[name]
        assert found["bias"] == pytest.approx(np.mean(estimates[name] - test.table[name]))
        assert found["scatter"] == pytest.approx(np.std(estimates[name] - test.table[name]))
        assert found["scatter"] < found["baseline"]
    assert report.flags.keys() == estimates.flags.keys()
    rebuilt = linear.generate(test)
    rms = np.sqrt(np.mean((rebuilt.flux - test.flux) ** 2))
    assert report.to_json()["spectra"]["rms"] == pytest.approx(rms, rel=1e-4)


def test_flagged_stars_are_told_apart(linear: LinearAutoencoder) -> None:
    test = made_spectra(60, seed=6)
    flux = np.array(test.flux)
    flux[:20] = flux[:20, ::-1]
    report = linear.evaluate(Spectra(test.grid, flux, test.ivar, test.table, test.quantity))
    assert report.flags["outside"] > 0.2
    assert report.unflagged_labels["teff"]["number"] == 60 - report.flagged.sum()
    assert report.unflagged_labels["teff"]["scatter"] < report.labels["teff"]["scatter"]


def test_posteriors_are_judged_by_their_own_intervals() -> None:
    """A lognormal posterior: its own intervals hold what they say, those of its sigma do not."""
    rng = np.random.default_rng(0)
    n = 400
    centre = rng.normal(0, 1, n)
    truth = np.exp(centre + rng.normal(0, 1, n))
    samples = np.exp(centre[:, None, None] + rng.normal(0, 1, (n, 800, 1)))
    grid = made_spectra(1).grid
    spectra = Spectra(grid, np.ones((n, len(grid))), table={"vsini": truth})
    labels = LabelSet([Label("vsini", low=0, high=100)])
    flags = np.where(np.arange(n)[:, None] < n // 4, "limit", "measured")
    drawn = Estimates.from_samples(labels, samples, spectra.ids, label_flags=flags)
    levels = [0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95]
    values = np.quantile(samples, levels, axis=1).swapaxes(0, 1)
    quantiles = Estimates.from_quantiles(labels, levels, values, spectra.ids)
    for estimates in (drawn, quantiles):
        figures = Report("made", spectra, estimates).labels["vsini"]
        found = [figures[f"coverage_{level}"] for level in (50, 68, 90)]
        np.testing.assert_allclose(found, (0.5, 0.68, 0.9), atol=0.05)
    gaussian = Report("made", spectra, Estimates(labels, drawn.median, drawn.sigma, spectra.ids))
    assert gaussian.labels["vsini"]["coverage_50"] > 0.6
    report = Report("made", spectra, drawn)
    assert report.flags["vsini limit"] == 0.25
    assert report.unflagged_labels["vsini"]["number"] == n - n // 4
    assert "vsini limit" in report._repr_html_()


class Tags(HTMLParser):
    """Collect what a page would load or run, and check that tags match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes) -> None:
        self.seen.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_a_page_needs_nothing_else(report: Report, tmp_path: Path) -> None:
    path = report.write(tmp_path / "report.html")
    text = path.read_text()
    page = Tags(text)
    assert not page.open
    assert not page.seen & {"script", "link", "iframe"}
    assert len(page.sources) == len(report.pictures) >= 7
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"https?://|url\(", text)
    assert path.stat().st_size < 3e6
    assert "teff" in text
    assert "@media print" in text
    assert "viewport" in text
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_holds_everything(report: Report, tmp_path: Path) -> None:
    folder = report.write(tmp_path / "report")
    names = {path.name for path in folder.iterdir()}
    assert {"report.html", "report.json", "labels.ecsv", "labels.png", "pixels.png", "worst-1.png"} <= names
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(report.to_json()))
    assert report._repr_html_().count("<img") == len(report.pictures)
    assert "teff" in repr(report)


@pytest.mark.parametrize("name", ["report.pdf", "nowhere/report.html"])
def test_other_places_are_refused(report: Report, tmp_path: Path, name: str) -> None:
    with pytest.raises(DraperError):
        report.write(tmp_path / name)


def test_names_are_escaped(linear: LinearAutoencoder) -> None:
    test = made_spectra(4, seed=5).with_columns(id=["<b>", "a&b", "c", "d"])
    report = linear.evaluate(Spectra(test.grid, test.flux, test.ivar, test.table, test.quantity,
                                     meta={"source": "<script>alert(1)</script>"}))  # fmt: skip
    assert "<script>" not in report._repr_html_()


def test_spectra_of_the_training_are_recognised(linear: LinearAutoencoder) -> None:
    whole = made_spectra(400)
    learnt, held_out = whole.split_rows(0.9, seed=0)
    for part, expected in ((whole, "both"), (whole[learnt], "training"), (whole[held_out], "held out"),
                           (made_spectra(80, seed=5), "other")):  # fmt: skip
        assert relation(linear.training, part) == expected
    assert relation({}, whole) == "unknown"
    report = linear.evaluate(whole)
    assert "trained on" in report.notes[0]
    assert "trained on" in report._repr_html_()
    assert not linear.evaluate(made_spectra(80, seed=5)).notes


def test_an_emulator_is_judged_by_spectra_of_true_labels(emulator: Emulator) -> None:
    test = clean(40, seed=5)
    report = emulator.evaluate(test, snr=100.0, rv=0.0)
    assert report.how == "their true labels"
    made = emulator.generate(test.table)
    rms = np.sqrt(np.mean((made.flux - test.flux) ** 2))
    assert report.to_json()["spectra"]["rms"] == pytest.approx(rms, rel=1e-4)  # of spectra without noise
    assert report.labels["teff"]["scatter"] < 0.3 * report.labels["teff"]["baseline"]
    assert "S/N 100" in report.facts["noise"]
    assert report.facts["option rv"] == "0.0"
    again = emulator.evaluate(test, snr=100.0, rv=0.0)
    assert report.labels == again.labels
    assert emulator.evaluate(test, snr=100.0, seed=1, rv=0.0).labels != report.labels


def test_an_emulator_and_spectra_without_labels_or_errors(emulator: Emulator) -> None:
    test = clean(6, seed=5)
    report = emulator.evaluate(test, rv=0.0)
    assert "no errors" in report.notes[0]
    bare = made_spectra(6, seed=5).with_columns(teff=None, logg=None, fe_h=None)
    report = emulator.evaluate(bare, rv=0.0)
    assert report.labels == {}
    assert report.how == "the predicted labels"
    assert report.residuals is not None
    assert np.nanmedian(report.residuals.reduced_chi2) < 2
    assert "labels" not in {picture.name for picture in report.pictures}
    gappy = test.with_columns(teff=np.where(np.arange(6) < 2, np.nan, test.table["teff"]))
    report = emulator.evaluate(gappy, snr=100.0, rv=0.0)
    assert report.labels["teff"]["number"] == 4
    assert np.isnan(report.residuals.spectrum_rms[:2]).all()


def test_noise_is_not_added_twice(emulator: Emulator) -> None:
    with pytest.raises(DraperError, match="noise already"):
        emulator.evaluate(made_spectra(4), snr=50.0)
    with pytest.raises(DraperError, match="positive"):
        emulator.evaluate(clean(4), snr=-1.0)
    with pytest.raises(DraperError, match="no spectra"):
        emulator.evaluate(clean(4)[:0])


class EncodesOnly(LinearAutoencoder):
    """Has neither labels nor spectra to compare."""

    predict = generate = None


def test_verbs_name_what_can_be_judged(linear: LinearAutoencoder, tmp_path: Path) -> None:
    assert linear.verbs == ("encode", "generate", "predict", "evaluate")
    assert EncodesOnly().verbs == ("encode",)
    linear.save(tmp_path / "model")
    assert load(tmp_path / "model").evaluate(made_spectra(80, seed=5)).labels["teff"]["number"] == 80


def test_a_model_without_labels_is_judged_by_its_spectra() -> None:
    model = LinearAutoencoder(latent=3, start="pca").fit(made_spectra(100), train=TRAIN.replace(epochs=1))
    report = model.evaluate(made_spectra(20, seed=2))
    assert report.labels == {}
    assert report.how == "the spectra themselves"
    assert {"pixels", "spectra", "typical", "worst-1"} <= {picture.name for picture in report.pictures}
