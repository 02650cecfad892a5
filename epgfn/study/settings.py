"""The tables of study.toml that are alike in every kind of study, one class each, and what a single one of them may hold. [space] and
[target] are their kind's (`epgfn.study.kinds`), variables in `epgfn.study.variables`; what must fit together is `epgfn.study.study`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from epgfn.study.variables import MOST_VARIABLES, Settings, Shown, Variable

Name = Annotated[str, Shown]
Names = Annotated[list[Name], Field(max_length=MOST_VARIABLES)]
MOST_EDGES: Final = MOST_VARIABLES**2
"""That a setting may list."""
MOST_NODES: Final = 1024
"""Of a roster."""


class DataSettings(Settings):
    """How tables are written, where the study says: the character between cells (else found from each file's header line), the decimal mark
    (else a point, or a comma where a file's numbers can mean nothing else and the study asks for no privacy), and whether columns that
    are not in the study are passed over. `missing`: what becomes of cells without a value (`epgfn.study.missing`); `imputations`: into how
    many tables they are filled in. `lacks`: by node the variables that its file does not have (`epgfn.study.lacks`); `accept_confounding`:
    also where a lacked variable may make the node's records show what no edge has made."""

    separator: Literal[",", ";", "\t", "|"] | None = None
    decimal: Literal[".", ","] | None = None
    extra_columns: Literal["ignore", "refuse"] = "ignore"
    missing: Literal["refuse", "complete-rows", "impute", "category"] = "refuse"
    imputations: Annotated[int, Field(ge=20, le=1000)] = 100
    lacks: dict[Name, Names] = Field(default_factory=dict, max_length=MOST_NODES)
    accept_confounding: bool = False


class PriorSettings(Settings):
    """The public prior over objects.

    Soft, and each node's subposterior carries the 1/N-th power of it. uniform: constant. edge (graphs only): prod over edges of p/(1-p)
    with p = `edge_probability`, or `expected_parents` over the number of other variables. fan-in (graphs only): every number of
    parents is as likely as any other, and so are the sets of one size. `edge_probabilities`: [from, to, p] of single edges, later ones
    in place of earlier ones and of the kind's.

    Hard, and every node's subposterior carries all of it (graphs only): see `epgfn.study.knowledge`.
    """

    kind: Literal["uniform", "edge", "fan-in"] = "uniform"
    edge_probability: Annotated[float, Field(gt=0, lt=1)] = 0.5
    expected_parents: Annotated[float, Field(gt=0)] | None = None
    edge_probabilities: list[tuple[Name, Name, Annotated[float, Field(gt=0, lt=1)]]] = Field(
        default_factory=list, max_length=MOST_EDGES
    )
    candidates: dict[Name, Names] = Field(default_factory=dict, max_length=MOST_VARIABLES)
    tiers: list[Names] = Field(default_factory=list, max_length=MOST_VARIABLES)
    forbidden: list[tuple[Name, Name]] = Field(default_factory=list, max_length=MOST_EDGES)
    required: list[tuple[Name, Name]] = Field(default_factory=list, max_length=MOST_EDGES)
    roots: Names = Field(default_factory=list)
    leaves: Names = Field(default_factory=list)


class DesignSettings(Settings):
    """Which variables were set in which rows (graphs only): `column` of everybody's table holds the arm of each row, `sets` the variables
    that are set in each arm. See `epgfn.study.design`."""

    column: Annotated[str, Field(min_length=1, max_length=64), Shown] | None = None
    kind: Literal["perfect", "imperfect"] = "perfect"
    sets: dict[Annotated[str, Field(max_length=64), Shown], Names] = Field(
        default_factory=dict, max_length=MOST_VARIABLES
    )


class PolicySettings(Settings):
    """The network every party trains; its shape is agreed so that the coordinator can check what it gets."""

    kind: str = "order-potential"
    hidden: Annotated[int, Field(ge=8, le=2048)] = 256


class TrainingSettings(Settings):
    """How one model is trained. Temperature and exploration fall linearly to 1 and 0 over the run. The objective "detailed" is what
    studies called "modified-detailed" before, and means the same."""

    objective: Literal["contrastive", "trajectory", "modified-detailed", "detailed"] = "contrastive"
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    batch: Annotated[int, Field(ge=2, le=65_536)] = 256
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    exploration: Annotated[float, Field(ge=0, le=1)] = 0.0
    temperature: Annotated[float, Field(ge=1, le=10)] = 1.5
    until: Annotated[Literal["steps", "good"], Field(repr=False)] = (
        "steps"  # no part of what a run of "steps" is known by
    )

    @property
    def loss(self) -> str:
        """The objective as `epgfn.losses` calls it."""
        return "modified-detailed" if self.objective == "detailed" else self.objective


Aggregating = Literal["aggregating", "aggregating-edges", "aggregating-marginal", "aggregating-scores"]


class AggregationSettings(TrainingSettings):
    """How the global model is trained, and when the round closes.

    `objective`: one of `epgfn.gflownet.product`; without it the space and the policy decide.

    The round closes when every node of the roster has sent its model (`close_when = "all"`), when `quorum` of them
    have (`"quorum"`), or at `deadline` with at least `quorum`; at the deadline with fewer it waits `grace_days` for its operator, who
    may extend the deadline, and then fails.
    `samples` graphs are drawn for publication.

    `late`: what becomes of a model that comes after the round was published. "refuse", or "new-aggregate": one more global
    model of everybody's so far, signed on its own, beside the first; needs `transport.keep_round_key`.
    `leave_one_out`: also one global model without each node, and how far each node moves the edge probabilities.

    `sums`: "plain", or "masked": nodes send no model, only their statistic under masks, of which the coordinator reads the total alone
    (`docs/formats/masked-sum.md`); needs parameters that all sites share.

    The two before publish models that differ by exactly one node's. **Whoever reads both learns that node's subposterior**, up to the
    error of training: the sealing of its upload then protects it from nobody who gets the run directory. Hence off.
    """

    objective: Aggregating | None = None  # type: ignore[assignment]
    quorum: Annotated[int, Field(ge=1)] = 1
    close_when: Literal["all", "quorum"] = "all"
    deadline: datetime | None = None
    grace_days: Annotated[float, Field(ge=0, le=3650)] = 7.0
    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 4000
    late: Literal["refuse", "new-aggregate"] = "refuse"
    leave_one_out: bool = False
    sums: Annotated[Literal["plain", "masked"], Field(repr=False)] = "plain"

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


class LedgerSettings(Settings):
    """How many nodes of the roster have to cosign the ledger for a result to be valid: another history of it then needs so many accomplices
    of the coordinator's. None unless the study says so."""

    witnesses: Annotated[int, Field(ge=0, le=64)] = 0


__all__ = [
    "AggregationSettings",
    "DataSettings",
    "DesignSettings",
    "LedgerSettings",
    "PolicySettings",
    "PriorSettings",
    "Settings",
    "Shown",
    "TrainingSettings",
    "TransportSettings",
    "Variable",
]
