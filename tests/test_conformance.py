"""Every registered model passes the public checks."""

from pathlib import Path

import pytest

from draper.registry import targets
from draper.testing import CHECKS


@pytest.mark.parametrize("name", targets())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_model_conforms(check, name: str, tmp_path: Path) -> None:
    check(name, tmp_path)
