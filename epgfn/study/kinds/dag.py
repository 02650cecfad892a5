"""Directed acyclic graphs over the variables, with at most `max_parents` parents each.

`dag-by-sinks` (needs a modular score) adds one variable with all its parents at a time, `dag-by-edges` an edge. Scores are those
of `epgfn.targets`: linear-Gaussian ones from sums of products, BDeu from counts, and one of categories and numbers from both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from epgfn.study.columns import CATEGORIES, MIXED, NUMBERS
from epgfn.study.kinds.base import Kind, Questions, SpaceSettings, TargetKind, TargetSettings

if TYPE_CHECKING:
    from epgfn.study import Study

MAX_TRUSTED_VARIABLES = 25
"""By sinks, up to which the order potential is exact."""


Parameters = Literal["own", "shared"]
"""Whether each site's records have coefficients, means and variances (or tables of probabilities) of their own, or all have the same. "own"
takes nothing but a policy of each node; "shared" a statistic of its records beside it (`epgfn.learn.shared`)."""


class DagBySinksSettings(SpaceSettings):
    """Graphs with at most `max_parents` parents per variable."""

    kind: Literal["dag-by-sinks"] = "dag-by-sinks"
    max_parents: Annotated[int, Field(ge=1, le=8)] = 3


class DagByEdgesSettings(SpaceSettings):
    """As by sinks."""

    kind: Literal["dag-by-edges"]
    max_parents: Annotated[int, Field(ge=1, le=8)] = 3


class GaussianSettings(TargetSettings):
    """`mean`: whether each node's mean is unknown, or known to be the study's public centre.

    `alpha_mu` (how many records that centre is worth as a guess of an unknown mean; None or 0: a flat prior), `t` (on the study's
    scale, the variance that is expected of a variable; None: 1) and `alpha_w` (degrees of freedom; None: V + 2) belong to BGe.
    With a known mean `alpha_mu` (None: 1) only sets `t` where the study does not: see `epgfn.targets.bge`. `sigma` belongs to the
    paper's score, which comparisons of any Gaussian study report too. `parameters`: see `Parameters`.
    """

    kind: Literal["bge", "bic", "profile-likelihood", "max-likelihood"] = "bge"
    mean: Literal["unknown", "known"] = "unknown"
    alpha_mu: Annotated[float, Field(ge=0)] | None = None
    alpha_w: Annotated[float, Field(gt=0)] | None = None
    t: Annotated[float, Field(gt=0)] | None = None
    sigma: Annotated[float, Field(gt=0)] = 1.0
    parameters: Parameters = "own"

    @model_validator(mode="after")
    def _scaled(self) -> Self:
        if self.mean == "known" and self.alpha_mu == 0:
            raise ValueError("with a known mean alpha_mu must be above 0; leave it out, and set t instead")
        return self


class BdeuSettings(TargetSettings):
    """`sample_size`: the equivalent one of the prior. `parameters`: see `Parameters`."""

    kind: Literal["bdeu"]
    sample_size: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    parameters: Parameters = "own"


class MixedSettings(TargetSettings):
    """`sample_size` of categories, as for BDeu; `alpha_mu`, `t` and `alpha_w` (None: 2 more than variables are numbers) of numbers, as for
    BGe; `covariance`: whether combinations of a number's category parents differ in its mean alone, or have coefficients and noise of their
    own; see `epgfn.targets.conditional_gaussian`."""

    kind: Literal["conditional-gaussian"]
    sample_size: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    alpha_mu: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    alpha_w: Annotated[float, Field(gt=0)] | None = None
    t: Annotated[float, Field(gt=0)] = 1.0
    covariance: Literal["common", "own"] = "common"
    parameters: Parameters = "own"


def _gaussian(name: str, words: str) -> TargetKind:
    return TargetKind(
        name,
        GaussianSettings,
        NUMBERS,
        words,
        "The made-up records are Gaussian, and the study's centres and scales are taken to fit; where they do not, expect less.",
        {"statistic": "moments"},
    )


TARGETS = (
    _gaussian("bge", "BGe, the Bayesian Gaussian score"),
    _gaussian("bic", "linear-Gaussian BIC"),
    _gaussian("profile-likelihood", "linear-Gaussian profile likelihood, without a penalty"),
    _gaussian("max-likelihood", "linear-Gaussian maximum likelihood with fixed variance, without a penalty"),
    TargetKind(
        "bdeu",
        BdeuSettings,
        CATEGORIES,
        "BDeu, the Bayesian score of categorical variables",
        "The made-up records come from random networks with up to two parents per variable; where yours do not, errors differ.",
        {"statistic": "counts"},
        planned=("sample_size",),
    ),
    TargetKind(
        "conditional-gaussian",
        MixedSettings,
        MIXED,
        "conditional Gaussian, the Bayesian score of categories and numbers together, in which no number leads to a category",
        "",
        {},
    ),
)
CAUSES = (
    "Causes, unless the study's assumptions hold: no hidden common cause, and the study's form of noise and dependence. Graphs that "
    "imply the same independences cannot be told apart by observation alone, so an edge and its reverse may share a probability."
)
_NUMBERS = """
variables = [
  {name = "dose", centre = 0, scale = 1, lower = -9, upper = 9}, {name = "weight", centre = 0, scale = 1, lower = -9, upper = 9},
  {name = "response", centre = 0, scale = 1, lower = -9, upper = 9},
]
[space]
kind = "KIND"
max_parents = 2
"""
_CATEGORIES = """
variables = [
  {name = "smokes", categories = ["no", "yes"]}, {name = "stage", categories = ["0", "1", "2"]},
  {name = "cough", categories = ["no", "yes"]},
]
[space]
kind = "KIND"
max_parents = 2
[target]
kind = "bdeu"
"""
_MIXED = """
variables = [
  {name = "smokes", categories = ["no", "yes"]}, {name = "dose", centre = 0, scale = 1}, {name = "response", centre = 0, scale = 1},
]
[space]
kind = "KIND"
max_parents = 2
[target]
kind = "conditional-gaussian"
"""


@dataclass(frozen=True)
class Dag(Kind):
    """`grown`: how a graph comes about, for the report. `trusted`: up to how many variables the policy was measured to be accurate."""

    grown: str = ""
    trusted: int | None = None

    def space(self, study: Study) -> Any:
        import torch

        from epgfn.gflownet.spaces import EdgeRules, make_space
        from epgfn.study.knowledge import rules_of

        rules = [EdgeRules(*map(torch.tensor, both)) for both in rules_of(study)]
        sizes = {"n_variables": len(study.variables), "max_parents": study.space.max_parents}
        return make_space(self.name, **sizes, rules=rules[0] if rules else None)

    def count(self, study: Study) -> float:
        """Graphs are not counted here."""
        return math.inf

    def written(self, study: Study, state: Any) -> list[str]:
        """ "a->b;c->b", empty for no edge."""
        names = study.variable_names
        return [
            ";".join(f"{names[i]}->{names[j]}" for i, j in graph.nonzero().tolist())
            for graph in state.adjacency
        ]

    def questions(self, study: Study, state: Any) -> Questions:
        """Is there this edge?"""
        import torch

        names, v = study.variable_names, len(study.variables)
        pairs = [(i, j) for i in range(v) for j in range(v) if i != j]
        where = torch.tensor([i * v + j for i, j in pairs])
        return Questions([f"{names[i]}->{names[j]}" for i, j in pairs], state.adjacency.flatten(1)[:, where])

    def in_words(self, study: Study) -> str:
        most = study.space.max_parents
        return f"directed acyclic graphs, grown {self.grown}, at most {most} parent{'s' if most > 1 else ''}"

    def check(self, study: Study) -> None:
        if len(study.variables) < 2:
            raise ValueError("a study of graphs needs at least two variables")
        if study.space.max_parents >= len(study.variables):
            raise ValueError(
                f"space.max_parents must be below the number of variables ({len(study.variables)})"
            )

    def caution(self, study: Study) -> str:
        if self.trusted is None or len(study.variables) <= self.trusted:
            return ""
        return (
            f"beyond {self.trusted} variables a model is often not to be relied on, and its verdict then says so; what is published, "
            "samples too, comes from Markov chains on the nodes' scores in that case, with how far halves of them differ "
            "(docs/large-dags.md)"
        )

    def left_out(self, study: Study) -> str:
        most = study.space.max_parents
        return f"Graphs in which a variable has more than {most} parents; the study leaves them out."


def _dag(name: str, settings: type[SpaceSettings], policies: tuple[str, ...], grown: str, **more: Any) -> Dag:
    return Dag(
        name,
        settings,
        TARGETS,
        policies,
        "graphs",
        "edge",
        grown=grown,
        priors=("uniform", "edge", "fan-in"),
        takes_knowledge=True,
        has_edges=True,
        listed_up_to=5,
        column="edges",
        probabilities="edge probabilities",
        reward="score",
        assumes=CAUSES,
        smaller="fewer variables",
        example=tuple(text.replace("KIND", name) for text in (_NUMBERS, _CATEGORIES, _MIXED)),
        **more,
    )


DAG_BY_SINKS = _dag(
    "dag-by-sinks",
    DagBySinksSettings,
    ("order-potential",),
    "one variable with all its parents at a time",
    carries_scores=True,
    trusted=MAX_TRUSTED_VARIABLES,
    doublings=4,
)
DAG_BY_EDGES = _dag(
    "dag-by-edges",
    DagByEdgesSettings,
    ("edge-net", "edge-attention"),
    "edge by edge",
    may_stop_anywhere=True,
    doublings=5,
)
