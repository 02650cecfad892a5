"""What a kind of study says of itself: one frozen `Kind` for a state space, with one `TargetKind` for each log-reward over it.

A kind is one file: a subclass of `Kind`, and an instance of it in `epgfn.study.kinds.KINDS` or, in somebody else's package, behind an entry
point of the group `epgfn.kinds` (docs/studies.md). Everything else of epgfn asks the kind. torch is imported inside the methods, so
that reading a study takes no time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from epgfn.study.columns import Columns
from epgfn.study.mistakes import did_you_mean
from epgfn.study.variables import Settings, Shown

if TYPE_CHECKING:
    from torch import Tensor

    from epgfn.study import Study
    from epgfn.study.kinds.likelihood import Likelihood

PrivacyMode = Literal["none", "statistic", "answers", "gradient"]


class SpaceSettings(Settings):
    """[space]: the kind, and in its own class how large its objects are. `package`: where the kind is no part of epgfn, the package
    it comes from with its exact version."""

    kind: str
    package: Annotated[str, Field(max_length=128), Shown] | None = None

    if TYPE_CHECKING:  # what else there is, the kind's own code knows

        def __getattr__(self, name: str) -> Any: ...


class TargetSettings(Settings):
    """[target]: the log-reward, and in its own class its settings."""

    kind: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Questions(NamedTuple):
    """`names` of M yes-no questions, and `answers` (B, M) bool."""

    names: list[str]
    answers: Tensor


@dataclass(frozen=True)
class TargetKind:
    """One log-reward: a sum over records, which has a `likelihood(study, space)`; what all of a node's records say together, which has
    `together(study, space, records)`, a function of finished states to (B,) nats; or a modular score of graphs, which has neither and is
    computed by `epgfn.learn.scores`.

    mechanisms: the privacy modes that have a mechanism, and its name in the registries of `epgfn.privacy.of_study`.
    words: what the report says of it. caution: what planning made up, and where it may differ from anyone's records.
    listed_up_to: up to how many variables `Likelihood.domain` is short enough for DP-SGD to keep a tally over it; None: always.
    planned: the settings that `epgfn privacy plan` names. moves: of Markov chains on all of a node's records, where objects have
    moves of their own (`epgfn.gflownet.measure.tree_chains.TreeMoves`).
    """

    name: str
    settings: type[TargetSettings]
    columns: Columns
    words: str
    caution: str
    mechanisms: Mapping[str, str]
    likelihood: Callable[[Study, Any], Likelihood] | None = None
    listed_up_to: int | None = None
    planned: tuple[str, ...] = ()
    together: Callable[[Study, Any, Tensor], Callable[[Any], Tensor]] | None = None
    moves: Callable[[Study, Tensor], Any] | None = None

    @property
    def is_modular(self) -> bool:
        """Whether it is a table of scores of graphs."""
        return self.likelihood is None and self.together is None


DRAWN = (
    "In each made-up world the true object is any of them alike, and records are what the study's own likelihood draws from it; "
    "where yours are not, expect less."
)
"""The `caution` of a target that is a sum over records."""
SUMMED: Mapping[str, str] = {"answers": "answers", "gradient": "gradient"}
"""The `mechanisms` of such a target."""


@dataclass(frozen=True)
class Kind(ABC):
    """One state space. The first of `targets` and of `policies` is what is taken where the study names none; `policies` are names of
    `epgfn.gflownet.policies.FAMILIES`.

    noun: what several objects are called; question: what the names of the questions are, for a heading.
    policy, training, aggregation: what is filled in, and `preferences` the share of a node's trajectories that are drawn as others might
        prefer them (`epgfn.gflownet.sampling.exploration`), all by measurement (docs/policies.md, docs/aggregation.md).
    carries_scores: its policies are made of the node's score table, which says log R exactly.
    doublings: how often the steps of `training` and `aggregation` are doubled, at most, where a study does not say how many.
    priors: which of [prior] it knows. takes_knowledge: its space leaves out objects that `epgfn.study.knowledge` rules out.
    has_edges: objects are graphs over the variables, whose states have an `adjacency`: the questions are a matrix of edges.
    has_trees: objects are trees whose leaves are the variables, written in Newick.
    listed_up_to: up to how many variables all objects can be listed, where that is known beforehand.
    column: what a table of objects calls them. components: what the report calls that which objects are made of. reward: what it calls
        the target. assumes: what a result does not show.
    example: the [[variables]], [space] and [target] of small studies, TOML, for `epgfn.testing.check_kind`.
    """

    name: str
    settings: type[SpaceSettings]
    targets: tuple[TargetKind, ...]
    policies: tuple[str, ...]
    noun: str
    question: str
    may_stop_anywhere: bool = False
    carries_scores: bool = False
    policy: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    aggregation: Mapping[str, Any] = field(default_factory=dict)
    preferences: float = 0.0
    doublings: int = 2
    priors: tuple[str, ...] = ("uniform",)
    takes_knowledge: bool = False
    has_edges: bool = False
    has_trees: bool = False
    listed_up_to: int | None = None
    column: str = "object"
    components: str = "variables"
    probabilities: str = "marginal probabilities"
    reward: str = "target"
    assumes: str = (
        "The truth, unless the study's assumptions hold: that records come about as its target says."
    )
    smaller: str = "a smaller space"
    example: tuple[str, ...] = ()

    @abstractmethod
    def space(self, study: Study) -> Any:
        """The study's state graph (`epgfn.gflownet.spaces.base.Space`).

        Raises:
            UsageError: the settings make no sense.
        """

    @abstractmethod
    def count(self, study: Study) -> float:
        """How many objects there are, a whole number; infinity where nobody counts them. May raise OverflowError."""

    @abstractmethod
    def written(self, study: Study, state: Any) -> list[str]:
        """The finished objects of `state`, one text each; equal objects have equal texts."""

    @abstractmethod
    def questions(self, study: Study, state: Any) -> Questions:
        """What is reported of the objects of `state`, object by object. Names and their order hang on the study alone, unless objects are
        too many to ask about all."""

    @abstractmethod
    def in_words(self, study: Study) -> str:
        """The space with its sizes, for the report."""

    def check(self, study: Study) -> None:
        """Raises:
        ValueError: the study's variables and sizes do not fit together, beyond what its columns check.
        """
        return

    def caution(self, study: Study) -> str:
        """What was measured and speaks against believing such a posterior, in a sentence without its full stop; empty if nothing."""
        return ""

    def left_out(self, study: Study) -> str:
        """Objects that the study's sizes leave out and a reader might look for, as a sentence; empty if there are none."""
        return ""

    def panels(self, study: Study) -> dict[str, str] | None:
        """For the report's figure: what the names of one panel's questions begin with, and its title; None: a list of the most probable."""
        return None

    def planned(self, study: Study) -> dict[str, Any]:
        """The sizes that `epgfn privacy plan` names."""
        return {name: getattr(study.space, name) for name in self.sizes}

    def policy_of(self, values: Mapping[str, Any]) -> str:
        """The policy of a study file's tables `values`, unchecked as they are, that names none."""
        return self.policies[0]

    def target_of(self, settings: TargetSettings) -> TargetKind:
        """The log-reward that a study's [target] asks for."""
        return self.target(settings.kind)

    def asked(self, study: Study) -> str:
        """What the names of the questions of `study` are, for a heading."""
        return self.question

    @property
    def sizes(self) -> list[str]:
        """Names of the settings of [space] that are the kind's own."""
        return [name for name in self.settings.model_fields if name not in SpaceSettings.model_fields]

    def target(self, name: str) -> TargetKind:
        """Raises:
        ValueError: no target of the kind has that name.
        """
        for target in self.targets:
            if target.name == name:
                return target
        names = [target.name for target in self.targets]
        raise ValueError(
            f"target '{name}' does not go with space '{self.name}'{did_you_mean(name, names)}; choose one of {', '.join(names)}"
        )

    def number_of_objects(self, study: Study) -> float:
        """`count` as a float; infinity for what a float cannot hold."""
        try:
            return float(self.count(study))
        except OverflowError:
            return math.inf
