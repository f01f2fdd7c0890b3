"""The reference models, made spectra with known truth, and the checks that every model must pass.

Write your own model by reading :class:`LinearAutoencoder`; check it with::

    from draper.testing import CHECKS

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_model(check, tmp_path):
        check("my-model", tmp_path)
"""

from draper.simulate.made import made_spectra
from draper.testing.aligned import AlignedRegression
from draper.testing.checks import CHECKS, QUICK, fitted, new
from draper.testing.reference import LinearAutoencoder
from draper.testing.simulated import SimulatedRegression

__all__ = [
    "CHECKS",
    "QUICK",
    "AlignedRegression",
    "LinearAutoencoder",
    "SimulatedRegression",
    "fitted",
    "made_spectra",
    "new",
]
