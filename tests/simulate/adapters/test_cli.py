import json
from pathlib import Path

import pytest
from cyclopts import App, Parameter
from mock_code import MockCode

import draper
from draper.cli import adapters
from draper.errors import DraperError
from draper.simulate.adapters.turbospectrum import TurbospectrumStars


def call(*tokens: object) -> None:
    # As draper.cli.app makes the program.
    app = App(default_parameter=Parameter(consume_multiple=True, negative=()))
    app.command(adapters.run)
    app(
        [str(token) for token in tokens], exit_on_error=False, print_error=False, result_action="return_value"
    )


def test_run(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "labels.csv").write_text("id,Teff,fe_h\na,10,0.5\nb,1,0\nc,12,0\n")
    out = tmp_path / "out.h5"
    monkeypatch.setattr(adapters, "adapter_with", lambda code, settings: MockCode(float(settings[0][6:])))
    tokens = (
        "run",
        "pysme",
        "--labels",
        tmp_path / "labels.csv",
        "-o",
        out,
        "-s",
        "depth=0.25",
        "--workers",
        1,
    )
    call(*tokens)
    shown = capsys.readouterr()
    assert f"2 spectra written to {out}" in shown.out.replace("\n", " ").replace("  ", " ")
    assert "1 failed: see" in shown.out
    assert "row 1 failed: RuntimeError: no convergence" in shown.err
    assert draper.read(out).table["id"].tolist() == ["a", "c"]
    call(*tokens, "--json")
    assert json.loads(capsys.readouterr().out)["failed"] == {"1": "RuntimeError: no convergence"}


def test_settings(tmp_path: Path) -> None:
    for name in ("a", "b", "grid"):
        (tmp_path / name).write_text("x")
    adapter = adapters.adapter_with(
        "turbospectrum",
        (
            "window=8450,8712",
            f"lines={tmp_path / 'a'},{tmp_path / 'b'}",
            f"atmospheres={tmp_path / 'grid'}",
            "step=0.1",
            "hydrogen=no",
        ),
    )
    assert isinstance(adapter, TurbospectrumStars)
    assert adapter.window == (8450.0, 8712.0)
    assert adapter.lines == (tmp_path / "a", tmp_path / "b")
    assert (adapter.step, adapter.hydrogen, adapter.vmic) == (0.1, False, 1.5)


@pytest.mark.parametrize(
    ("code", "settings", "message"),
    [
        ("pysme", ("windows=1,2",), "did you mean 'window'"),
        ("pysme", ("window",), "this is not a setting of pysme"),
        ("pysme", ("window=a,b",), "the value of 'window' is not valid[\\s\\S]*window=A,B, each a number"),
        ("pysme", ("window=8450",), "the value of 'window' is not valid"),
        ("pysme", ("window=5000,5010",), "pysme needs more settings"),
        ("turbospectrum", ("hydrogen=perhaps",), "the value of 'hydrogen' is not valid[\\s\\S]*yes or no"),
        ("taurex", ("edges=1",), "this is not a setting of taurex"),
        ("taurex", ("opacities=nowhere",), "opacities is not a folder"),
    ],
)
def test_wrong_settings(code: str, settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(DraperError, match=message):
        adapters.adapter_with(code, settings)
