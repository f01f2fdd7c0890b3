"""What several processes refuse, and what they share."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def torchrun(script: Path, processes: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [*command, str(script)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.slow
def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    fit = "new('linear').fit(made_spectra(60), train=QUICK.replace(batch_size=15))"
    script.write_text(f"from draper.testing import QUICK, made_spectra, new\n{fit}\n")
    done = torchrun(script, 2)
    assert done.returncode != 0
    assert "a multiple of 2" in done.stderr


@pytest.mark.slow
def test_moving_buffers_are_shared(tmp_path: Path) -> None:
    """A controller that each process moves by its share of the batch is the same in both, and as alone."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import torch\n"
        "from toy import CPU, QUICK, Duel, feed, trainer\n"
        "from draper.train.distributed import World\n"
        "class Moved(Duel):\n"
        "    moving = ('level',)\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.encoder = torch.nn.Linear(6, 3)\n"
        "        self.register_buffer('level', torch.zeros(()))\n"
        "    def loss(self, batch, shared, player, progress):\n"
        "        if self.training and player == 'encoder':\n"
        "            self.level += 0.1 * (batch['x'].detach().mean() - self.level)\n"
        "        return super().loss(batch, shared, player, progress)\n"
        "world = World.join(CPU)\n"
        "one = trainer(QUICK, module=Moved(), world=world.size)\n"
        "one.world = world\n"
        "list(one.events())\n"
        "sys.stdout.write(f'LEVEL {float(one.module.level)}\\n')\n"
    )
    levels = {}
    for count in (2, 1):
        done = torchrun(script, count)
        assert done.returncode == 0, done.stderr[-3000:]
        levels[count] = [float(level) for level in re.findall(r"LEVEL (\S+)", done.stdout)]
    assert len(levels[2]) == 2
    assert levels[2][0] == levels[2][1]
    assert levels[1][0] == pytest.approx(levels[2][0], rel=1e-5)
