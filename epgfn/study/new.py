"""What nothing new is begun with, beyond what every study that reads must fulfil: settings that mean nothing for the target, or that no
training can come to an end with, numbers that are not written as numbers, and names that people cannot tell apart.

Studies of before these were refused still read, with the same digest and meaning, and what was begun with them goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from epgfn.base.errors import UsageError
from epgfn.study.kinds.dag import GaussianSettings, MixedSettings
from epgfn.study.mistakes import Mistake, Mistakes, all_of, of_variable, require_none
from epgfn.study.resemblance import check_names
from epgfn.study.scales import check_scales, require_scales

if TYPE_CHECKING:
    from epgfn.study import Study
    from epgfn.study.variables import Variable

OWN: Final = {"bge": {"t", "alpha_mu", "alpha_w"}, "max-likelihood": {"sigma"}}
"""Settings of a Gaussian score that others have no use for."""
MOST_DEGREES: Final = 1e6
"""Of alpha_w, which counts as so many records that were never seen; far beyond, sums lose their digits."""
FAR: Final = 30.0
"""Scales from the centre at which nothing ordinary lies."""


def check_new(study: Study) -> None:
    """Raises:
    Mistakes: nothing new may be begun with the study.
    """
    require_none(
        all_of(
            partial(check_names, study),
            partial(_check_target, study),
            partial(_check_bounds, study),
            partial(check_scales, study),
        )
    )


def require_new(study: Study) -> None:
    """Raises:
    UsageError: nothing new may be begun with the study; the sentence says what is wrong, or how to choose a scale that is missing.
    """
    from epgfn.study.study import parsed

    require_scales(study)
    try:
        require_none(unlike(study, parsed(study.raw)))
        check_new(study)
    except Mistakes as error:
        more = (
            f" ({len(error.each) - 1} more: epgfn study check lists them all)" if len(error.each) > 1 else ""
        )
        raise UsageError(f"study: {error.each[0]}; correct it and run again{more}") from None


def unlike(settings: Any, written: Any, where: str = "") -> Iterator[Mistake]:
    """Numbers among validated `settings` that are `written` as something else: a text, or true."""
    if isinstance(written, Mapping):
        for key, value in written.items():
            if hasattr(settings, str(key)):
                yield from unlike(getattr(settings, key), value, f"{where}.{key}".lstrip("."))
    elif isinstance(written, list) and isinstance(settings, list):
        for number, (one, value) in enumerate(zip(settings, written, strict=False), start=1):
            named = isinstance(value, Mapping) and where == "variables"
            place = f"variable '{value.get('name')}'" if named else f"{where} {number}"
            yield from unlike(one, value, place)
    elif isinstance(settings, int | float) and not isinstance(settings, bool):
        if isinstance(written, bool):
            yield Mistake(where, f"must be a number, not {str(written).lower()}")
        elif isinstance(written, str):
            yield Mistake(where, "must be a number, without quotation marks")


def _check_target(study: Study) -> None:
    target = study.target
    if isinstance(target, MixedSettings):
        least = sum(v.is_number for v in study.variables) + 1
        if target.alpha_w is not None and not least < target.alpha_w <= MOST_DEGREES:
            what = (
                f"must be above the number of variables of numbers plus one ({least}) and at most {MOST_DEGREES:,.0f}; leave it out for "
                f"{least + 1}"
            )
            require_none([Mistake("target.alpha_w", what)])
    if not isinstance(target, GaussianSettings):
        return
    others = {name for kind, names in OWN.items() if kind != target.kind for name in names}
    found = [
        Mistake(f"target.{name}", f"has no meaning for target '{target.kind}'; take it out")
        for name in sorted(others & target.model_fields_set)
    ]
    least = len(study.variables) + 1
    if target.kind == "bge" and target.alpha_w is not None and not least < target.alpha_w <= MOST_DEGREES:
        what = f"must be above the number of variables plus one ({least}) and at most {MOST_DEGREES:,.0f}; leave it out for {least + 1}"
        found.append(Mistake("target.alpha_w", what))
    require_none(found)


def _check_bounds(study: Study) -> None:
    if study.columns.scaled:
        require_none(filter(None, map(_far_off, study.variables)))


def _far_off(variable: Variable) -> Mistake | None:
    """Bounds between which no value is anywhere near the centre: one of them is in another unit, or belongs to another variable."""
    lower, upper = (_scaled(bound, variable) for bound in (variable.lower, variable.upper))
    nearest = max(lower if lower is not None else 0.0, -upper if upper is not None else 0.0)
    if nearest <= FAR:
        return None
    return of_variable(
        variable.name,
        f"every value between its bounds is at least {nearest:.3g} scales from its centre; bounds are in the column's own units, centre "
        "and scale are those of ordinary values, after the transform",
    )


def _scaled(bound: float | None, variable: Variable) -> float | None:
    """A bound on the study's scale; None where it is none, or has no logarithm."""
    if bound is None:
        return None
    raw = bound / variable.transform_scale
    if variable.transform == "log":
        if raw <= 0:
            return None
        raw = math.log(raw)
    elif variable.transform == "arcsinh":
        raw = math.asinh(raw)
    return (raw - variable.centre) / variable.scale
