"""Uploads cut at any byte, resumed, repeated, damaged, out of order, by another file, over a coordinator that dies: at the end exactly the
bytes that were signed for, or a refusal that says why. Longer in `make soak`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from upload_machine import UploadMachine


def test_an_upload_arrives_byte_for_byte_whatever_happens_to_it() -> None:
    few = settings(max_examples=25, stateful_step_count=25, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(UploadMachine, settings=few)
