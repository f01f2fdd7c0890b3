"""Two processes do what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from draper.testing import QUICK, made_spectra, new

SCRIPT = """
import json, os, sys
from draper.testing import QUICK, made_spectra, new
model = new({name!r}).fit(made_spectra(200), train=QUICK.replace(ema=0.9, clip=1.0), out={out!r})
if os.environ["RANK"] == "0":
    print("HISTORY" + json.dumps(model.history))
"""


def torchrun(script: Path, processes: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [*command, str(script)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.slow
def test_one_process_and_two_agree(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(name="linear", out=str(tmp_path / "model")))
    done = torchrun(script, 2)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("HISTORY"))
    two = json.loads(line.removeprefix("HISTORY"))
    one = new("linear").fit(made_spectra(200), train=QUICK.replace(ema=0.9, clip=1.0)).history
    assert len(one) == len(two) > 5
    for alone, together in zip(one, two, strict=True):
        assert alone.keys() == together.keys()
        for name in alone:
            if name != "seconds":
                assert together[name] == pytest.approx(alone[name], rel=1e-5), name
    assert (tmp_path / "model" / "README.md").exists()
    assert not (tmp_path / "model" / "checkpoint").exists()


@pytest.mark.slow
def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    fit = "new('linear').fit(made_spectra(60), train=QUICK.replace(batch_size=15))"
    script.write_text(f"from draper.testing import QUICK, made_spectra, new\n{fit}\n")
    done = torchrun(script, 2)
    assert done.returncode != 0
    assert "a multiple of 2" in done.stderr
