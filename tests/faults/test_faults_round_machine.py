"""A round to which anything happens in any order, power cuts included: nothing acknowledged is lost, no node counts twice, the ledger only
grows, and what has closed takes nothing. Longer in `make soak`."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from round_machine import RoundMachine


def test_a_round_keeps_its_promises_whatever_happens_to_it() -> None:
    few = settings(max_examples=12, stateful_step_count=25, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(RoundMachine, settings=few)
