"""Is this file's content a policy? Asked of every model that comes from somebody else, before it is used."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.gflownet.device import seeded
from epgfn.gflownet.policies.base import Policy, Summing
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.spaces.base import Space, State

MAX_MAGNITUDE = 1e7
"""Larger numbers than any network of use holds; beyond them float32 sums lose whole nats."""
MAX_SCORE = 1e9
"""Larger than any score of real data: 10 nats for each of a hundred million records. Sums of a thousand such scores are still right to
a thousandth of a nat in float64."""
SAMPLED = 64
SUM_TOLERANCE = 1e-3


def check_tensors(tensors: Mapping[str, Tensor], spec: Mapping[str, TensorSpec]) -> None:
    """Names, shapes and dtypes as `spec` says, and only finite numbers of bounded size.

    Raises:
        RefusedError: `model-tensors`, `model-not-finite` or `model-magnitude`.
    """
    again = "train it again for this study with this version, or read it with the version that wrote it"
    if set(tensors) != set(spec):
        different = ", ".join(sorted(set(tensors) ^ set(spec))[:3])
        raise RefusedError(
            "model-tensors", f"the model's tensors are not the study's policy ({different}); {again}"
        )
    for name, entry in spec.items():
        tensor = tensors[name]
        dtype = str(tensor.dtype).removeprefix("torch.")
        if tuple(tensor.shape) != entry.shape or dtype not in (entry.dtype, entry.older or entry.dtype):
            found = f"{dtype} of shape {tuple(tensor.shape)}, not {entry.dtype} of shape {entry.shape}"
            raise RefusedError("model-tensors", f"the model's tensor {name} is {found}; {again}")
        if not bool(torch.isfinite(tensor).all()):
            raise RefusedError(
                "model-not-finite", f"the model's tensor {name} holds a number that is not finite; {again}"
            )
        most = MAX_SCORE if dtype == "float64" else MAX_MAGNITUDE
        if float(tensor.abs().max()) > most:
            raise RefusedError(
                "model-magnitude", f"the model's tensor {name} holds a number beyond {most:.0e}; {again}"
            )


@torch.no_grad()
def check_policy(policy: Policy[State], space: Space[State]) -> None:
    """On states that the policy itself reaches, and on any others, its probabilities sum to one and an action is open.

    Which states is decided by chance anew each time: whoever made the model cannot know where it will be looked at.

    Raises:
        RefusedError: `model-not-a-policy`.
    """
    from epgfn.gflownet.sampling.rollout import sample  # which knows policies too

    message = (
        "the model is not a policy: its probabilities are not finite or do not sum to one; train it again"
    )
    generator = seeded(secrets.randbits(63))
    for exploration in (0.1, 1.0):
        try:
            states = sample(
                policy, space, SAMPLED, generator=generator, temperature=2.0, exploration=exploration
            ).trajectories.states
        except (RuntimeError, EpgfnError):
            raise RefusedError("model-not-a-policy", message) from None
        for state in states:
            total = (
                policy.totals(state)
                if isinstance(policy, Summing)
                else policy.choices(state).log_prob.exp().sum(-1)
            )
            if not bool(((total - 1).abs() < SUM_TOLERANCE).all()):
                raise RefusedError("model-not-a-policy", message)
