"""The reference model, made spectra with known truth, and the checks that every model must pass.

Write your own model by reading :class:`LinearAutoencoder`; check it with::

    from draper.testing import CHECKS

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_model(check, tmp_path):
        check("my-model", tmp_path)
"""

from draper.testing.checks import CHECKS, QUICK, fitted, new
from draper.testing.made import made_spectra
from draper.testing.reference import LinearAutoencoder

__all__ = ["CHECKS", "QUICK", "LinearAutoencoder", "fitted", "made_spectra", "new"]
