"""Fixtures shared by all tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Tests are small, and run one process a core: more threads would only wait for each other. Workers of
# pytest-xdist, and processes that a test starts, inherit the environment.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def figures_are_closed() -> Iterator[None]:
    """Once a test has imported pyplot, new figures are pyplot's, which holds them and warns of many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real spectra, where a checkout has one beside it; tests that need it are skipped else."""
    folder = Path(os.environ.get("DRAPER_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of real spectra beside the checkout (DRAPER_DATA names one)")
    return folder
