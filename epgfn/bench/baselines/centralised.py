"""Centralised training: one model sees every node's reward, for as many steps as a local and the global model together."""

from __future__ import annotations

import time

from epgfn.bench.baselines.base import Case, Found


def centralised(case: Case) -> Found:
    """What could be had if all records could be brought together."""
    federation, start = case.federation, time.process_time()
    policy = federation.train(range(federation.nodes), case.seed, case.steps_local + case.steps_global)
    spent = time.process_time() - start
    return Found(federation.yardstick.of_policy(policy), None, spent)
