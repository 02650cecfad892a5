"""Whether a statement's privacy claim is what the study asks for: one check for the node, the coordinator and the audit.

claim = require_claim(study, statement_privacy)      # None where the study asks for no privacy
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from epgfn.base.errors import RefusedError
from epgfn.privacy.claims.claims import Claim, Limits, Stage, verify_claim
from epgfn.study import Study


def limits_of(study: Study) -> Limits:
    """What a study with a privacy mode allows."""
    asked = study.privacy
    return Limits.model_validate(
        {
            "mode": asked.mode,
            "adjacency": asked.adjacency,
            "epsilon": float(asked.epsilon or 0),
            "delta": float(asked.delta or 0),
        }
    )


def require_claim(study: Study, stated: dict[str, Any], *, may_be_of_before: bool = False) -> Claim | None:
    """The claim in a statement's `privacy` field, recomputed from its parameters alone; None for a study without privacy.

    `may_be_of_before`: whether the statement may come from a run of before scores took an unknown mean, as it may in an audit and
    never where it has just been sent. Then a study whose text does not say `target.mean` takes a claim without sums as well.

    Raises:
        RefusedError: "wrong-privacy": no claim, or one of another mode or adjacency. "claim-wrong", "claim-too-weak",
            "claim-above-limit": see `claims.verify_claim`; "claim-wrong" as well if it is not about this study's records.
    """
    asked = study.privacy
    if not asked.is_private:
        if stated != {"mode": "none"}:
            raise _another(f"mode {asked.mode}")
        return None
    wanted = f"mode {asked.mode}, adjacency {asked.adjacency}"
    if stated.get("mode") != asked.mode:
        raise _another(wanted)
    claim = Claim.from_json(stated)
    if claim.adjacency != asked.adjacency:
        raise _another(wanted)
    if study.mechanism == "moments":
        before = may_be_of_before and not study.says_mean
        _require_moments(claim, study, sums=study.needs_sums and not before)
    else:
        _REQUIRE[study.mechanism](claim, study)
    if claim.rows != asked.rows_per_person:
        raise _wrong(f"this study takes at most {asked.rows_per_person} records of one person")
    try:
        verify_claim(claim, limits_of(study))
    except ArithmeticError:  # parameters no mechanism has: the check must answer, not break
        raise _wrong("its numbers are too large or too small to compute with") from None
    return claim


def require_release(study: Study, node_id: str, tensors: Mapping[str, Any], stated: dict[str, Any]) -> None:
    """The statistic among the `tensors` of what a node sends is that of the release which its statement's claim is about: same clip and
    scales, stage by stage, the later ones following from what the earlier ones released.

    Raises:
        RefusedError: "claim-wrong".
    """
    from epgfn.learn.shared import apart, outputs_of  # torch, which no other claim needs
    from epgfn.privacy.mechanisms.release import pack
    from epgfn.privacy.of_study.releases import maker_of

    made = maker_of(study, node_id).finish(pack(outputs_of(study, apart(tensors)[1]))).claim
    claim = Claim.from_json(stated)
    same = len(made.stages) == len(claim.stages) and all(map(_same_stage, made.stages, claim.stages))
    if not same:
        raise _wrong("the numbers that are sent beside the policy are not of the release that it is about")


def _same_stage(one: Stage, other: Stage) -> bool:
    forms = [
        (
            s.name,
            s.formula,
            s.norm_bound,
            s.grid_bits,
            s.groups,
            [(p.kind, p.entries, p.unit) for p in s.noise],
        )
        for s in (one, other)
    ]
    return forms[0] == forms[1] and all(
        math.isclose(a.scale, b.scale, rel_tol=1e-6) for a, b in zip(one.noise, other.noise, strict=True)
    )


def _require_moments(claim: Claim, study: Study, *, sums: bool) -> None:
    """A record of the study is V numbers, and its scores need n, X^T X and, where the mean is unknown, sums: a claim that leaves one of
    them out hides a release."""
    v = len(study.variables)
    whole = {"squares": v, "products": v * (v - 1) // 2} | ({"sums": v} if sums else {})
    entries = {"records": 1, "sums": v, **whole}
    counted = False
    for stage in claim.stages:
        found = {part.kind: part.entries for part in stage.noise}
        fits = all(found[kind] == entries.get(kind) for kind in found)
        if stage.formula != "moments" or not fits or not whole.keys() <= found.keys():
            which = "sums and second moments" if sums else "second moments"
            raise _wrong(f"stage {stage.name} is not a release of {v} variables' {which}")
        counted = counted or "records" in found
    if claim.adjacency == "add-remove" and not counted:
        raise _wrong("no stage releases the number of records, which this study's scores need")
    _require_unit(claim, study.protected)


def _require_counts(claim: Claim, study: Study) -> None:
    """The tables of the study's families, all of them, and each record in one cell of each."""
    from epgfn.privacy.mechanisms.counts import choose_tables  # torch, which no other claim needs

    categories = [len(v.categories or ()) for v in study.variables]
    order = min(study.space.max_parents + 1, len(categories))
    tables = choose_tables(categories, order)
    cells = sum(math.prod(categories[i] for i in table) for table in tables)
    for stage in claim.stages:
        found = [(part.kind, part.entries) for part in stage.noise]
        if stage.formula != "counts" or stage.groups != len(tables) or found != [("cells", cells)]:
            raise _wrong(f"stage {stage.name} is not a release of the study's {len(tables)} tables")
    if len(claim.stages) != 1:
        raise _wrong("counts are released once")
    _require_unit(claim, study.protected)


def _require_answers(claim: Claim, study: Study) -> None:
    objects = study.number_of_objects
    for stage in claim.stages:
        if stage.formula != "vectors" or any(part.entries > objects for part in stage.noise):
            raise _wrong(f"stage {stage.name} is not a release of answers about the study's objects")
    if len(claim.stages) != 1:
        raise _wrong("answers are released once")
    _require_unit(claim, study.protected)


def _require_gradient(claim: Claim, study: Study) -> None:
    """The study fixes rate, clip and steps; only the noise is the node's."""
    said, asked = claim.subsampling, study.privacy
    agreed = (asked.rate, asked.clip, study.training.steps)
    if said is None or (said.rate, said.clip, said.steps) != agreed:
        raise _wrong("its rate, clip or steps are not those of the study")
    _require_unit(claim, study.protected)


def _require_unit(claim: Claim, unit: str) -> None:
    if claim.unit != unit:
        raise _wrong(f"the unit of this study is a {unit}")


_REQUIRE: dict[str, Callable[[Claim, Study], None]] = {
    "answers": _require_answers,
    "counts": _require_counts,
    "gradient": _require_gradient,
}
"""By the names that kinds give mechanisms (`epgfn.study.kinds.base.TargetKind.mechanisms`)."""


def _another(wanted: str) -> RefusedError:
    return RefusedError(
        "wrong-privacy",
        f"the privacy claim is not the study's ({wanted}); train and seal again under this study",
    )


def _wrong(what: str) -> RefusedError:
    return RefusedError("claim-wrong", f"the privacy claim does not add up: {what}; release again")
