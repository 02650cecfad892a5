"""The study: everything the parties agree on before anyone trains.

A study is one TOML file. Its canonical bytes are the bytes of that file, so `sha256sum study.toml` prints the
digest that the coordinator signs and that every artifact names; nothing is ever parsed and written again to check it.

    study = Study.load(Path("study.toml"))
    study.digest, study.variable_names, study.space.kind

Nothing in here may depend on anyone's data: centres, scales and bounds are public numbers the parties chose.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes, sha256_hex
from epgfn.base.identifiers import NODE_ID
from epgfn.base.lookalikes import code
from epgfn.base.toml import MAX_BYTES, TooMuchError, parse_toml
from epgfn.study.columns import Columns, check_logarithms
from epgfn.study.design import check_design
from epgfn.study.kinds import (
    Kind,
    SpaceSettings,
    TargetKind,
    TargetSettings,
    filled,
    find_kind,
    first_steps,
    read_space,
    read_target,
)
from epgfn.study.kinds.dag import DagBySinksSettings, GaussianSettings
from epgfn.study.kinds.plugins import named
from epgfn.study.knowledge import check_knowledge, one_way
from epgfn.study.lacks import check_lacks
from epgfn.study.missing import check_missing
from epgfn.study.mistakes import PLACEHOLDER, Mistake, all_of, of_variable, read, require_none
from epgfn.study.places import PLACE, with_places
from epgfn.study.privacy import MAX_ANSWERED, PrivacySettings
from epgfn.study.records.names import Names, plain
from epgfn.study.resemblance import resemblance
from epgfn.study.scales import WITH_SCALES
from epgfn.study.settings import (
    AggregationSettings,
    DataSettings,
    DesignSettings,
    LedgerSettings,
    PolicySettings,
    PriorSettings,
    Settings,
    Shown,
    TrainingSettings,
    TransportSettings,
    Variable,
)
from epgfn.study.sums import check_sums
from epgfn.study.variables import MOST_VARIABLES

MAX_STUDY_BYTES = MAX_BYTES
STUDY_NAME = "study.toml"
_NOT_SHOWN = re.compile("[\x80-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Controls beyond those that TOML refuses itself, and what turns the direction of writing."""


