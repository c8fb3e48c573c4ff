"""The types that both twins share."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from riverlog.kernels import IMPLEMENTATION, reference
from riverlog.kernels.results import Fault, MalformedRecord


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_has_a_text(fault: Fault) -> None:
    assert str(MalformedRecord(3, fault)).startswith("record 3: ")


def test_crosses_a_process_border() -> None:
    copy = pickle.loads(pickle.dumps(MalformedRecord(3, Fault.KEY)))
    assert (copy.index, copy.fault) == (3, Fault.KEY)


def test_without_the_extension_the_reference_is_used() -> None:
    code = (
        "import sys; sys.modules['riverlog.kernels.compiled'] = None\n"
        "from riverlog import kernels\n"
        "print(kernels.IMPLEMENTATION, kernels.record_spans.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "reference riverlog.kernels.reference\n"


def test_says_which_twin_was_chosen() -> None:
    import riverlog.kernels

    chosen = riverlog.kernels.record_spans is not reference.record_spans
    assert ("compiled" if chosen else "reference") == IMPLEMENTATION
