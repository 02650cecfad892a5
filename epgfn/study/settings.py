"""The tables of study.toml, one class each, and what a single one of them may hold. What must fit together is `epgfn.study.study`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from epgfn.study.kinds import PolicyKind, SpaceKind, TargetKind


class Settings(BaseModel):
    """Immutable, and an unknown key is an error: a misspelt setting must not silently become a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _shown(value: str) -> str:
    if not value.isprintable():
        raise ValueError(
            "a name may hold no control characters; it is shown to people who decide by what they see"
        )
    return value


Shown = AfterValidator(_shown)
Category = Annotated[str, Field(min_length=1, max_length=64), Shown]


class Variable(Settings):
    """One column: x = (transform(raw / transform_scale) - centre) / scale, all constants public.

    `lower` and `upper` are public bounds in the column's own units. Where nodes release with noise every variable has them, and
    a number beyond is moved to the bound before anything else happens to it.

    `categories`: what may stand in a column that holds no numbers, in a public order; such a column has nothing else. In a study of
    trees a variable is a taxon and has a name only.
    """

    name: Annotated[str, Field(min_length=1, max_length=64), Shown]
    transform: Literal["none", "arcsinh", "log"] = "none"
    transform_scale: Annotated[float, Field(gt=0)] = 1.0
    centre: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0
    lower: float | None = None
    upper: float | None = None
    categories: Annotated[list[Category], Field(min_length=2, max_length=1024)] | None = None

    @field_validator("name")
    @classmethod
    def _fits_edge_lists(cls, value: str) -> str:
        if ";" in value or "->" in value:
            raise ValueError(
                "a variable's name may hold neither ';' nor '->': samples list edges as a->b;c->d"
            )
        return value

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"variable {self.name}: lower must be below upper")
        if self.categories is not None and len(set(self.categories)) != len(self.categories):
            raise ValueError(f"variable {self.name}: a category stands twice")
        if self.categories is not None and any(c != c.strip() for c in self.categories):
            raise ValueError(f"variable {self.name}: a category begins or ends with a space")
        return self

    @property
    def is_plain(self) -> bool:
        """Whether nothing is said of it that belongs to a column of numbers."""
        numeric = {"transform", "transform_scale", "centre", "scale", "lower", "upper"}
        return not self.model_fields_set & numeric


class SpaceSettings(Settings):
    """The state graph, and how large its objects are.

    `dag-by-sinks` (needs a modular score) and `dag-by-edges` (takes any): graphs over the variables with at most `max_parents` each.
    `hypergrid`: points, `side` places along each variable from its lower to its upper bound. `multiset`: `size` items, whose kinds are the
    categories of the one variable. `sequence`: up to `max_length` letters, the categories of the one variable. `phylogeny`: rooted
    binary trees, whose leaves are the variables.
    """

    kind: SpaceKind = "dag-by-sinks"
    max_parents: Annotated[int, Field(ge=1, le=8)] = 3
    side: Annotated[int, Field(ge=2, le=1000)] | None = None
    size: Annotated[int, Field(ge=1, le=1000)] | None = None
    max_length: Annotated[int, Field(ge=1, le=1000)] | None = None


class TargetSettings(Settings):
    """The log-reward, which the space must know; see `epgfn.study.kinds.KINDS`.

    `alpha_mu` and `alpha_w` (degrees of freedom; None: V + 2) belong to BGe, `sigma` to the paper's score and, on the study's
    scale, to `location`; `sample_size` to BDeu; `signal` (how much of a record the object explains) to `items` and `letters`;
    `branch_length` (expected changes a site) to `jc69`.
    """

    kind: TargetKind = "bge"
    alpha_mu: Annotated[float, Field(gt=0)] = 1.0
    alpha_w: Annotated[float, Field(gt=0)] | None = None
    sigma: Annotated[float, Field(gt=0)] = 1.0
    sample_size: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    signal: Annotated[float, Field(gt=0, lt=1)] = 0.5
    branch_length: Annotated[float, Field(gt=0, le=10)] = 0.1


class PriorSettings(Settings):
    """The public prior over objects; each node's subposterior carries the 1/N-th power of it.

    uniform: constant. edge (graphs only): prod over edges of p/(1-p) with p = `edge_probability`.
    """

    kind: Literal["uniform", "edge"] = "uniform"
    edge_probability: Annotated[float, Field(gt=0, lt=1)] = 0.5


class PolicySettings(Settings):
    """The network every party trains; its shape is agreed so that the coordinator can check what it gets."""

    kind: PolicyKind = "order-potential"
    hidden: Annotated[int, Field(ge=8, le=2048)] = 256


class TrainingSettings(Settings):
    """How one model is trained. Temperature and exploration fall linearly to 1 and 0 over the run."""

    objective: Literal["contrastive", "trajectory", "detailed"] = "contrastive"
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    batch: Annotated[int, Field(ge=2, le=65_536)] = 256
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    exploration: Annotated[float, Field(ge=0, le=1)] = 0.0
    temperature: Annotated[float, Field(ge=1, le=10)] = 1.5


class AggregationSettings(TrainingSettings):
    """How the global model is trained, and when the round closes.

    `objective`: one of `epgfn.gflownet.product`; without it the space decides.

    The round closes when every node of the roster has sent its model (`close_when = "all"`), when `quorum` of them
    have (`"quorum"`), or at `deadline` with at least `quorum`; at the deadline with fewer it fails and says so.
    `samples` graphs are drawn for publication.

    `late`: what becomes of a model that comes after the round was published. "refuse", or "new-aggregate": one more global
    model of everybody's so far, signed on its own, beside the first; needs `transport.keep_round_key`.
    `leave_one_out`: also one global model without each node, and how far each node moves the edge probabilities.

    Both publish models that differ by exactly one node's. **Whoever reads both learns that node's subposterior**, up to the
    error of training: the sealing of its upload then protects it from nobody who gets the run directory. Hence off.
    """

    objective: Literal["aggregating", "aggregating-edges", "aggregating-marginal"] | None = None  # type: ignore[assignment]
    quorum: Annotated[int, Field(ge=1)] = 1
    close_when: Literal["all", "quorum"] = "all"
    deadline: datetime | None = None
    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 4000
    late: Literal["refuse", "new-aggregate"] = "refuse"
    leave_one_out: bool = False

    @field_validator("deadline")
    @classmethod
    def _zoned(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("deadline needs a time zone, for example 2027-01-31T12:00:00Z")
        return value


class TransportSettings(Settings):
    """Envelope and size limits. `keep_round_key` keeps the key that opens uploads for an auditor instead of destroying it."""

    suite: Literal["ML-KEM-768+X25519", "X25519"] = "ML-KEM-768+X25519"
    max_upload_bytes: Annotated[int, Field(ge=1024, le=1 << 32)] = 64 << 20
    keep_round_key: bool = False
