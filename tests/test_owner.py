"""Whether the process that a file belongs to has ended: only what is certain counts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from draper.owner import UNKNOWN, Owner

needs_proc = pytest.mark.skipif(
    sys.platform != "linux", reason="the system does not say when a process began"
)


@pytest.fixture
def ended() -> Iterator[Owner]:
    """A process that has ended; it is a zombie until this one asks for its exit code."""
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # until its end
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield replace(Owner.here(), process=process.pid, began=UNKNOWN)
    process.communicate()


def test_this_process_lives() -> None:
    assert not Owner.here().has_ended
    assert Owner.parse(str(Owner.here())) == Owner.here()
    assert Owner.parse("x.h5.4711") is None


@needs_proc
def test_a_zombie_has_ended(ended: Owner) -> None:
    assert ended.has_ended


def test_a_process_that_is_gone_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert replace(Owner.here(), process=process.pid).has_ended


@needs_proc
def test_a_number_may_be_used_again() -> None:
    assert replace(Owner.here(), began=1).has_ended
    assert not replace(Owner.here(), began=UNKNOWN).has_ended


def test_of_other_machines_nothing_is_known() -> None:
    assert not replace(Owner.here(), host="elsewhere", process=999_999_999).has_ended
