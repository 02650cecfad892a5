"""The policy that a study prescribes: what a model file of it holds, an untrained one, and whether tensors are one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from epgfn.base.errors import RefusedError, UsageError
from epgfn.gflownet.policies.order_potential import scores_of
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.policies.validation import check_policy, check_tensors
from epgfn.gflownet.spaces import DagBySinks
from epgfn.learn.masked import NUMBERS, sum_spec
from epgfn.learn.scores import require_mean, require_scorable
from epgfn.learn.shared import apart, check_statistic, statistic_spec
from epgfn.study.objects import space_of
from epgfn.study.parameters import is_masked, is_shared

if TYPE_CHECKING:
    from epgfn.study import Study

from epgfn.gflownet.policies import FAMILIES, Family, make_policy


def family_of(study: Study) -> Family:
    """The study's kind of policy."""
    return FAMILIES[study.policy.kind]


def policy_spec(study: Study) -> dict[str, TensorSpec]:
    """Names, shapes and dtypes of the tensors of a policy of `study`; nothing but the study decides them."""
    return family_of(study).spec(space_of(study), study.policy.hidden)


def upload_spec(study: Study) -> dict[str, TensorSpec]:
    """The same of what a node sends: a policy, and where all sites share their parameters a statistic beside it. Errors as
    `statistic_spec`. Where sums are masked, the statistic's numbers and no policy."""
    if is_masked(study):
        return sum_spec(study)
    return {**policy_spec(study), **statistic_spec(study)}


def initial_policy(study: Study, scores: Tensor | None, generator: torch.Generator) -> dict[str, Tensor]:
    """Tensors of an untrained model; `scores` in float64 nats, (V, K) of parent sets or (S,) of splits, where the policy carries them."""
    return family_of(study).initial(space_of(study), study.policy.hidden, scores, generator)


_SIZES = {"float32": 4, "float64": 8, "int64": 8}


def model_bytes(study: Study) -> int:
    """How many bytes the numbers take that a node sends in `study`. Errors as `upload_spec`."""
    return sum(_bytes(entry) for entry in upload_spec(study).values())


def largest_bytes(study: Study) -> int:
    """The same of any model file of `study`, a node's or the result. Errors as `upload_spec`."""
    return max(model_bytes(study), sum(_bytes(entry) for entry in policy_spec(study).values()))


def _bytes(entry: TensorSpec) -> int:
    return _SIZES[entry.dtype] * math.prod(entry.shape)


def model_weight(study: Study) -> str:
    """What a model of `study` weighs, and most of it, as in "22.6 MB, most of it scores of 43,745 sets of parents for each variable"."""
    weight = f"{model_bytes(study) / 1e6:,.1f} MB"
    if is_masked(study):
        return f"{weight} of sums over a node's records, under masks"
    space, scores = space_of(study), family_of(study).scores
    if scores is None or not isinstance(space, DagBySinks):
        return weight
    share = _bytes(policy_spec(study)[scores]) / model_bytes(study)
    if share <= 0.5:
        return weight
    if space.rules is not None:
        return (
            f"{weight}, most of it scores of {policy_spec(study)[scores].shape[0]:,} sets of parents in all"
        )
    return f"{weight}, most of it scores of {space.n_sets:,} sets of parents for each variable"


def require_possible(study: Study) -> None:
    """Refuse what would run out of memory, or could not be sent, before anyone trains.

    Raises:
        UsageError: the settings make no sense, the space has too many actions for the policy, its batches are too large, or a
            model is larger than what the study lets a node send.
    """
    require_mean(study)
    if study.target_kind.is_modular:
        require_scorable(study)
    space = space_of(study)
    require_room = family_of(study).require_room
    if require_room is not None:
        require_room(space, max(study.training.batch, study.aggregation.batch))
    if model_bytes(study) > study.transport.max_upload_bytes:
        lower = (
            "space.max_parents, fewer [prior] candidates"
            if "sets of parents" in model_weight(study)
            else "policy.hidden"
        )
        raise UsageError(
            f"a model of this study takes {model_weight(study)}, and nodes may send {study.transport.max_upload_bytes / 1e6:,.1f} MB; "
            f"choose a smaller {lower} or a larger transport.max_upload_bytes ({model_bytes(study) * 11 // 10} would do)"
        )


def validate_upload(study: Study, node_id: str, tensors: Mapping[str, Tensor]) -> None:
    """`validate_policy` of what `node_id` sends; and where all sites share their parameters, that a statistic is beside it, sound and what
    the policy is made of. Of numbers under masks only the form can be seen.

    Raises:
        RefusedError: as there, or "statistic-not-sound", "statistic-not-the-policys".
    """
    if is_masked(study):
        spec = sum_spec(study)[NUMBERS]
        found = {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in tensors.items()}
        if found != {NUMBERS: (spec.shape, spec.dtype)}:
            raise RefusedError(
                "model-tensors",
                "the file does not hold the numbers of a masked sum of this study; train again with this version",
            )
        return
    policy, statistic = apart(tensors)
    validate_policy(study, policy)
    if is_shared(study):
        name = family_of(study).scores
        assert name is not None  # the study's own check
        check_statistic(study, node_id, statistic, scores_of(space_of(study), policy[name]))
    elif statistic:
        raise RefusedError(
            "statistic-not-asked",
            "the model holds a statistic that the study does not ask for; train again with the accepted study",
        )


def validate_policy(study: Study, tensors: Mapping[str, Tensor], older: bool = False) -> None:
    """Check that `tensors` are a usable policy of `study`, before anything is computed from them. `older`: or of another policy of
    its kind, as the study may have had before its kind took another by itself.

    Checked: names, shapes, dtypes; every number finite and of bounded size; no score stored where a variable would be its
    own parent; and on states sampled from the policy, that it names an action and that its probabilities sum to one.

    Raises:
        RefusedError: with reason `model-tensors` (wrong names, shapes or dtypes), `model-not-finite`, `model-magnitude`,
            `model-illegal-score` or `model-not-a-policy`.
    """
    space, family = space_of(study), family_of(study)
    if older:
        known = [FAMILIES[name] for name in study.kind.policies]
        same = [one for one in known if one.spec(space, study.policy.hidden).keys() == tensors.keys()]
        family = same[0] if same else family
    check_tensors(tensors, family.spec(space, study.policy.hidden))
    if family.check is not None:
        family.check(space, tensors)
    check_policy(make_policy(space, [tensors]), space)
