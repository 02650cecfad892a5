"""Binary trees whose leaves are the variables: taxa. A record is a site of their alignment.

    branch_lengths = "own"      unrooted trees, every branch with a length of its own, which is integrated out
                                (`epgfn.targets.own_branches`), by Jukes and Cantor or by Hasegawa, Kishino and Yano
    branch_lengths = "equal"    rooted trees, `branch_length` expected changes per site along each branch, after Jukes and Cantor: the
                                target of the EP-GFlowNet paper (`epgfn.targets.jc69`), and of a study that does not say

An unrooted tree of n taxa is a rooted one of the first n - 1, the last hanging from its root: as many of the one as of the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

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
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch import Tensor

    from epgfn.study import Study

MAX_CLADES = 4096
"""All clades are asked about up to so many (12 taxa, 13 of an unrooted tree); beyond, those that the objects show."""
MOST_LEAVES = 64
"""Of the trees that are built."""
MAX_TRUSTED_LEAVES = 12
"""Of the trees that are built, up to which `tree-net` carries a score of every split."""
SPARSE: Final = "split-table"
"""The policy of more, where there are moves of Markov chains for the target."""
MAX_PATTERNS = 8
"""Taxa up to which all patterns of a site are looked at."""
FEWEST_UNROOTED = 4
"""Taxa: of three there is one unrooted tree."""


class PhylogenySettings(SpaceSettings):
    """How large a tree is, its variables say."""

    kind: Literal["phylogeny"]


class Jc69Settings(TargetSettings):
    """`branch_length`: expected changes per site along every branch, where all are equal. `branch_rate`: of the exponential prior of each
    length where each has its own, one over its mean. `gamma_shape`: of the gamma distribution of sites' rates, in four categories; None:
    all sites are alike."""

    kind: Literal["jc69"]
    branch_lengths: Literal["equal", "own"] = "equal"
    branch_length: Annotated[float, Field(gt=0, le=10)] = 0.1
    branch_rate: Annotated[float, Field(gt=0, le=1000)] = 10.0
    gamma_shape: Annotated[float, Field(ge=0.05, le=100)] | None = None

    @model_validator(mode="after")
    def _of_its_branches(self) -> Self:
        own = self.branch_lengths == "own"
        out = ("branch_length",) if own else ("branch_rate", "gamma_shape")
        for name in out:
            if name in self.model_fields_set:
                other = "equal" if own else "own"
                raise ValueError(
                    f'{name} has no meaning but with branch_lengths = "{other}"; take it out, or say that'
                )
        return self


class HkySettings(TargetSettings):
    """`kappa`: how many times faster transitions are than each transversion. `frequencies` of A, C, G, T, which are scaled to sum to one.
    All else as for `jc69` with branch lengths of their own."""

    kind: Literal["hky"]
    branch_lengths: Literal["own"] = "own"
    branch_rate: Annotated[float, Field(gt=0, le=1000)] = 10.0
    gamma_shape: Annotated[float, Field(ge=0.05, le=100)] | None = None
    kappa: Annotated[float, Field(ge=0.01, le=1000)] = 2.0
    frequencies: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=4, max_length=4)] = [
        0.25
    ] * 4


def _sites(study: Study, space: Any) -> Likelihood:
    from epgfn.targets import jc69

    branch = study.target.branch_length

    def draw(state: Any, n: int, generator: torch.Generator) -> Tensor:
        return jc69.simulate(space, state, n, branch, generator).T.contiguous()

    return Likelihood(
        jc69.by_site(space, branch), lambda: jc69.site_patterns(space.n_leaves), draw, jc69.pattern_of
    )


def _integrated(study: Study, space: Any, records: Tensor) -> Callable[[Any], Tensor]:
    from epgfn.targets import substitution
    from epgfn.targets.own_branches import OwnBranches

    target = study.target
    model = (
        substitution.jc69(target.gamma_shape)
        if target.kind == "jc69"
        else substitution.hky(target.frequencies, target.kappa, target.gamma_shape)
    )
    return OwnBranches(space, records.T, model, target.branch_rate).log_marginal


def _subtrees(study: Study, records: Tensor) -> Any:
    from epgfn.targets.jc69_moves import Jc69Moves

    return Jc69Moves(records.T, study.target.branch_length)


_LOOP = {"batch": 128, "learning_rate": 2e-3, "exploration": 0.05}


JC69 = TargetKind(
    "jc69",
    Jc69Settings,
    TAXA,
    "sites evolve along the tree after Jukes and Cantor, all branches alike",
    f"{DRAWN} Sites evolve along the tree, one by one.",
    SUMMED,
    _sites,
    listed_up_to=MAX_PATTERNS,
    planned=("branch_length",),
    moves=_subtrees,
)
JC69_OWN = TargetKind(
    'jc69 with branch_lengths = "own"',
    Jc69Settings,
    TAXA,
    "sites evolve along the tree after Jukes and Cantor, each branch with a length of its own, integrated out",
    "",
    {},
    together=_integrated,
)
HKY = TargetKind(
    "hky",
    HkySettings,
    TAXA,
    "sites evolve along the tree after Hasegawa, Kishino and Yano, each branch with a length of its own, integrated out",
    "",
    {},
    together=_integrated,
)


@dataclass(frozen=True)
class Phylogeny(Kind):
    """See the module."""

    def target_of(self, settings: TargetSettings) -> TargetKind:
        own = settings.kind == "jc69" and settings.branch_lengths == "own"
        return JC69_OWN if own else super().target_of(settings)

    def policy_of(self, values: Mapping[str, Any]) -> str:
        """Beyond `MAX_TRUSTED_LEAVES` that which chains teach, where they can: all branches are alike, and no step of training is
        paid for."""
        variables, target, privacy = (
            values.get(name, missing)
            for name, missing in (("variables", []), ("target", {}), ("privacy", {}))
        )
        tables = isinstance(target, dict) and isinstance(privacy, dict)
        if not (tables and isinstance(variables, list) and len(variables) > MAX_TRUSTED_LEAVES):
            return self.policies[0]
        own = target.get("kind", JC69.name) != JC69.name or target.get("branch_lengths", "equal") != "equal"
        return self.policies[0] if own or privacy.get("mode", "none") != "none" else SPARSE

    def check(self, study: Study) -> None:
        if study.policy.kind == SPARSE and (study.target_kind.moves is None or study.privacy.is_private):
            raise ValueError(
                f"policy '{SPARSE}' is taught by Markov chains, which there are for target 'jc69' with equal branches and without "
                "[privacy]; take policy.kind out"
            )
        if is_unrooted(study) and len(study.variables) < FEWEST_UNROOTED:
            raise ValueError(
                f"a study of unrooted trees needs at least {FEWEST_UNROOTED} taxa: of three there is only one"
            )
        if _leaves(study) > MOST_LEAVES:
            raise ValueError(f"a study of trees takes {MOST_LEAVES + is_unrooted(study)} taxa at most")

    def space(self, study: Study) -> Any:
        from epgfn.gflownet.spaces import make_space

        return make_space("phylogeny", n_leaves=_leaves(study))

    def count(self, study: Study) -> float:
        return math.prod(range(1, 2 * _leaves(study) - 2, 2))

    def written(self, study: Study, state: Any) -> list[str]:
        """In Newick's format, an unrooted tree with three subtrees side by side."""
        names, leaves = study.variable_names, _leaves(study)
        return list(self.space(study).newick(state, names[:leaves], *names[leaves:]))

    def questions(self, study: Study, state: Any) -> Questions:
        """Do these 2 to n - 1 taxa have an ancestor of their own? In an unrooted tree: does a branch separate these 2 to n - 2 taxa from
        the rest? Of the two sides the smaller one is named, of equal ones that with the first taxon."""
        import itertools

        import torch

        n = _leaves(study)
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
        wanted = torch.tensor(groups, dtype=torch.int64)
        answers = (
            torch.stack([(state.nodes == g).any(1) for g in wanted], 1)
            if groups
            else torch.zeros(len(state.nodes), 0)
        )
        return Questions(called(study, groups), answers.bool())

    def asked(self, study: Study) -> str:
        return "split" if is_unrooted(study) else "clade"

    def in_words(self, study: Study) -> str:
        return f"{'unrooted' if is_unrooted(study) else 'rooted'} binary trees whose leaves are the taxa"

    def caution(self, study: Study) -> str:
        most = MAX_TRUSTED_LEAVES + len(study.variables) - _leaves(study)
        if len(study.variables) <= most:
            return ""
        if study.policy.kind == SPARSE:
            if len(study.roster) == 1:
                return ""
            return (
                f"beyond {most} taxa the product of several nodes' models may be far off although each is right by itself "
                "(docs/policies.md); do not rely on the posterior of this study unless its verdict is good"
            )
        return (
            f"beyond {most} taxa the policy is a network alone, which trains but was measured to be inaccurate "
            "(docs/policies.md); do not rely on the posterior of this study"
        )


