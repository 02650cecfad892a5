"""The public scale of numeric variables: every study of a score that compares sizes says one.

Until studies had to, a variable that said no `centre` or `scale` was taken as 0 and 1, so that a score judged units instead of records.
Such a study still reads, with the same meaning, and what was begun with it goes on; nothing new is begun with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from epgfn.base.errors import UsageError
from epgfn.study.mistakes import of_variable, require_none

if TYPE_CHECKING:
    from epgfn.study import Study

WITH_SCALES: Final = {"scales": True}
"""The context of a validation that takes a scale that is left out for a mistake, and whatever else nothing new is begun with
(`epgfn.study.new`)."""
HOW: Final = (
    "they are the centre and the spread of ordinary values, after the transform: a published mean and standard deviation, or, for a usual "
    "range L to U from the literature, the instrument or reference values, centre = (L + U) / 2 and scale = (U - L) / 4 (with transform = "
    "'log' of the logarithms of L and U); public numbers, never from anyone's records; centre = 0 and scale = 1 only where the files hold "
    "numbers that are standardised by public constants already"
)


def unscaled(study: Study) -> dict[str, list[str]]:
    """What each variable leaves out of `centre` and `scale`, by name; empty where all is said or the kind of study needs neither."""
    if not study.columns.scaled:
        return {}
    numbers = [v for v in study.variables if v.is_number]
    lacks = {v.name: [key for key in ("centre", "scale") if key not in v.model_fields_set] for v in numbers}
    return {name: keys for name, keys in lacks.items() if keys}


def check_scales(study: Study) -> None:
    """Raises:
    Mistakes: variables leave out their scale.
    """
    require_none(
        of_variable(name, f"{' and '.join(keys)} {'are' if len(keys) > 1 else 'is'} missing")
        for name, keys in unscaled(study).items()
    )


def require_scales(study: Study) -> None:
    """Raises:
    UsageError: a numeric variable leaves out its scale; the sentence says how to choose one.
    """
    lacks = unscaled(study)
    if not lacks:
        return
    named = [f"'{name}'" for name in lacks]
    many = len(named) > 1
    shown = f"{', '.join(named[:12])} and {len(named) - 12} more" if len(named) > 12 else ", ".join(named)
    keys = " and ".join(key for key in ("centre", "scale") if any(key in left for left in lacks.values()))
    raise UsageError(
        f"the study has no public scale: set {keys} of variable{'s' if many else ''} {shown}; {HOW}"
    )
