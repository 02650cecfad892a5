"""Newick: the published trees, one a line, in the order in which they were drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epgfn.base.errors import UsageError
from epgfn.run.exports.options import Options

if TYPE_CHECKING:
    from epgfn.run.result import RunResult
    from epgfn.study import Study


def newick(run: RunResult, options: Options) -> bytes:
    """Each with the token that says whether it has a root: [&R] or [&U]."""
    rooted = root_token(run.study, "newick")
    return "".join(f"{rooted} {text}\n" for text in run.samples.objects).encode("utf-8")


def root_token(study: Study, form: str) -> str:
    """Raises:
    UsageError: the study is not about trees.
    """
    if not study.kind.has_trees:
        raise UsageError(
            f"{form} is for trees, and this study is about {study.kind.noun}; parquet and arviz go with any study"
        )
    return "[&R]" if study.kind.asked(study) == "clade" else "[&U]"
