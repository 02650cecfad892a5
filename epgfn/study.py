"""The study: everything the parties agree on before anyone trains.

A study is one TOML file. Its canonical bytes are the bytes of that file, so `sha256sum study.toml` prints the
digest that the coordinator signs and that every artifact names; nothing is ever parsed and written again to check it.

    study = Study.load(Path("study.toml"))
    study.digest, study.variable_names, study.space.kind

Nothing in here may depend on anyone's data: centres, scales and bounds are public numbers the parties chose.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from epgfn.errors import UsageError
from epgfn.files import read_bytes, sha256_hex
from epgfn.study_kinds import (
    KINDS,
    MAX_ANSWERED,
    MAX_LETTERS,
    Columns,
    PolicyKind,
    SpaceKind,
    TargetKind,
    check_space,
    columns_of,
    filled,
    number_of_objects,
)
from epgfn.study_privacy import PrivacySettings

NODE_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
MAX_STUDY_BYTES = 1 << 20
MAX_TRUSTED_VARIABLES = 25
"""By sinks, up to which the order potential is exact."""
MAX_TRUSTED_TAXA = 12
"""Up to which a policy for trees carries a score of every split."""
STUDY_NAME = "study.toml"


class _Settings(BaseModel):
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


class Variable(_Settings):
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


class SpaceSettings(_Settings):
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


class TargetSettings(_Settings):
    """The log-reward, which the space must know; see `epgfn.study_kinds.KINDS`.

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


class PriorSettings(_Settings):
    """The public prior over objects; each node's subposterior carries the 1/N-th power of it.

    uniform: constant. edge (graphs only): prod over edges of p/(1-p) with p = `edge_probability`.
    """

    kind: Literal["uniform", "edge"] = "uniform"
    edge_probability: Annotated[float, Field(gt=0, lt=1)] = 0.5


class PolicySettings(_Settings):
    """The network every party trains; its shape is agreed so that the coordinator can check what it gets."""

    kind: PolicyKind = "order-potential"
    hidden: Annotated[int, Field(ge=8, le=2048)] = 256


class TrainingSettings(_Settings):
    """How one model is trained. Temperature and exploration fall linearly to 1 and 0 over the run."""

    objective: Literal["contrastive", "trajectory", "detailed"] = "contrastive"
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    batch: Annotated[int, Field(ge=2, le=65_536)] = 256
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    exploration: Annotated[float, Field(ge=0, le=1)] = 0.0
    temperature: Annotated[float, Field(ge=1, le=10)] = 1.5


