"""Causal effects of a finished run, from what its coordinator signed: `epgfn effects`, and `effects` of `epgfn.load_run`."""

from __future__ import annotations

from typing import Any

from epgfn.base.errors import RefusedError, UsageError
from epgfn.learn.effects import Effect, effects, is_of, statistic_read
from epgfn.run.result import RunResult
from epgfn.study.parameters import why_no_effects


def statistic_said(run: RunResult) -> Any:
    """What the summary says of the statistic of all records, without which there are no effects.

    Raises:
        UsageError: the study is none of which effects can be told, or the summary says nothing.
    """
    if why := why_no_effects(run.study):
        raise UsageError(why)
    said = ((run.summary.get("diagnostics") or {}).get("parameters") or {}).get("statistic")
    if said is None:
        raise UsageError(
            "this result holds no statistic of all records: an earlier version of the coordinator made it, or there is no summary"
        )
    return said


def effects_of(run: RunResult, of: str, n: int, seed: int | None) -> dict[str, Effect]:
    """See `RunResult.effects`."""
    said = statistic_said(run)
    known = statistic_read(run.study, said)
    if not is_of(run.study, known, run.model.carried_scores()):
        raise RefusedError(
            "statistic-not-the-models",
            "the statistic in the summary is not what the published model was made of, so effects of it would be of something else; "
            "ask the coordinator",
        )
    drawn = run.model.graphs(n, seed)
    return effects(run.study, known, drawn.graphs, drawn.basis, drawn.effective, of, seed)