class Study(Settings):
    """A validated study. `raw` are its canonical bytes and `digest` their SHA-256 in hexadecimal."""

    name: Annotated[str, Field(min_length=1, max_length=128), Shown]
    description: str = ""
    roster: Annotated[list[str], Field(min_length=1, max_length=1024)]
    largest_roster: Annotated[int, Field(ge=1, le=1024)] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    variables: Annotated[list[Variable], Field(min_length=1, max_length=MOST_VARIABLES)]
    space: SerializeAsAny[SpaceSettings] = DagBySinksSettings()
    target: SerializeAsAny[TargetSettings] = GaussianSettings()
    prior: PriorSettings = PriorSettings()
    design: DesignSettings = DesignSettings()
    policy: PolicySettings = PolicySettings()
    training: TrainingSettings = TrainingSettings()
    aggregation: AggregationSettings = AggregationSettings()
    data: DataSettings = DataSettings()
    privacy: PrivacySettings = PrivacySettings()
    transport: TransportSettings = TransportSettings()
    ledger: LedgerSettings = LedgerSettings()

    _raw: bytes = PrivateAttr(default=b"")

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, values: Any) -> Any:
        return with_places(filled(values))

    @field_validator("space", mode="before")
    @classmethod
    def _space_of_its_kind(cls, value: Any) -> Any:
        return read_space(value)

    @field_validator("target", mode="before")
    @classmethod
    def _target_of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        space = info.data.get("space")  # missing where it was refused, which is then what is said
        return read_target(value, find_kind(space.kind, space.package)) if space else GaussianSettings()

    @field_validator("roster")
    @classmethod
    def _node_ids(cls, value: list[str]) -> list[str]:
        wrong = [node for node in value if not NODE_ID.fullmatch(node)]
        twice = [node for node, count in Counter(value).items() if count > 1]
        require_none(
            [
                *(Mistake("roster", _node_id(node)) for node in wrong),
                *(
                    Mistake("roster", f"node id '{node}' is listed twice")
                    for node in twice
                    if node not in wrong
                ),
            ]
        )
        return value

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Self:
        new = []
        if info.context == WITH_SCALES:
            from epgfn.study.new import check_new

            new = [partial(check_new, self)]
        require_none(
            all_of(
                self._check_names,
                self._check_kind,
                partial(self.columns.check, self),
                partial(self.kind.check, self),
                partial(check_knowledge, self),
                partial(check_design, self),
                partial(check_missing, self),
                partial(check_lacks, self),
                self._check_data,
                self._check_aggregation,
                self._check_target_of_privacy,
                self._check_roster_of_privacy,
                self._check_person_of_privacy,
                self._check_bounds_of_privacy,
                self._check_objectives,
                self._check_parameters,
                partial(check_sums, self),
                *new,
            )
        )
        return self

    def _check_names(self) -> None:
        counts = Counter(plain(name) for name in self.variable_names)
        twice = [name for name in dict.fromkeys(map(plain, self.variable_names)) if counts[name] > 1]
        require_none(Mistake(f"variable '{name}'", "a variable name is listed twice") for name in twice)

    def _check_data(self) -> None:
        if self.columns.alignment and self.data.model_fields_set:
            raise ValueError(
                "[data] says how tables are written, and this study's files are alignments; take it out"
            )

    def _check_aggregation(self) -> None:
        found = []
        if self.largest_roster is not None and len(self.roster) > self.largest_roster:
            found.append(f"the roster names {len(self.roster)} nodes, more than largest_roster says")
        if self.added and self.privacy.records:
            found.append(
                "privacy.records says how many records each node has, which nobody knows of nodes that are still to be added; leave out "
                "largest_roster"
            )
        if self.aggregation.quorum > len(self.roster):
            found.append("aggregation.quorum is larger than the roster")
        if self.aggregation.late == "new-aggregate" and not self.transport.keep_round_key:
            found.append(
                "aggregation.late = 'new-aggregate' opens uploads after the round was published, so it needs "
                "transport.keep_round_key = true"
            )
        if self.ledger.witnesses > len(self.roster):
            found.append("ledger.witnesses is larger than the roster")
        if self.aggregation.leave_one_out and len(self.roster) < 2:
            found.append("aggregation.leave_one_out needs a roster of at least two nodes")
        require_none(Mistake("", what) for what in found)

    def _check_objectives(self) -> None:
        if not self.kind.may_stop_anywhere and (
            self.training.loss == "modified-detailed" or self.aggregation.objective == "aggregating-edges"
        ):
            raise ValueError(
                "objectives 'modified-detailed' and 'aggregating-edges' need a space where every state may stop, such as 'dag-by-edges'"
            )
        if self.aggregation.objective == "aggregating-scores" and not self.kind.carries_scores:
            raise ValueError(
                "objective 'aggregating-scores' needs models that carry score tables, which those of 'dag-by-sinks' do"
            )

    def _check_parameters(self) -> None:
        if getattr(self.target, "parameters", "own") == "own":
            return
        if self.columns.mixed:
            raise ValueError(
                f"target.parameters = 'shared' takes a statistic of each node's records that adds up, and for target '{self.target.kind}' "
                "none is sent yet; take parameters = 'own'"
            )
        if not self.kind.carries_scores:
            raise ValueError(
                "target.parameters = 'shared' trains the common model on a table of scores, which models of 'dag-by-sinks' are made of; "
                f"take that space, or parameters = 'own' with '{self.space.kind}'"
            )
        if self.aggregation.objective not in (None, "aggregating-scores"):
            raise ValueError(
                "target.parameters = 'shared' trains the common model on the score of all records together and not on the nodes' policies; "
                "leave aggregation.objective out"
            )

    def _check_kind(self) -> None:
        kind, found = self.kind, []
        if self.policy.kind not in kind.policies:
            found.append(
                f"policy '{self.policy.kind}' does not go with space '{kind.name}'; choose {' or '.join(kind.policies)}"
            )
        if self.prior.kind not in kind.priors:
            found.append(f"prior '{self.prior.kind}' is for graphs only; use kind = 'uniform'")
        require_none(Mistake("", what) for what in found)

    @property
    def kind(self) -> Kind:
        """What the study is about."""
        return find_kind(self.space.kind, self.space.package)

    @property
    def target_kind(self) -> TargetKind:
        """What a record says about the objects."""
        return self.kind.target_of(self.target)

    @property
    def columns(self) -> Columns:
        """What the variables are."""
        return self.target_kind.columns

    @property
    def unit(self) -> Literal["record", "site"]:
        """What a record is called: in an alignment, a site."""
        return self.columns.unit

    @property
    def protected(self) -> Literal["record", "site", "person"]:
        """What a privacy mode protects one of."""
        return "person" if self.privacy.unit == "person" else self.unit

    @property
    def categories(self) -> list[str]:
        """Of the one variable, in a study that has one; empty where it has none."""
        return self.variables[0].categories or []

    @property
    def number_of_objects(self) -> float:
        """How many objects the study is about; infinity for graphs, which are not counted here, and for what a float cannot hold."""
        return self.kind.number_of_objects(self)

    @property
    def mechanism(self) -> str:
        """The mechanism that a study with a privacy mode asks for, by its name in `epgfn.privacy.of_study`."""
        return self.target_kind.mechanisms[self.privacy.mode]

    @property
    def foreign(self) -> str:
        """Whose code beside epgfn the study runs, in a sentence without its full stop; empty if nobody's."""
        if self.space.package is None:
            return ""
        name, version = named(self.space.package)
        return (
            f"this study runs foreign code, which is no part of epgfn: package {name}, version {version}, for its space "
            f"'{self.space.kind}'; it reads the records and decides what is made of them"
        )

    @property
    def needs_sums(self) -> bool:
        """Whether the score takes each node's mean from its records, so that a release must hold their sums."""
        return isinstance(self.target, GaussianSettings) and self.target.mean == "unknown"

    @property
    def says_mean(self) -> bool:
        """Whether the study's text says what is known of the mean, as none did while every mean was taken for known."""
        return "mean" in self.target.model_fields_set

    @property
    def is_of_known_means(self) -> bool:
        """Whether the study sets what belonged to a score with a known mean, and does not say what is known of it now."""
        old = (
            isinstance(self.target, GaussianSettings)
            and self.target.kind == "bge"
            and self.target.alpha_mu is not None
        )
        return old and not self.says_mean

    def _check_target_of_privacy(self) -> None:
        self.privacy.check_target(self.target_kind)
        if self.privacy.mode == "gradient" and self.training.until == "good":
            raise ValueError(
                "under privacy mode 'gradient' each step of training is paid for, so training.until = 'good' makes no sense; "
                "set training.steps"
            )
        if self.privacy.mode == "answers":
            count = self.number_of_objects
            if count > MAX_ANSWERED:
                raise ValueError(
                    f"mode 'answers' answers for every object, and this study is about {count:.3g}, more than {MAX_ANSWERED}; "
                    "choose a smaller space, or mode = 'gradient'"
                )

    def _check_roster_of_privacy(self) -> None:
        self.privacy.check_roster(self.roster)

    def _check_person_of_privacy(self) -> None:
        person = self.privacy.person
        if person is None:
            return
        if self.unit != "record":
            raise ValueError(
                "a site of an alignment is a column of it and no person's; take privacy.unit = 'person' out"
            )
        if Names(self.variable_names).place(person) is not None:
            raise ValueError(
                "privacy.person is a column that is used for nothing but to tell persons apart, and no variable of the study"
            )

    def _check_bounds_of_privacy(self) -> None:
        if not self.privacy.is_private:
            return
        unbounded = [v.name for v in self.variables if v.lower is None or v.upper is None]
        what = "privacy needs public bounds: set lower and upper, from the literature or the instrument, never from anyone's records"
        bounds = [of_variable(name, what) for name in unbounded] if self.columns.numeric else []
        require_none([*all_of(partial(check_logarithms, self)), *bounds])

    @classmethod
    def from_bytes(cls, raw: bytes, source: str = STUDY_NAME) -> Study:
        """The study whose canonical bytes are `raw`; `source` names it in errors.

        Raises:
            UsageError: it does not parse, or a setting is missing, unknown or out of range.
        """
        try:
            values = parsed(raw)
            if hidden := not_shown(raw):
                raise UsageError(f"{source}: {hidden}")
            study = cls.model_validate(values)
        except UnicodeDecodeError:
            raise UsageError(f"{source} is not UTF-8 text; save it as UTF-8") from None
        except TooMuchError as error:
            raise UsageError(f"{source}: {error}; a study holds settings, not data") from None
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{source} is not valid TOML: {error}") from None
        except ValidationError as error:
            said = [str(m) for detail in error.errors() for m in in_words(detail, values)]
            more = f" ({len(said) - 1} more: epgfn study check lists them all)" if len(said) > 1 else ""
            raise UsageError(f"{source}: {said[0]}; correct it and run again{more}") from None
        study._raw = raw
        return study

    @classmethod
    def load(cls, path: Path | str) -> Study:
        """The study in the TOML file at `path`.

        Raises:
            UsageError: the file is missing or is no valid study.
        """
        return cls.from_bytes(read_bytes(Path(path), "study file", MAX_STUDY_BYTES), source=str(path))

    def with_changes(self, changes: dict[str, Any]) -> Study:
        """A new study, with a digest of its own, whose top-level keys or tables are updated by `changes`."""
        values = parsed(self.raw)
        for key, value in changes.items():
            old = values.get(key)
            values[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        return Study.from_bytes(tomli_w.dumps(values).encode("utf-8"))

    @property
    def added(self) -> list[str]:
        """Places of the roster for nodes that may be added after the start; none where it is closed."""
        return [node for node in self.roster if PLACE.fullmatch(node)] if self.largest_roster else []

    @property
    def named(self) -> list[str]:
        """The roster's other nodes, which are agreed on before the start."""
        added = set(self.added)
        return [node for node in self.roster if node not in added]

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
    def notice(self) -> str:
        """A word of the study that has a newer one, in a sentence; empty if there is none."""
        if self.training.objective == "detailed":
            return 'training.objective = "detailed" is the old word for "modified-detailed"; it means the same, so nothing has to change'
        return ""

    @property
    def resemblance(self) -> str:
        """Which names people may take for others, in a sentence; empty if none."""
        return resemblance(self)

    @property
    def caution(self) -> str:
        """What was measured and speaks against believing this study's posterior, in a sentence; empty if nothing is known."""
        return self.kind.caution(self)

    @property
    def one_way(self) -> str:
        """Which directions of edges the score decides beforehand, in a sentence; empty if none."""
        return one_way(self)

    @property
    def variable_names(self) -> list[str]:
        return [variable.name for variable in self.variables]

    @property
    def aggregating_objective(self) -> str:
        """The study's own choice, or what measured best in its space (`docs/aggregation.md`): the sum of the score tables where policies
        are made of them, edge by edge where every state may stop (but for sequences, whose kind says otherwise), whole trajectories
        elsewhere."""
        if self.aggregation.objective is not None:
            return self.aggregation.objective
        if self.kind.carries_scores:
            return "aggregating-scores"
        return "aggregating-edges" if self.kind.may_stop_anywhere else "aggregating"

    def parts_of(self, settings: TrainingSettings) -> list[int]:
        """The steps of each part of a training by `training` or `aggregation`: one, or as many as it goes on for at most."""
        if settings.until == "steps":
            return [settings.steps]
        done = min(
            first_steps(self.kind, "aggregation" if settings is self.aggregation else "training"),
            settings.steps,
        )
        parts = [done]
        while done < settings.steps:
            parts.append(min(done, settings.steps - done))
            done += parts[-1]
        return parts


def parsed(raw: bytes) -> dict[str, Any]:
    """What the file says; a byte-order mark, as some editors write one, says nothing.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
        tomllib.TOMLDecodeError: it is no TOML, or beyond the bounds of `epgfn.base.toml`.
    """
    return parse_toml(raw)


def not_shown(raw: bytes) -> str | None:
    """What to say of a character in the file that is a control or turns writing round, comments included; None if there is none, so that
    everybody who reads the file sees the same.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    text = raw.decode("utf-8-sig")
    found = _NOT_SHOWN.search(text)
    if found is None:
        return None
    line = text.count("\n", 0, found.start()) + 1
    return (
        f"line {line} holds a character that editors do not show or that turns writing round (U+{ord(found[0]):04X}); take it out, so that "
        "everybody reads the same study"
    )


def _node_id(node: str) -> str:
    if node == PLACEHOLDER:
        return (
            'is still to be filled in: the ids of the institutions that take part, as in ["north", "south"]'
        )
    foreign = next((char for char in node if not char.isascii()), None)
    if foreign is not None:
        return f"node id '{node}' holds {code(foreign)}: use the lower-case letters a to z, digits and hyphens, at most 63"
    return f"node id {node!r}: use lower-case letters, digits and hyphens, at most 63"


def in_words(detail: Mapping[str, Any], values: dict[str, Any]) -> list[Mistake]:
    """One of the `errors()` of a study file that says `values`."""
    return read(detail, values, lambda table: settings_of(table, values))


def settings_of(table: str, values: dict[str, Any]) -> dict[str, set[str]]:
    """The names of the settings of `table` and of all others; "" is the head of the file."""
    models = {name: field.annotation for name, field in Study.model_fields.items()}
    known = {
        name: set(model.model_fields)
        for name, model in models.items()
        if isinstance(model, type) and issubclass(model, BaseModel)
    }
    space = values.get("space")
    named, package = (space.get("kind"), space.get("package")) if isinstance(space, dict) else (None, None)
    try:
        kind = find_kind(named or "dag-by-sinks", package)
    except (ValueError, TypeError):
        kind = find_kind("dag-by-sinks")
    known["space"] = set(kind.settings.model_fields)
    known["target"] = {name for target in kind.targets for name in target.settings.model_fields}
    known |= {"variables": set(Variable.model_fields), "": set(Study.model_fields)}
    return {table: known.get(table, set()), **known}


def load_study(path: Path | str) -> Study:
    """The study in the TOML file at `path`.

    >>> study = epgfn.load_study("study.toml")
    >>> study.roster, study.variable_names
    (['north', 'south'], ['a', 'b', 'c'])

    Raises:
        UsageError: the file is missing or is no valid study.
    """
    return Study.load(path)