class AggregationSettings(TrainingSettings):
    """How the global model is trained, and when the round closes.

    `objective`: one of `epgfn.product`; without it the space decides.

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


class TransportSettings(_Settings):
    """Envelope and size limits. `keep_round_key` keeps the key that opens uploads for an auditor instead of destroying it."""

    suite: Literal["ML-KEM-768+X25519", "X25519"] = "ML-KEM-768+X25519"
    max_upload_bytes: Annotated[int, Field(ge=1024, le=1 << 32)] = 64 << 20
    keep_round_key: bool = False


class Study(_Settings):
    """A validated study. `raw` are its canonical bytes and `digest` their SHA-256 in hexadecimal."""

    name: Annotated[str, Field(min_length=1, max_length=128), Shown]
    description: str = ""
    roster: Annotated[list[str], Field(min_length=1, max_length=1024)]
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    variables: Annotated[list[Variable], Field(min_length=1, max_length=64)]
    space: SpaceSettings = SpaceSettings()
    target: TargetSettings = TargetSettings()
    prior: PriorSettings = PriorSettings()
    policy: PolicySettings = PolicySettings()
    training: TrainingSettings = TrainingSettings()
    aggregation: AggregationSettings = AggregationSettings()
    privacy: PrivacySettings = PrivacySettings()
    transport: TransportSettings = TransportSettings()

    _raw: bytes = PrivateAttr(default=b"")

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, values: Any) -> Any:
        return filled(values)

    @field_validator("roster")
    @classmethod
    def _node_ids(cls, value: list[str]) -> list[str]:
        for node in value:
            if not NODE_ID.fullmatch(node):
                raise ValueError(f"node id {node!r}: use lower-case letters, digits and hyphens, at most 63")
        if len(set(value)) != len(value):
            raise ValueError("a node id stands twice in the roster")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = self.variable_names
        if len(set(names)) != len(names):
            raise ValueError("a variable name stands twice")
        self._check_kind()
        if self.aggregation.quorum > len(self.roster):
            raise ValueError("aggregation.quorum is larger than the roster")
        if self.aggregation.late == "new-aggregate" and not self.transport.keep_round_key:
            raise ValueError(
                "aggregation.late = 'new-aggregate' opens uploads after the round was published, so it needs "
                "transport.keep_round_key = true"
            )
        if self.aggregation.leave_one_out and len(self.roster) < 2:
            raise ValueError("aggregation.leave_one_out needs a roster of at least two nodes")
        self._check_privacy()
        if not KINDS[self.space.kind].may_stop_anywhere and (
            self.training.objective == "detailed" or self.aggregation.objective == "aggregating-edges"
        ):
            raise ValueError(
                "objectives 'detailed' and 'aggregating-edges' need a space where every state may stop, such as 'dag-by-edges'"
            )
        return self

    def _check_kind(self) -> None:
        sizes = frozenset(self.space.model_fields_set - {"kind"})
        check_space(self.space, sizes, self.target.kind, self.policy.kind)
        if self.is_graphs:
            if len(self.variables) < 2:
                raise ValueError("a study of graphs needs at least two variables")
            if self.space.max_parents >= len(self.variables):
                raise ValueError(
                    f"space.max_parents must be below the number of variables ({len(self.variables)})"
                )
        elif self.prior.kind != "uniform":
            raise ValueError(f"prior '{self.prior.kind}' is one over graphs; use kind = 'uniform'")
        _CHECKS[self.columns](self)

    @property
    def is_graphs(self) -> bool:
        """Whether the objects are graphs over the variables."""
        return self.space.kind.startswith("dag-")

    @property
    def columns(self) -> Columns:
        """What the variables are."""
        return columns_of(self.space.kind, self.target.kind)

    @property
    def unit(self) -> Literal["record", "site"]:
        """What a record is called: in an alignment, a site."""
        return "site" if self.columns == "taxa" else "record"

    def _check_privacy(self) -> None:
        self.privacy.check_target(self.target.kind)
        self.privacy.check_roster(self.roster)
        if not self.privacy.is_private:
            return
        _check_logarithms(self)
        if self.privacy.mode == "answers":
            count = number_of_objects(self.space, self.variables)
            if count > MAX_ANSWERED:
                raise ValueError(
                    f"mode 'answers' answers for every object, and this study is about {count:.3g}, more than {MAX_ANSWERED}; "
                    "choose a smaller space, or mode = 'gradient'"
                )
        unbounded = [v.name for v in self.variables if v.lower is None or v.upper is None]
        if unbounded and self.columns in ("numbers", "bounded"):
            raise ValueError(
                f"privacy needs public bounds for every variable: set lower and upper of {', '.join(unbounded)}, from the literature "
                "or the instrument, never from anyone's records"
            )

    @classmethod
    def from_bytes(cls, raw: bytes, source: str = STUDY_NAME) -> Study:
        """The study whose canonical bytes are `raw`; `source` names it in errors.

        Raises:
            UsageError: it does not parse, or a setting is missing, unknown or out of range.
        """
        if len(raw) > MAX_STUDY_BYTES:
            raise UsageError(
                f"{source} is larger than {MAX_STUDY_BYTES} bytes; a study holds settings, not data"
            )
        try:
            study = cls.model_validate(tomllib.loads(raw.decode("utf-8")))
        except UnicodeDecodeError:
            raise UsageError(f"{source} is not UTF-8 text; save it as UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{source} is not valid TOML: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "study"
            what = first["msg"].removeprefix("Value error, ")
            raise UsageError(f"{source}: {where}: {what}; correct it and run again") from None
        study._raw = raw
        return study

    @classmethod
    def load(cls, path: Path | str) -> Study:
        """The study in the TOML file at `path`.

        Raises:
            UsageError: the file is missing or is no valid study.
        """
        return cls.from_bytes(read_bytes(Path(path), "study file"), source=str(path))

    def with_changes(self, changes: dict[str, Any]) -> Study:
        """A new study, with a digest of its own, whose top-level keys or tables are updated by `changes`."""
        values = tomllib.loads(self.raw.decode("utf-8"))
        for key, value in changes.items():
            old = values.get(key)
            values[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        return Study.from_bytes(tomli_w.dumps(values).encode("utf-8"))

    @property
    def raw(self) -> bytes:
        """The canonical bytes."""
        return self._raw or tomli_w.dumps(self._written()).encode("utf-8")

    def _written(self) -> dict[str, Any]:
        return self.model_dump(mode="python", exclude_none=True, exclude_unset=True)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal."""
        return sha256_hex(self.raw)

    @property
    def disclosure(self) -> str:
        """What the study's settings let readers of the results learn of a single node, in a sentence; empty if nothing more
        than the global model."""
        aggregation = self.aggregation
        asked = {
            "leave_one_out = true": aggregation.leave_one_out,
            'late = "new-aggregate"': aggregation.late == "new-aggregate",
        }
        named = " and ".join(f"aggregation.{setting}" for setting, on in asked.items() if on)
        if not named:
            return ""
        return (
            f"this study has {named}: the results then hold models that differ by exactly one node's, and whoever reads both "
            "learns what that node's records say (its subposterior), although its upload stays sealed"
        )

    @property
    def caution(self) -> str:
        """What was measured and speaks against believing this study's posterior, in a sentence; empty if nothing is known."""
        if self.space.kind == "dag-by-sinks" and len(self.variables) > MAX_TRUSTED_VARIABLES:
            return (
                f"beyond {MAX_TRUSTED_VARIABLES} variables the policy trains but was measured to be inaccurate (docs/large-dags.md); "
                "do not rely on the posterior of this study"
            )
        if self.space.kind == "phylogeny" and len(self.variables) > MAX_TRUSTED_TAXA:
            return (
                f"beyond {MAX_TRUSTED_TAXA} taxa the policy is a network alone, which trains but was measured to be inaccurate "
                "(docs/policies.md); do not rely on the posterior of this study"
            )
        return ""

    @property
    def variable_names(self) -> list[str]:
        return [variable.name for variable in self.variables]

    @property
    def aggregating_objective(self) -> str:
        """The study's own choice, or what measured best in its space (`docs/aggregation.md`): edge by edge where every state may
        stop (but for sequences, whose kind says otherwise), whole trajectories elsewhere."""
        by_edges = KINDS[self.space.kind].may_stop_anywhere
        return self.aggregation.objective or ("aggregating-edges" if by_edges else "aggregating")

    @property
    def log_edge_odds(self) -> float:
        """log p/(1-p) of the prior, what each edge adds to log pi(G) in nats; 0 for the uniform prior."""
        if self.prior.kind == "uniform":
            return 0.0
        return math.log(self.prior.edge_probability) - math.log1p(-self.prior.edge_probability)


