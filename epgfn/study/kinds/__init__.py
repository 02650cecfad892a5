"""What a study can be about: one file a kind, one line a kind in `KINDS`.

    kind = find_kind("multiset")      # or study.kind
    kind.target("items").likelihood(study, kind.space(study))

A kind says what its [space] and [target] hold, what the variables must say, how objects are built, written and asked about, what a record
says of them, which privacy modes have a mechanism, what is filled in, and what the report calls it all. `epgfn.testing.check_kind`
runs one from file to report. A kind of somebody else's is `epgfn.study.kinds.plugins`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from epgfn.study.kinds.base import (
    DRAWN,
    SUMMED,
    Kind,
    Questions,
    SpaceSettings,
    TargetKind,
    TargetSettings,
)
from epgfn.study.kinds.dag import DAG_BY_EDGES, DAG_BY_SINKS
from epgfn.study.kinds.hypergrid import HYPERGRID
from epgfn.study.kinds.likelihood import Likelihood, listed
from epgfn.study.kinds.multiset import MULTISET
from epgfn.study.kinds.phylogeny import PHYLOGENY
from epgfn.study.kinds.plugins import foreign_kind
from epgfn.study.kinds.sequence import SEQUENCE
from epgfn.study.mistakes import did_you_mean
from epgfn.study.settings import TrainingSettings

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind for kind in (DAG_BY_SINKS, DAG_BY_EDGES, HYPERGRID, MULTISET, SEQUENCE, PHYLOGENY)
}
"""Those of epgfn itself, by their names."""
DEFAULT: Final = DAG_BY_SINKS


def find_kind(name: str, package: str | None = None) -> Kind:
    """The kind that [space] names.

    Raises:
        ValueError: there is none, or the package that it comes from is not named or not installed.
    """
    if name in KINDS:
        if package is not None:
            raise ValueError(
                f"space.package has no meaning for space '{name}', which is part of epgfn; take it out"
            )
        return KINDS[name]
    if package is None:
        raise ValueError(
            f"there is no space '{name}' in epgfn{did_you_mean(name, KINDS)}; choose one of {', '.join(KINDS)}, or name the package that "
            'has it with its exact version, as in package = "epgfn-ring==1.0"'
        )
    return foreign_kind(name, package)


def filled(values: Any) -> Any:
    """The tables of a study file with what its kind fills in; anything malformed is left for the study to refuse."""
    if not isinstance(values, dict):
        return values
    space = values.get("space", {})
    if not isinstance(space, dict):
        return values
    try:
        kind = kind_in(space)
    except ValueError:
        return values
    given = {
        "target": {"kind": kind.targets[0].name},
        "policy": {"kind": kind.policy_of(values), **kind.policy},
        "training": kind.training,
        "aggregation": kind.aggregation,
    }
    out = dict(values)
    for table, defaults in given.items():
        own = values.get(table, {})
        if isinstance(own, dict):
            out[table] = {**defaults, **_going_on(kind, table, values), **own}
    return out


def first_steps(kind: Kind, table: str) -> int:
    """How many steps the kind takes by itself in [training] or [aggregation], before it is looked at whether they were enough."""
    settings = kind.training if table == "training" else kind.aggregation
    return int(settings.get("steps", TrainingSettings.model_fields["steps"].default))


def _going_on(kind: Kind, table: str, values: dict[str, Any]) -> dict[str, Any]:
    """Until when to train, where the study says nothing of it. DP-SGD pays for each step, so there it is never left open."""
    own, privacy = values.get(table, {}), values.get("privacy", {})
    pays = isinstance(privacy, dict) and privacy.get("mode") == "gradient" and table == "training"
    if table not in ("training", "aggregation") or pays or "steps" in own or "until" in own:
        return {}
    return {"until": "good", "steps": first_steps(kind, table) << kind.doublings}


def read_space(value: Any) -> Any:
    """[space] as its kind's settings; what is no table is left for the study to refuse.

    Raises:
        ValueError: there is no such kind, or a size is missing or belongs to another space.
    """
    if not isinstance(value, dict):
        return value
    kind = kind_in(value)
    others = {name for other in KINDS.values() for name in other.sizes}
    for name in sorted(value.keys() & others - set(kind.sizes)):
        raise ValueError(f"space.{name} has no meaning for space '{kind.name}'; take it out")
    for name in kind.sizes:
        if kind.settings.model_fields[name].is_required() and name not in value:
            raise ValueError(f"space '{kind.name}' needs space.{name}")
    return kind.settings.model_validate({"kind": kind.name, **value})


def read_target(value: Any, kind: Kind) -> Any:
    """[target] as its own settings, as `read_space`.

    Raises:
        ValueError: the target does not go with the space, or a setting belongs to another target.
    """
    if not isinstance(value, dict):
        return value
    name = value.get("kind", kind.targets[0].name)
    if not isinstance(name, str):
        raise ValueError("target.kind is the name of a target, in quotes")
    target = kind.target(name)
    own = target.settings.model_fields.keys()
    others = {name for other in KINDS.values() for t in other.targets for name in t.settings.model_fields}
    for setting in sorted(value.keys() & others - own):
        raise ValueError(f"target.{setting} has no meaning for target '{name}'; take it out")
    return target.settings.model_validate({"kind": name, **value})


def kind_in(space: dict[str, Any]) -> Kind:
    """The kind that the table [space] of a file names, whatever the file holds there.

    Raises:
        ValueError: as `find_kind`; or what it names is no text.
    """
    name, package = space.get("kind", DEFAULT.name), space.get("package")
    if not isinstance(name, str):
        raise ValueError("space.kind is the name of a kind, in quotes")
    if package is not None and not isinstance(package, str):
        raise ValueError("space.package is a text, NAME==VERSION")
    return find_kind(name, package)


__all__ = [
    "DRAWN",
    "KINDS",
    "SUMMED",
    "Kind",
    "Likelihood",
    "Questions",
    "SpaceSettings",
    "TargetKind",
    "TargetSettings",
    "filled",
    "find_kind",
    "first_steps",
    "kind_in",
    "listed",
    "read_space",
    "read_target",
]
