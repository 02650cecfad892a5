"""Aggregating balance: towards the product of local models, of which no reward is seen."""

from __future__ import annotations

from torch import Tensor

from epgfn.gflownet.losses.contrastive import contrastive_balance
from epgfn.gflownet.losses.modified_detailed import modified_detailed_balance


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