def _numbers(study: Study) -> None:
    for v in study.variables:
        if v.categories is not None:
            raise ValueError(
                f"variable {v.name}: target '{study.target.kind}' takes numbers, so it has no categories; use target.kind = 'bdeu'"
            )


def _bounded(study: Study) -> None:
    _numbers(study)
    unbounded = [v.name for v in study.variables if v.lower is None or v.upper is None]
    if unbounded:
        raise ValueError(
            f"the places of a hypergrid lie between public bounds: set lower and upper of {', '.join(unbounded)}"
        )
    _check_logarithms(study)


def _check_logarithms(study: Study) -> None:
    for v in study.variables:
        if v.transform == "log" and v.lower is not None and v.lower <= 0:
            raise ValueError(
                f"variable {v.name}: lower must be above 0, because the study takes its logarithm"
            )


def _categories(study: Study) -> None:
    for v in study.variables:
        if v.categories is None or not v.is_plain:
            raise ValueError(
                f"variable {v.name}: target '{study.target.kind}' takes categories: list them as categories = [...], with nothing else "
                "but the name"
            )


def _one_category(study: Study) -> None:
    if len(study.variables) != 1:
        raise ValueError(
            f"a study of space '{study.space.kind}' has one variable: what a record shows, with its categories"
        )
    _categories(study)
    if study.space.kind == "sequence" and len(study.variables[0].categories or ()) > MAX_LETTERS:
        raise ValueError(f"a sequence is made of at most {MAX_LETTERS} letters")
    if study.space.kind == "sequence" and any(
        " " in letter for letter in study.variables[0].categories or ()
    ):
        raise ValueError("a letter of a sequence holds no space, so that no two sequences read alike")


def _taxa(study: Study) -> None:
    if len(study.variables) < 3:
        raise ValueError("a study of trees needs at least three taxa as its variables")
    for v in study.variables:
        if v.categories is not None or not v.is_plain:
            raise ValueError(f"variable {v.name}: a taxon has a name and nothing else")
        if len(v.name.split()) != 1 or set(v.name) & set("(),;:'[]"):
            raise ValueError(f"variable {v.name}: a taxon's name holds no space and none of (),;:'[]")


_CHECKS: dict[Columns, Callable[[Study], None]] = {
    "numbers": _numbers,
    "bounded": _bounded,
    "categories": _categories,
    "one-category": _one_category,
    "taxa": _taxa,
}
