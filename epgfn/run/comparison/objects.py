"""How far learned posteriors over objects other than graphs are from the truth, for whoever happens to hold all records.

As `epgfn.run.comparison.graphs` for graphs. Where all objects can be listed, every distribution is computed whole, not sampled:

    L1         sum over objects of |p - p_exact|, 0 to 2: of the global model from the exact product of all nodes' rewards, of each
               local model from its own subposterior, of the normalised product of the local models from the exact product (what they
               got wrong before anyone aggregated), and of the uniform distribution from the exact product, the null.
    marginals  mean and largest |p - p_exact| over the questions of `epgfn.study.objects`.

    comparison = compare_objects(study, records, local_models, global_model, samples=20_000, seed=1)
    comparison.global_l1, comparison.to_json()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.learn.target import target_of
from epgfn.study import Study
from epgfn.study.objects import marginals, space_of, written

if TYPE_CHECKING:
    from epgfn.learn.model import Model

MAX_LISTED = 100_000
TOP = 20
_BLOCK = 1024
"""Objects scored at once; bounds memory."""

Marginals = dict[str, float]
Progress = Callable[[int, int], None]


class TopObject(NamedTuple):
    """One of the objects that the global model finds most probable: its text, p_T, and its exact probability."""

    text: str
    learned: float
    exact: float


@dataclass(frozen=True)
class ObjectComparison:
    """Learned against exact. Where objects cannot be listed, every L1 is NaN, `exact_marginals` None and `top` empty, and the
    learned marginals are shares among sampled objects; else they are exact sums over p_T."""

    noun: str
    objects: float
    global_marginals: Marginals
    local_marginals: dict[str, Marginals]
    exact_marginals: Marginals | None = None
    exact_local_marginals: dict[str, Marginals] = field(default_factory=dict)
    global_l1: float = math.nan
    uniform_l1: float = math.nan
    product_of_locals_l1: float = math.nan
    local_l1: dict[str, float] = field(default_factory=dict)
    top: list[TopObject] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether the exact posterior is known."""
        return self.exact_marginals is not None

    @property
    def global_marginal_mae(self) -> float:
        """Mean |p - p_exact| of the global model; NaN where the exact posterior is out of reach."""
        return _errors(self.global_marginals, self.exact_marginals)[0]

    @property
    def global_marginal_max_error(self) -> float:
        """Largest |p - p_exact| of the global model."""
        return _errors(self.global_marginals, self.exact_marginals)[1]

    @property
    def local_marginal_mae(self) -> dict[str, float]:
        """Mean |p - p_exact| of each local model against its own subposterior."""
        return {node: error[0] for node, error in self._local_errors().items()}

    @property
    def local_marginal_max_error(self) -> dict[str, float]:
        """Largest |p - p_exact| of each local model against its own subposterior."""
        return {node: error[1] for node, error in self._local_errors().items()}

    def figures(self) -> dict[str, Any]:
        """The figures alone, as JSON; what is not known is null."""
        return {
            "objects": _number(self.objects),
            "global_l1": _number(self.global_l1),
            "uniform_l1": _number(self.uniform_l1),
            "product_of_locals_l1": _number(self.product_of_locals_l1),
            "local_l1": {node: _number(x) for node, x in self.local_l1.items()},
            "global_marginal_mae": _number(self.global_marginal_mae),
            "global_marginal_max_error": _number(self.global_marginal_max_error),
            "local_marginal_mae": {node: _number(x) for node, x in self.local_marginal_mae.items()},
            "local_marginal_max_error": {node: _number(x) for node, x in self.local_marginal_max_error.items()},
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """A JSON value: the figures, then what they come from."""
        return {
            **self.figures(),
            "noun": self.noun,
            "global_marginals": self.global_marginals,
            "local_marginals": self.local_marginals,
            "exact_marginals": self.exact_marginals,
            "exact_local_marginals": self.exact_local_marginals,
            "top": [list(row) for row in self.top],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The comparison that `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is of another form.
        """
        exact = value["exact_marginals"]
        return cls(
            noun=str(value["noun"]),
            objects=math.inf if value["objects"] is None else _finite(value["objects"]),
            global_marginals=read_marginals(value["global_marginals"]),
            local_marginals={node: read_marginals(x) for node, x in value["local_marginals"].items()},
            exact_marginals=None if exact is None else read_marginals(exact),
            exact_local_marginals={
                node: read_marginals(x) for node, x in value["exact_local_marginals"].items()
            },
            global_l1=_known(value["global_l1"]),
            uniform_l1=_known(value["uniform_l1"]),
            product_of_locals_l1=_known(value["product_of_locals_l1"]),
            local_l1={str(node): _known(x) for node, x in value["local_l1"].items()},
            top=[TopObject(str(text), _finite(p), _finite(q)) for text, p, q in value["top"]],
        )

    def against_exact(self, marginals: Marginals) -> tuple[float, float]:
        """Mean and largest |p - p_exact| of `marginals`; NaN where the exact posterior is out of reach."""
        return _errors(marginals, self.exact_marginals)

    def _local_errors(self) -> dict[str, tuple[float, float]]:
        return {
            node: _errors(found, self.exact_local_marginals.get(node))
            for node, found in self.local_marginals.items()
        }


def compare_objects(
    study: Study,
    records: Mapping[str, Any],
    local_models: Mapping[str, Model],
    global_model: Model,
    samples: int,
    seed: int,
    progress: Progress | None = None,
) -> ObjectComparison:
    """Compare the models of one run with the exact posteriors of its records.

    Args:
        records: of every node whose model is in the product, as `epgfn.study.records.tables.load_records` gives them, by node id.
        local_models: the same nodes' own models. global_model: trained on their product.
        samples: objects drawn from each model for its marginals, where objects cannot be listed. seed: of those draws.
        progress: called with (models compared, models to compare).

    Raises:
        EpgfnError: the records give no finite scores.
    """
    count = study.number_of_objects
    models = {**{node: local_models[node] for node in sorted(local_models)}, "": global_model}
    tell: Progress = progress or (lambda done, of: None)
    tell(0, len(models))
    space = space_of(study)
    try:
        levels = explore(space) if count <= MAX_LISTED else None
    except UsageError:  # too many unfinished states
        levels = None
    if levels is None:
        found = {}
        for done, (node, model) in enumerate(models.items(), start=1):
            found[node] = model.marginals(samples, seed)
            tell(done, len(models))
        return ObjectComparison(study.kind.noun, count, found.pop(""), found)
    mass = {}
    for done, (node, model) in enumerate(models.items(), start=1):
        mass[node] = terminating_mass(space, model.policy, levels).mass
        tell(done, len(models))
    state = terminating_states(space, levels)
    rewards = {node: _log_reward(study, x, state) for node, x in sorted(records.items())}
    return _against(study, state, mass.pop(""), mass, rewards)


def _against(
    study: Study, state: Any, learned: Tensor, locals_: dict[str, Tensor], rewards: dict[str, Tensor]
) -> ObjectComparison:
    """From (M,) p_T of every model and log-rewards (nats) of every node, over the M finished states `state`."""
    exact = exact_distribution(torch.stack(list(rewards.values())).sum(0))
    own = {node: exact_distribution(reward) for node, reward in rewards.items()}
    logs = [mass.clamp_min(1e-300).log() for node, mass in locals_.items() if node in rewards]
    best = learned.topk(min(TOP, len(learned))).indices
    texts = written(study, take(state, best))
    return ObjectComparison(
        noun=study.kind.noun,
        objects=float(len(exact)),
        global_marginals=_weighted(study, state, learned),
        local_marginals={node: _weighted(study, state, mass) for node, mass in locals_.items()},
        exact_marginals=_weighted(study, state, exact),
        exact_local_marginals={node: _weighted(study, state, mass) for node, mass in own.items()},
        global_l1=l1(learned, exact),
        uniform_l1=l1(torch.full_like(exact, 1 / len(exact)), exact),
        product_of_locals_l1=l1(exact_distribution(torch.stack(logs).sum(0)), exact) if logs else math.nan,
        local_l1={node: l1(locals_[node], own[node]) for node in locals_ if node in own},
        top=[
            TopObject(text, float(learned[i]), float(exact[i]))
            for text, i in zip(texts, best.tolist(), strict=True)
        ],
    )


def _log_reward(study: Study, records: Any, state: Any) -> Tensor:
    target = target_of(study, records)
    return torch.cat([target.log_reward(take(state, rows)) for rows in _blocks(state)])


def _weighted(study: Study, state: Any, weight: Tensor) -> Marginals:
    """Marginals of the distribution that gives the objects of `state` the probabilities `weight`."""
    total: Marginals = {}
    for rows in _blocks(state):
        for name, share in marginals(study, take(state, rows), weight[rows]).items():
            total[name] = total.get(name, 0.0) + share
    return total


def _blocks(state: Any) -> tuple[Tensor, ...]:
    return torch.split(torch.arange(len(state[0])), _BLOCK)


def read_marginals(value: Any) -> Marginals:
    """Probabilities by name, from JSON.

    Raises:
        TypeError, ValueError, AttributeError: it is anything else.
    """
    return {str(name): _finite(p) for name, p in value.items()}


def _errors(learned: Marginals, exact: Marginals | None) -> tuple[float, float]:
    """Mean and largest |learned - exact|, a name that is missing on a side being 0 there."""
    if not exact:
        return math.nan, math.nan
    errors = np.array([abs(learned.get(name, 0.0) - exact.get(name, 0.0)) for name in {**learned, **exact}])
    return float(errors.mean()), float(errors.max())


def _number(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _known(value: Any) -> float:
    return math.nan if value is None else _finite(value)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)
