"""Balance losses: pure functions of tensors, in nats. Each is zero exactly when the flow is right.

Notation: a trajectory tau = (s_0 -> ... -> x) of B in a batch; `log_pf` = sum over its steps of log p_F, `log_pb` likewise;
`log_reward` = log R(x), known up to a constant. All losses are means, scalars of the inputs' dtype.

`delta`: residuals beyond +-delta nats count linearly instead of quadratically (Huber), so that the far-off trajectories of
an untrained policy do not drown the rest. None: the plain square. The zero is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor


def penalty(residual: Tensor, delta: float | None) -> Tensor:
    """Mean of residual^2, or with `delta` of 2 * Huber_delta(residual), which is residual^2 within +-delta."""
    if delta is None:
        return residual.square().mean()
    return 2 * torch.nn.functional.huber_loss(residual, torch.zeros_like(residual), delta=delta)


def trajectory_balance(
    log_z: Tensor, log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, delta: float | None = None
) -> Tensor:
    """TB: mean of (log Z + log p_F(tau) - log p_B(tau | x) - log R(x))^2; `log_z` a scalar, the rest (B,).

    Source: Malkin et al., NeurIPS 2022, arXiv 2201.13259, eq. 14.
    """
    return penalty(log_z + log_pf - log_pb - log_reward, delta)


def contrastive_balance(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor) -> Tensor:
    """CB over all pairs: mean over tau != tau' of (a(tau) - a(tau'))^2, a = log p_F - log p_B - log R; all (B,), B >= 2.

    That mean is twice the sample variance of a, which costs B instead of B^2.
    Source: da Silva et al., ICML 2024, arXiv 2406.03288, eq. 5 (there for single pairs).
    """
    return 2 * (log_pf - log_pb - log_reward).var()


def robust_contrastive_balance(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, delta: float) -> Tensor:
    """CB made robust: mean of 2 * Huber_delta(a - median a), the median held fixed; all (B,).

    Not the paper's loss. It shares its zero (a constant over all trajectories), and for residuals within +-delta it is the
    variance about the median; a few far-off trajectories pull the policy with bounded strength.
    """
    a = log_pf - log_pb - log_reward
    return penalty(a - a.detach().median(), delta)


def detailed_balance(
    log_flow: Tensor, log_pf: Tensor, log_flow_next: Tensor, log_pb: Tensor, delta: float | None = None
) -> Tensor:
    """DB: mean of (log F(s) + log p_F(s' | s) - log F(s') - log p_B(s | s'))^2 over (M,) edges; F(x) = R(x) at the end.

    Source: Bengio et al., JMLR 2023, arXiv 2111.09266, def. 17.
    """
    return penalty(log_flow + log_pf - log_flow_next - log_pb, delta)


def subtrajectory_balance(
    log_flow: Tensor,
    log_pf: Tensor,
    log_pb: Tensor,
    active: Tensor,
    log_reward: Tensor,
    lam: float,
    delta: float | None = None,
) -> Tensor:
    """SubTB(lambda): over every piece s_i -> ... -> s_j of every trajectory, in the mean weighted by lambda^(j - i), of

    (log F(s_i) + sum_{i <= t < j} [log p_F(s_t+1 | s_t) - log p_B(s_t | s_t+1)] - log F(s_j))^2,  F(x) = R(x) at the end.

    Weights sum to one in each trajectory. The smaller lambda, the more it is DB; at 1 all pieces count alike.

    Args:
        log_flow, log_pf, log_pb, active: (T, B), of the T states acted in; what is not `active` is ignored.
        log_reward: (B,). lam: above 0, at most 1.

    Source: Madan et al., ICML 2023, arXiv 2209.12782, eq. 13.
    """
    # With C_j the sum of log p_F - log p_B up to s_j, a piece's residual is u_i - u_j of u = log F - C: no sums over pieces.
    gain = torch.where(active, log_pf - log_pb, 0.0).cumsum(0)
    total = torch.cat([torch.zeros_like(gain[:1]), gain])  # (T + 1, B)
    flow = torch.cat([torch.where(active, log_flow, log_reward), log_reward[None]])
    u = flow - total
    there = torch.cat([torch.ones_like(active[:1]), active])  # s_j is on the trajectory
    place = torch.arange(len(u))
    length = (place - place[:, None]).clamp_min(0)  # (T + 1, T + 1) j - i
    weight = torch.where(length > 0, lam ** (length - 1).to(u.dtype), 0.0)[:, :, None] * there  # (i, j, B)
    residual = torch.where(there, u[:, None] - u, 0.0)
    if delta is None:
        cost = residual.square()
    else:
        cost = 2 * torch.nn.functional.huber_loss(
            residual, torch.zeros_like(residual), reduction="none", delta=delta
        )
    return ((weight * cost).sum((0, 1)) / weight.sum((0, 1))).mean()


def modified_detailed_balance(
    log_pf: Tensor,
    log_pb: Tensor,
    log_stop: Tensor,
    log_stop_next: Tensor,
    log_reward_ratio: Tensor,
    delta: float | None = None,
) -> Tensor:
    """DB where every state may stop, free of flows: over (M,) edges s -> s' that do not stop, the mean of

    (log p_F(s' | s) + log p_F(stop | s') - log p_B(s | s') - log p_F(stop | s) - log R(s') / R(s))^2.

    Source: Deleu et al., UAI 2022, arXiv 2202.13903, eq. 7.
    """
    return penalty(edge_log_ratio(log_pf, log_pb, log_stop, log_stop_next) - log_reward_ratio, delta)


def edge_log_ratio(log_pf: Tensor, log_pb: Tensor, log_stop: Tensor, log_stop_next: Tensor) -> Tensor:
    """What a policy says about log R(s') / R(s): log p_F(s' | s) + log p_F(stop | s') - log p_B(s | s') - log p_F(stop | s)."""
    return log_pf + log_stop_next - log_pb - log_stop


def aggregated_log_reward(log_pf_locals: Tensor, log_pb: Tensor) -> Tensor:
    """sum_n [log p_F^(n)(tau) - log p_B^(n)(tau | x)]: log of the product of the local targets along tau, up to a constant.

    `log_pf_locals` (N, B), `log_pb` (B,) or (N, B) -> (B,). In logs; the sum over nodes is what a product would be.
    """
    return (log_pf_locals - log_pb).sum(0)


def aggregating_balance(
    log_pf: Tensor,
    log_pb: Tensor,
    log_pf_locals: Tensor,
    log_pb_locals: Tensor,
    log_prior_share: Tensor | float = 0.0,
) -> Tensor:
    """AB: contrastive balance towards the product of the N local models' own log p_F - log p_B; no reward is seen.

    `log_pf`, `log_pb` (B,) of the global model, the locals' (N, B); `log_prior_share` (B,) is what absent nodes would have
    added of the public prior. Source: da Silva et al., ICML 2024, arXiv 2406.03288, eq. 6.
    """
    return contrastive_balance(
        log_pf, log_pb, aggregated_log_reward(log_pf_locals, log_pb_locals) + log_prior_share
    )


def aggregating_modified_detailed_balance(
    log_pf: Tensor,
    log_pb: Tensor,
    log_stop: Tensor,
    log_stop_next: Tensor,
    edge_log_ratio_locals: Tensor,
    log_prior_share_ratio: Tensor | float = 0.0,
    delta: float | None = None,
) -> Tensor:
    """Edge-wise AB where every state may stop: modified DB towards the sum over nodes of `edge_log_ratio`, (N, M) -> scalar.

    `log_prior_share_ratio` (M,): what absent nodes' share of the public prior changes along the edge.
    """
    ratio = edge_log_ratio_locals.sum(0) + log_prior_share_ratio
    return modified_detailed_balance(log_pf, log_pb, log_stop, log_stop_next, ratio, delta)
