"""epgfn: one Bayesian posterior over discrete structures from private data sets that never leave their houses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epgfn.learn.model import load_model
    from epgfn.study import Study

__all__ = ["Study", "load_model"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: torch takes seconds, and most commands do not need it.
    if name == "Study":
        from epgfn.study import Study

        return Study
    if name == "load_model":
        from epgfn.learn.model import load_model

        return load_model
    raise AttributeError(f"module 'epgfn' has no attribute {name!r}")