def called(study: Study, groups: Sequence[int]) -> list[str]:
    """The names of clades or splits, given as leaf sets."""
    names, found = study.variable_names, []
    for group in groups:
        inside = [i for i in range(len(names)) if group >> i & 1]
        outside = [i for i in range(len(names)) if not group >> i & 1]
        other = is_unrooted(study) and (len(outside), outside) < (len(inside), inside)
        found.append("{" + ", ".join(names[i] for i in (outside if other else inside)) + "}")
    return found


def is_unrooted(study: Study) -> bool:
    """Whether its trees have no root, as where each branch has a length of its own."""
    return bool(study.target.branch_lengths == "own")


def _leaves(study: Study) -> int:
    """Of the trees that are built."""
    return len(study.variables) - is_unrooted(study)


PHYLOGENY = Phylogeny(
    "phylogeny",
    PhylogenySettings,
    (JC69, HKY),
    ("tree-net", SPARSE),
    "trees",
    "clade",
    policy={"hidden": 64},
    training={**_LOOP, "steps": 1500, "temperature": 3.0},
    aggregation={**_LOOP, "steps": 1000, "temperature": 2.0},
    components="taxa",
    has_trees=True,
    example=(
        """
variables = [{name = "ape"}, {name = "bat"}, {name = "cat"}, {name = "dog"}]
[space]
kind = "phylogeny"
[target]
branch_lengths = "own"
gamma_shape = 0.5
""",
        """
variables = [{name = "ape"}, {name = "bat"}, {name = "cat"}, {name = "dog"}]
[space]
kind = "phylogeny"
[target]
branch_length = 0.9
""",
        """
variables = [{name = "ape"}, {name = "bat"}, {name = "cat"}, {name = "dog"}, {name = "eel"}]
[space]
kind = "phylogeny"
[target]
kind = "hky"
kappa = 4.0
frequencies = [0.3, 0.2, 0.2, 0.3]
""",
    ),
)
