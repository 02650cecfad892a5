"""Rooted binary trees, whose leaves are the variables: taxa.

A record is a site of their alignment, evolved along the tree after Jukes and Cantor, `branch_length` expected changes per site along each
branch (`epgfn.targets.jc69`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from epgfn.study.columns import TAXA
from epgfn.study.kinds.base import (
    DRAWN,
    SUMMED,
    Kind,
    Questions,
    SpaceSettings,
    TargetKind,
    TargetSettings,
)
from epgfn.study.kinds.likelihood import Likelihood

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from epgfn.study import Study

MAX_CLADES = 4096
"""All clades are asked about up to so many (12 taxa); beyond, those that the objects show."""
MAX_TRUSTED_TAXA = 12
"""Up to which a policy for trees carries a score of every split."""
MAX_PATTERNS = 8
"""Taxa up to which all patterns of a site are looked at."""


class PhylogenySettings(SpaceSettings):
    """How large a tree is, its variables say."""

    kind: Literal["phylogeny"]


class Jc69Settings(TargetSettings):
    """`branch_length`: expected changes per site along every branch."""

    kind: Literal["jc69"]
    branch_length: Annotated[float, Field(gt=0, le=10)] = 0.1


def _sites(study: Study, space: Any) -> Likelihood:
    from epgfn.targets import jc69

    branch = study.target.branch_length

    def draw(state: Any, n: int, generator: torch.Generator) -> Tensor:
        return jc69.simulate(space, state, n, branch, generator).T.contiguous()

    return Likelihood(
        jc69.by_site(space, branch), lambda: jc69.site_patterns(space.n_leaves), draw, jc69.pattern_of
    )


_LOOP = {"batch": 128, "learning_rate": 2e-3, "exploration": 0.05}


@dataclass(frozen=True)
class Phylogeny(Kind):
    """See the module."""

    def space(self, study: Study) -> Any:
        from epgfn.gflownet.spaces import make_space

        return make_space("phylogeny", n_leaves=len(study.variables))

    def count(self, study: Study) -> float:
        return math.prod(range(1, 2 * len(study.variables) - 2, 2))

    def written(self, study: Study, state: Any) -> list[str]:
        """In Newick's format."""
        return list(self.space(study).newick(state, study.variable_names))

    def questions(self, study: Study, state: Any) -> Questions:
        """Do these 2 to n - 1 taxa have an ancestor of their own?"""
        import itertools

        import torch

        names, n = study.variable_names, len(study.variables)
        if 1 << n <= MAX_CLADES:
            sizes = range(2, n)
            groups = [
                sum(1 << i for i in group) for k in sizes for group in itertools.combinations(range(n), k)
            ]
        else:
            found = torch.unique(state.nodes).tolist()
            groups = sorted(
                (g for g in found if 1 < (g & ((1 << 64) - 1)).bit_count() < n), key=lambda g: g % (1 << 64)
            )
        called = ["{" + ", ".join(names[i] for i in range(n) if g >> i & 1) + "}" for g in groups]
        wanted = torch.tensor(groups, dtype=torch.int64)
        answers = (
            torch.stack([(state.nodes == g).any(1) for g in wanted], 1)
            if groups
            else torch.zeros(len(state.nodes), 0)
        )
        return Questions(called, answers.bool())

    def in_words(self, study: Study) -> str:
        return "rooted binary trees whose leaves are the taxa"

    def caution(self, study: Study) -> str:
        if len(study.variables) <= MAX_TRUSTED_TAXA:
            return ""
        return (
            f"beyond {MAX_TRUSTED_TAXA} taxa the policy is a network alone, which trains but was measured to be inaccurate "
            "(docs/policies.md); do not rely on the posterior of this study"
        )


PHYLOGENY = Phylogeny(
    "phylogeny",
    PhylogenySettings,
    (
        TargetKind(
            "jc69",
            Jc69Settings,
            TAXA,
            "sites evolve along the tree after Jukes and Cantor, all branches alike",
            f"{DRAWN} Sites evolve along the tree, one by one.",
            SUMMED,
            _sites,
            listed_up_to=MAX_PATTERNS,
            planned=("branch_length",),
        ),
    ),
    ("tree-net",),
    "trees",
    "clade",
    policy={"hidden": 64},
    training={**_LOOP, "steps": 1500, "temperature": 3.0},
    aggregation={**_LOOP, "steps": 1000, "temperature": 2.0},
    components="taxa",
    example=(
        """
variables = [{name = "ape"}, {name = "bat"}, {name = "cat"}, {name = "dog"}]
[space]
kind = "phylogeny"
[target]
branch_length = 0.9
""",
    ),
)
