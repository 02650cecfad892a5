"""What each kind of study asks of study.toml, by its space: which settings, targets, policies and columns, and what is filled in.

A new kind is one entry here, one in `epgfn.gflownet.policies`, one in `epgfn.study.objects`, and for records that are not yet known one in
`epgfn.learn.likelihoods`. Nothing in here computes with tensors, so that reading a study takes no time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

SpaceKind = Literal["dag-by-sinks", "dag-by-edges", "hypergrid", "multiset", "sequence", "phylogeny"]
TargetKind = Literal[
    "bge",
    "bic",
    "profile-likelihood",
    "max-likelihood",
    "bdeu",
    "location",
    "items",
    "letters",
    "jc69",
]
PolicyKind = Literal["order-potential", "edge-net", "edge-attention", "mlp", "tree-net"]
Columns = Literal["numbers", "bounded", "categories", "one-category", "taxa"]

GAUSSIAN: Final = ("bge", "bic", "profile-likelihood", "max-likelihood")
ADDITIVE: Final = ("location", "items", "letters", "jc69")
"""Targets whose log-likelihood is a sum of one term for each record."""
MAX_ANSWERED: Final = 100_000
"""Objects that mode `answers` lists and answers for."""
MAX_LETTERS: Final = 62


class StudyKind(NamedTuple):
    """`sizes`: the settings of [space] besides its kind, those with a True needed. `targets` and `policies`: the first is what is
    taken where none is named. `training`, `aggregation`, `policy`: what is filled in, and `preferences` the share of a node's
    trajectories that are drawn as others might prefer them (`epgfn.gflownet.sampling.exploration`), all by measurement (docs/policies.md,
    docs/aggregation.md)."""

    sizes: Mapping[str, bool]
    targets: Sequence[str]
    policies: Sequence[str]
    may_stop_anywhere: bool
    policy: Mapping[str, Any] = {}
    training: Mapping[str, Any] = {}
    aggregation: Mapping[str, Any] = {}
    preferences: float = 0.0


_GRAPH_TARGETS: Final = (*GAUSSIAN, "bdeu")
_WIDE: Final = {"batch": 256, "learning_rate": 1e-2, "temperature": 1.0}
KINDS: Final[Mapping[str, StudyKind]] = {
    "dag-by-sinks": StudyKind({"max_parents": False}, _GRAPH_TARGETS, ("order-potential",), False),
    "dag-by-edges": StudyKind({"max_parents": False}, _GRAPH_TARGETS, ("edge-net", "edge-attention"), True),
    "hypergrid": StudyKind(
        {"side": True},
        ("location",),
        ("mlp",),
        True,
        training={**_WIDE, "objective": "detailed", "steps": 600, "exploration": 0.1},
        aggregation={**_WIDE, "steps": 1500, "exploration": 0.1},
    ),
    "multiset": StudyKind(
        {"size": True},
        ("items",),
        ("mlp",),
        False,
        training={**_WIDE, "steps": 1000, "exploration": 0.3},
        aggregation={**_WIDE, "steps": 1000, "exploration": 0.3},
        preferences=0.5,
    ),
    "sequence": StudyKind(
        {"max_length": True},
        ("letters",),
        ("mlp",),
        True,
        training={**_WIDE, "steps": 1500, "exploration": 0.1},
        aggregation={**_WIDE, "objective": "aggregating", "steps": 1000, "exploration": 0.1},
    ),
    "phylogeny": StudyKind(
        {},
        ("jc69",),
        ("tree-net",),
        False,
        policy={"hidden": 64},
        training={
            "batch": 128,
            "learning_rate": 2e-3,
            "steps": 1500,
            "exploration": 0.05,
            "temperature": 3.0,
        },
        aggregation={
            "batch": 128,
            "learning_rate": 2e-3,
            "steps": 1000,
            "exploration": 0.05,
            "temperature": 2.0,
        },
    ),
}
"""By the space's kind."""


class _Space(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def size(self) -> int | None: ...
    @property
    def side(self) -> int | None: ...
    @property
    def max_length(self) -> int | None: ...


class _Variable(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def categories(self) -> list[str] | None: ...


def filled(values: Any) -> Any:
    """The tables of a study file with what its kind fills in; anything malformed is left for the study to refuse."""
    if not isinstance(values, dict):
        return values
    space = values.get("space", {})
    kind = KINDS.get(space.get("kind", "dag-by-sinks")) if isinstance(space, dict) else None
    if kind is None:
        return values
    given = {
        "target": {"kind": kind.targets[0]},
        "policy": {"kind": kind.policies[0], **kind.policy},
        "training": kind.training,
        "aggregation": kind.aggregation,
    }
    out = dict(values)
    for table, defaults in given.items():
        own = values.get(table, {})
        if isinstance(own, dict):
            out[table] = {**defaults, **own}
    return out


def columns_of(space: str, target: str) -> Columns:
    """What the variables of such a study are."""
    if space == "phylogeny":
        return "taxa"
    if space == "hypergrid":
        return "bounded"
    if space in ("multiset", "sequence"):
        return "one-category"
    return "categories" if target == "bdeu" else "numbers"


def check_space(space: _Space, set_sizes: frozenset[str], target: str, policy: str) -> None:
    """Raises:
    ValueError: a size is missing or belongs to another space, or target or policy do not go with it.
    """
    kind = KINDS[space.kind]
    for name in sorted(set_sizes - kind.sizes.keys()):
        raise ValueError(f"space.{name} has no meaning for space '{space.kind}'; take it out")
    for name, needed in kind.sizes.items():
        if needed and name not in set_sizes:
            raise ValueError(f"space '{space.kind}' needs space.{name}")
    if target not in kind.targets:
        raise ValueError(
            f"target '{target}' does not go with space '{space.kind}'; choose one of {', '.join(kind.targets)}"
        )
    if policy not in kind.policies:
        raise ValueError(
            f"policy '{policy}' does not go with space '{space.kind}'; choose {' or '.join(kind.policies)}"
        )


def number_of_objects(space: _Space, variables: Sequence[_Variable]) -> float:
    """How many objects the study is about; infinity for graphs, which are not counted here, and for what a float cannot hold."""
    try:
        return float(_count(space, variables))
    except OverflowError:
        return math.inf


def _count(space: _Space, variables: Sequence[_Variable]) -> float:
    if space.kind == "hypergrid":
        return int((space.side or 0) ** len(variables))
    if space.kind == "phylogeny":
        return math.prod(range(1, 2 * len(variables) - 2, 2))
    d = len(variables[0].categories or ())
    if space.kind == "multiset":
        return math.comb(d + (space.size or 0) - 1, space.size or 0)
    if space.kind == "sequence":
        return sum(int(d**length) for length in range((space.max_length or 0) + 1))
    return math.inf
