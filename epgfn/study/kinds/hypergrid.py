"""Points on a grid: `side` places along each variable from its lower to its upper bound, evenly spaced on the study's scale.

A record is normally distributed around the point with standard deviation `sigma` on that scale, and moved into the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from epgfn.study.columns import BOUNDED
from epgfn.study.kinds.base import (
    DRAWN,
    SUMMED,
    Kind,
    Questions,
    SpaceSettings,
    TargetKind,
    TargetSettings,
)
from epgfn.study.kinds.likelihood import Likelihood

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from epgfn.study import Study

MAX_CORNERS = 10
"""Variables of a box up to which all its corners are looked at."""


class HypergridSettings(SpaceSettings):
    """`side`: how many places there are along each variable."""

    kind: Literal["hypergrid"]
    side: Annotated[int, Field(ge=2, le=1000)]


class LocationSettings(TargetSettings):
    """`sigma`: the records' standard deviation around the point, on the study's scale."""

    kind: Literal["location"]
    sigma: Annotated[float, Field(gt=0)] = 1.0


def _location(study: Study, space: Any) -> Likelihood:
    import itertools

    import torch

    from epgfn.targets.additive import location

    low, high = public_box(study)
    places = torch.linspace(0, 1, space.side, dtype=torch.float64)
    sigma: float = study.target.sigma
    around = location(sigma)

    def per_record(records: Tensor, state: Any) -> Tensor:
        return around(records, low + (high - low) * places[state.position])

    def corners() -> Tensor:
        ends = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(low))), dtype=torch.float64)
        return low + (high - low) * ends

    def draw(state: Any, n: int, generator: torch.Generator) -> Tensor:
        point = low + (high - low) * places[state.position[0]]
        noise = torch.randn(n, len(low), dtype=torch.float64, generator=generator)
        return (point + sigma * noise).clamp(low, high)  # as a node moves them into the box

    def mix(records: Tensor) -> Tensor:
        # What all places share cancels, and the rest is linear in the record; so are these weights, one variable at a time.
        share = (records - low) / (high - low)
        weights = torch.ones(len(records), 1, dtype=torch.float64)
        for column in share.T[:, :, None]:
            weights = torch.stack([weights * (1 - column), weights * column], 2).flatten(1)
        return weights

    return Likelihood(per_record, corners, draw, mix=mix, is_box=True)


def public_box(study: Study) -> tuple[Tensor, Tensor]:
    """(V,) float64 each: the lower and upper bounds of the study's variables, on its scale."""
    import torch

    from epgfn.study.records.scale import on_scale

    bounds = [on_scale([v.lower or 0.0, v.upper or 0.0], v).tolist() for v in study.variables]
    low, high = torch.tensor(bounds, dtype=torch.float64).unbind(1)
    return low, high


def places(study: Study) -> list[list[float]]:
    """For each variable the places of a hypergrid along it, on its own untransformed scale; evenly spaced on the study's."""
    import numpy as np

    from epgfn.study.records.scale import off_scale, on_scale

    steps = np.linspace(0, 1, study.space.side)
    out = []
    for variable in study.variables:
        low, high = on_scale([variable.lower or 0.0, variable.upper or 0.0], variable)
        out.append(off_scale(low + (high - low) * steps, variable).tolist())
    return out


def _places_written(study: Study) -> list[list[str]]:
    """`places` as text, with as many digits, six at least, as it takes to tell the places of a variable apart."""
    out = []
    for row in places(study):
        texts = ([f"{x:.{digits}g}" for x in row] for digits in range(6, 18))
        out.append(next((found for found in texts if len(set(found)) == len(row)), [repr(x) for x in row]))
    return out


_WIDE = {"batch": 256, "learning_rate": 1e-2, "temperature": 1.0, "exploration": 0.1}


@dataclass(frozen=True)
class Hypergrid(Kind):
    """See the module."""

    def space(self, study: Study) -> Any:
        from epgfn.gflownet.spaces import make_space

        return make_space("hypergrid", n_dimensions=len(study.variables), side=study.space.side)

    def count(self, study: Study) -> float:
        side: int = study.space.side
        return int(side ** len(study.variables))

    def written(self, study: Study, state: Any) -> list[str]:
        """ "dose=0.25, age=40" """
        names, at = study.variable_names, _places_written(study)
        return [
            ", ".join(f"{name}={at[i][p]}" for i, (name, p) in enumerate(zip(names, row, strict=True)))
            for row in state.position.tolist()
        ]

    def questions(self, study: Study, state: Any) -> Questions:
        """Is this its place along that variable?"""
        import torch

        rows = zip(study.variables, _places_written(study), strict=True)
        names = [f"{v.name}={x}" for v, row in rows for x in row]
        return Questions(names, (state.position[:, :, None] == torch.arange(study.space.side)).flatten(1))

    def in_words(self, study: Study) -> str:
        return f"points, {study.space.side} places along each variable"

    def panels(self, study: Study) -> dict[str, str]:
        """One a variable."""
        return {f"{name}=": name for name in study.variable_names}


HYPERGRID = Hypergrid(
    "hypergrid",
    HypergridSettings,
    (
        TargetKind(
            "location",
            LocationSettings,
            BOUNDED,
            "records are normally distributed around the point",
            f"{DRAWN} The noise that was drawn about a point is cut off at the study's bounds.",
            SUMMED,
            _location,
            listed_up_to=MAX_CORNERS,
            planned=("sigma",),
        ),
    ),
    ("mlp",),
    "points",
    "coordinate",
    may_stop_anywhere=True,
    training={**_WIDE, "objective": "modified-detailed", "steps": 600},
    aggregation={**_WIDE, "steps": 1500},
    example=(
        """
variables = [{name = "x", lower = 0, upper = 10}, {name = "dose", lower = 1, upper = 100, transform = "log"}]
[space]
kind = "hypergrid"
side = 5
[target]
sigma = 4.0
""",
    ),
)
