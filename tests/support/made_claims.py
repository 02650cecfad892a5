"""Privacy claims for studies of three variables: one of a real release, and ways to spoil it."""

from __future__ import annotations

from typing import Any

import numpy as np

from epgfn.privacy.mechanisms.moments import MomentsMechanism


def honest(
    epsilon: float = 4.0, delta: float = 1e-5, variables: int = 3, *, sums: bool = True
) -> dict[str, Any]:
    """The claim of a release that was made; without `sums`, as before the mean was unknown."""
    records = np.random.default_rng(0).normal(size=(50, variables))
    return MomentsMechanism(variables, epsilon, delta, with_sums=sums).release(records).claim.to_json()


def stage(claim: dict[str, Any], which: int, **changes: Any) -> dict[str, Any]:
    """The claim with fields of one stage replaced."""
    stages = [dict(each) for each in claim["stages"]]
    stages[which] |= changes
    return {**claim, "stages": stages}


def noise(claim: dict[str, Any], which: int, part: int, **changes: Any) -> dict[str, Any]:
    """The claim with fields of one noise of one stage replaced."""
    parts = [dict(each) for each in claim["stages"][which]["noise"]]
    parts[part] |= changes
    return stage(claim, which, noise=parts)


def dishonest() -> dict[str, tuple[dict[str, Any], str]]:
    """What a node may claim instead in a study of epsilon 4 and delta 1e-5, and the reason it is refused for."""
    claim = honest()
    second = claim["stages"][1]
    return {
        "missing": ({"mode": "none"}, "wrong-privacy"),
        "of another mode": ({**claim, "mode": "answers"}, "wrong-privacy"),
        "of another adjacency": ({**claim, "adjacency": "replace-one"}, "wrong-privacy"),
        "a mode and nothing else": ({"mode": "statistic"}, "claim-wrong"),
        "hiding a stage": ({**claim, "stages": claim["stages"][1:]}, "claim-wrong"),
        "with a wrong sum": ({**claim, "mu": claim["mu"] / 2}, "claim-wrong"),
        "with less noise than it needs": (
            noise(claim, 1, 0, scale=second["noise"][0]["scale"] / 2),
            "claim-too-weak",
        ),
        "with a smaller epsilon than true": ({**claim, "epsilon": 1.0}, "claim-too-weak"),
        "above the limit": (honest(epsilon=5.0), "claim-above-limit"),
        "with a larger delta": (honest(delta=1e-4), "claim-above-limit"),
        "with numbers beyond all bounds": (noise(claim, 0, 0, scale=1e-300), "claim-wrong"),
    }
