"""The attack on every mechanism with thousands of releases and the system's own noise: none is less private than it claims.

Correct code is called broken in fewer than one attack of a million. Each attack's measured epsilon is printed: far below the claim is what
a short attack gives, above it is a mistake in the code.
"""

from __future__ import annotations

import itertools

from epgfn.privacy.attacks.canaries import ATTACKED, make_case
from soaking import rounds

DELTA, RELEASES, CONFIDENCE = 1e-5, 1500, 1 - 1e-6


def soak_the_attack_on_every_mechanism() -> None:
    # All modes come before any comes again.
    cases = [
        (mode, adjacency, epsilon)
        for epsilon, adjacency in itertools.product((4.0, 8.0, 1.0), ("add-remove", "replace-one"))
        for mode in ATTACKED
        if (mode, adjacency) != ("gradient", "replace-one")
    ]
    for number, _ in rounds("privacy audit"):
        mode, adjacency, epsilon = cases[number % len(cases)]
        case = make_case(mode, epsilon=epsilon, delta=DELTA, adjacency=adjacency, n_variables=3)  # type: ignore[arg-type]
        found = case.attack(RELEASES, CONFIDENCE)
        print(
            f"  {mode:<9} {adjacency:<11} {2 * RELEASES} releases: claimed {found.claimed:.3g}, measured {found.epsilon:.3g}",
            flush=True,
        )
        assert not found.broken, (mode, adjacency, epsilon)
