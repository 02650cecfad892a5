"""Differential privacy of what a node sends: mechanisms, accounting, claims, ledger, attack. docs/privacy.md has the proofs.

    statistic, counts, answers, gradient    the mechanisms, one a mode (statistic and counts are both mode `statistic`)
    accounting, sensitivity, discrete       epsilon from noise, noise from sensitivity, integers and their noise
    release, claims                         one noisy stage; what is promised of it, recomputed by whoever reads it
    checks, spending, ledger_file, empirical    refusals before, the budget and how it is kept, the attack after

Nothing here knows a network, a study file or a socket. What a release keeps is the arithmetic, for whoever checks a claim:

    epgfn.privacy.accounting.gdp_epsilon(mu, delta)     epsilon of noise
    epgfn.privacy.recompute(claim)                      epsilon of a claim, from its own parameters
    epgfn.privacy.verify_claim(claim, limits)           the same, and a refusal if it is not what was asked for
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epgfn.privacy import accounting as accounting
    from epgfn.privacy.claims.claims import Claim, Limits, recompute, verify_claim

__all__ = ["Claim", "Limits", "accounting", "recompute", "verify_claim"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: scipy takes a while, and a study without privacy needs none of it.
    if name == "accounting":
        return import_module("epgfn.privacy.accounting")
    if name in __all__:
        return getattr(import_module("epgfn.privacy.claims.claims"), name)
    raise AttributeError(f"module 'epgfn.privacy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
