"""Mode `gradient` for a study: a policy trained by record-level DP-SGD, for targets that are sums over records.

    tensors, claim = train_privately(study, records, epsilon=4.0, delta=1e-5, seed=1)

`epgfn.privacy.mechanisms.gradient` has the loss and what is clipped: with a batch of B trajectories, drawn without any data, record
r's part of the gradient is -(2/B) J^T c_r, c_r (B,) its log-likelihoods of the B objects less their mean. Nothing else here sees a record.
Three things keep the noise small; all of them are computed from the study, the policy and what was released, so they cost nothing:

1. Where the values that a record can take are public, so are the few directions that the c_r of a batch can have. With U (B, K) an
   orthonormal basis of them a part is -(2/B) (U^T J)^T (U^T c_r): K gradients are computed instead of B, and of the noise only what
   lies in their K directions is kept, instead of one share in every weight.
2. Before noise is added those directions are stretched until the public values reach equally far in all of them (`levelling`), and
   everything is scaled until the longest public value is as long as the study's clip; both are undone afterwards.
3. Every step's noisy sum is a linear function of one table, how many records have each value: `Histogram` fits that table to the sums
   of all steps so far, and the step goes along the gradient that the fitted table gives. Clipping of public values is undone by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.device import CPU, computing_on, seeded
from epgfn.gflownet.policies import Policy, make_policy
from epgfn.gflownet.sampling.exploration import with_preferences
from epgfn.gflownet.sampling.rollout import Rollout, evaluate, evaluate_together, sample
from epgfn.gflownet.training.loop import FINAL_RATE, MAX_GRADIENT_NORM
from epgfn.learn.likelihoods import Likelihood, likelihood_of
from epgfn.learn.policy import family_of, initial_policy
from epgfn.privacy.claims.claims import Claim
from epgfn.privacy.mechanisms.gradient import GradientSettings, RecordSgd, clipped_gradient, part_norms
from epgfn.study.objects import space_of

if TYPE_CHECKING:
    from epgfn.study import Study

_RANK = 1e-6
_PREFERENCES = 1.0  # nats, as `epgfn.learn.local` has them
_BLOCK = 64  # gradients computed at once; bounds memory
Watch = Callable[[Tensor, Callable[[Tensor], Tensor]], None]


class Batch(NamedTuple):
    """What a step knows before it sees a record. `score` (B,) s_b = log p_F - log p_B, differentiable; `final` the B objects; `basis`
    (B, K) float64 U; `public` (K, C) float64 U^T c of the C public values, or None."""

    score: Tensor
    final: Any
    basis: Tensor
    public: Tensor | None


def planned(study: Study, epsilon: float | None = None, delta: float | None = None) -> GradientSettings:
    """The steps of the study's training with the least noise that keeps them within its epsilon, or within the one given.

    Raises:
        UsageError: a number is out of range, or no noise is enough.
    """
    asked = study.privacy
    return GradientSettings.for_epsilon(
        float(asked.epsilon or 0) if epsilon is None else epsilon,
        float(asked.delta or 0) if delta is None else delta,
        rate=float(asked.rate or 0),
        steps=study.training.steps,
        clip=float(asked.clip or 0),
    )


def planned_claim(study: Study) -> Claim:
    """What a model trained for the study will claim: known before any record is read. Raises as `planned`."""
    return planned(study).claim(unit=study.unit)


def train_privately(
    study: Study,
    records: Tensor,
    *,
    epsilon: float,
    delta: float,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
) -> tuple[dict[str, Tensor], Claim]:
    """A GFlowNet on one node's subposterior, and what it promises about each record.

    Args:
        study: of mode `gradient`; its training settings, but for the objective, which is `contrastive`.
        records: (n, ...) as `epgfn.study.records.tables` gives them in their public bounds; n may be 1, or 0.
        epsilon, delta: what all steps together may cost.
        seed: of the first weights and of trajectories. Noise and samples of records have none.
        progress: told (steps done, steps in all).
        watch: for attacks: told each step's noisy sum (P,), and a function that gives the clipped parts of any records in this step,
            (n, ...) -> (P,) their sum; both in units of the clip.

    Returns:
        float32 tensors as `policy_spec(study)` prescribes, and the claim.

    Raises:
        UsageError: a setting is out of range.
    """
    settings = planned(study, epsilon, delta)
    with computing_on(CPU):
        run = _Run(study, settings, seed, watch)
        for done, sampled in enumerate(run.sgd.batches(len(records))):
            run.step(records[sampled], done)
            if progress is not None:
                progress(done + 1, settings.steps)
    return run.policy.tensors(), settings.claim(unit=study.unit)


class _Run:
    """One training: the policy, its optimiser and what was released so far."""

    def __init__(self, study: Study, settings: GradientSettings, seed: int, watch: Watch | None) -> None:
        self.training, self.settings, self.watch = study.training, settings, watch
        self.space, family = space_of(study), family_of(study)
        self.likelihood = likelihood_of(study, self.space)
        self.generator = seeded(seed)
        self.policy: Policy[Any] = make_policy(self.space, [initial_policy(study, None, self.generator)])
        self.together = family.together
        self.parameters = [parameter.requires_grad_(True) for parameter in self.policy.parameters()]
        self.values = public_values(study, self.likelihood)
        self.tally = None if self.values is None else Histogram(len(self.values))
        self.optimizer = torch.optim.Adam(self.parameters, self.training.learning_rate)
        self.sgd = RecordSgd(self.parameters, self.optimizer, settings)
        share = study.kind.preferences
        self.draw = with_preferences(sample, share=share, spread=_PREFERENCES) if share else sample

    def step(self, records: Tensor, done: int) -> None:
        """One step of all, on the sampled `records`."""
        progress = done / self.settings.steps
        batch = self._batch(1 - progress)
        share = FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * progress)) / 2
        self.optimizer.param_groups[0]["lr"] = self.training.learning_rate * share
        jacobian = self._gradients(batch.score, batch.basis.T.float())  # (K, P)
        free = self._gradients(batch.score, (batch.score - batch.score.mean()).detach()[None])[0]
        free = 2 / len(batch.score) * free
        gradient = free + self._said(batch, jacobian, records)
        norm = float(gradient.norm())
        self.sgd.descend(gradient * min(1.0, MAX_GRADIENT_NORM / max(norm, 1e-30)))

    def _batch(self, left: float) -> Batch:
        """Trajectories from the tempered, exploring policy; no record enters."""
        how = {
            "temperature": 1 + (self.training.temperature - 1) * left,
            "exploration": self.training.exploration * left,
        }
        with torch.no_grad():
            drawn: Rollout[Any] = self.draw(
                self.policy, self.space, self.training.batch, generator=self.generator, **how
            )
        walked = drawn.trajectories
        found = (evaluate_together if self.together else evaluate)(self.policy, self.space, walked)
        score = found.log_pf[0].sum(0) - walked.log_pb.sum(0)
        b = len(score)
        if self.values is None:
            centring = torch.eye(b, dtype=torch.float64) - 1 / b
            return Batch(score, walked.final, torch.linalg.eigh(centring).eigenvectors[:, 1:], None)
        terms = centred(self.likelihood, self.values, walked.final)  # (B, C)
        basis = directions(terms)
        return Batch(score, walked.final, basis, basis.T @ terms)

    def _gradients(self, score: Tensor, weights: Tensor) -> Tensor:
        """(K, P) gradients of `weights` (K, B) @ `score`, by batched backward passes."""
        size = sum(parameter.numel() for parameter in self.parameters)
        parts = [torch.zeros(0, size)]
        for rows in torch.split(weights, _BLOCK):
            if len(rows) == 0:
                continue
            found = torch.autograd.grad(
                score, self.parameters, rows, retain_graph=True, is_grads_batched=True
            )
            parts.append(torch.cat([grad.flatten(1) for grad in found], 1))
        gradients: Tensor = torch.cat(parts)
        return gradients

    def _said(self, batch: Batch, jacobian: Tensor, records: Tensor) -> Tensor:
        """(P,) the records' part of the gradient, from noisy sums alone."""
        b, clip = len(batch.score), self.settings.clip
        space = torch.linalg.qr(jacobian.T.double()).Q  # (P, K)
        unit, shown = jacobian, torch.zeros(0, 0)
        if batch.public is not None:
            parts = -2 / b * (space.T @ (jacobian.double().T @ batch.public))  # (K, C)
            free_of_clip = (
                self.likelihood.is_box
            )  # what is linear in a record is known by corners only without it
            shown = parts if free_of_clip else parts * _kept(parts.square().sum(0).sqrt(), clip)
            turn = levelling(shown)  # (K, K)
            shown = turn @ shown
            longest = float(shown.square().sum(0).max().sqrt()) if shown.numel() else 0.0
            if longest == 0:  # all objects of the batch are alike to every record
                return torch.zeros(jacobian.shape[1])
            shown = shown / longest
            unit = (jacobian.double() @ space @ turn @ space.T).float() * (clip / longest)

        def parts_of(records: Tensor) -> Tensor:
            said = batch.basis.T @ centred(self.likelihood, records, batch.final)  # (K, n)
            said = said * _kept(part_norms(jacobian, said, b), clip)
            return clipped_gradient(unit, said, clip, b)

        noisy = self.sgd.release(parts_of(records))
        if self.watch is not None:
            self.watch(noisy / clip, lambda records: parts_of(records) / clip)
        seen = space.T @ noisy.double() / clip / self.settings.rate  # (K,)
        if self.tally is None:
            raw: Tensor = clip * (space @ seen).float()
            return raw
        self.tally.add(shown, seen)
        fitted: Tensor = (space @ (parts @ self.tally.counts())).float()
        return fitted


def _kept(norms: Tensor, clip: float) -> Tensor:
    """What clipping leaves of vectors with these norms, as a share."""
    return (clip / norms.clamp_min(1e-300)).clamp_max(1.0)


def levelling(parts: Tensor) -> Tensor:
    """(K, K) float64 M = (A A^T)^(-1/2) of A (K, C), whose columns are public: M A is as long in every direction it has. Noise that is
    alike in all directions then hides none of them more than another."""
    sizes, vectors = torch.linalg.eigh(parts @ parts.T)
    least = _RANK**2 * sizes.max().clamp_min(1e-300) if len(sizes) else 0.0
    root = torch.where(sizes > least, sizes.clamp_min(1e-300).rsqrt(), 0.0)
    turn: Tensor = vectors @ (root[:, None] * vectors.T)
    return turn


class Histogram:
    """How many records have each of C public values, by least squares from noisy sums; for corners of a box, weights that
    give the same sums. What is fitted may be negative and is no statement about any one value.

    Sums y_t = R_t h + noise, R_t (K, C) in units in which all noise is alike, so h solves (sum R_t^T R_t) h = sum R_t^T y_t.
    """

    def __init__(self, values: int) -> None:
        self._precision = torch.zeros(values, values, dtype=torch.float64)
        self._seen = torch.zeros(values, dtype=torch.float64)

    def add(self, parts: Tensor, seen: Tensor) -> None:
        """One more step: R_t (K, C) and y_t (K,) float64."""
        self._precision += parts.T @ parts
        self._seen += parts.T @ seen

    def counts(self) -> Tensor:
        """(C,) float64 h; 0 in directions that no sum has shown."""
        sizes, vectors = torch.linalg.eigh(self._precision)
        kept = sizes > _RANK * sizes[-1]
        counts: Tensor = vectors[:, kept] @ ((vectors[:, kept].T @ self._seen) / sizes[kept])
        return counts


def centred(likelihood: Likelihood, records: Tensor, final: Any) -> Tensor:
    """(B, n) float64 c_r of n records, in columns: log-likelihoods of the B objects less their mean. What is not finite says nothing."""
    if len(records) == 0:
        return torch.zeros(len(final[0]), 0, dtype=torch.float64)
    terms = likelihood.per_record(records, final).double().T
    terms = terms - terms.mean(0)
    return torch.where(torch.isfinite(terms).all(0), terms, 0.0)


def directions(terms: Tensor) -> Tensor:
    """(B, K) float64 orthonormal columns that span those of (B, C); K may be 0."""
    basis, sizes, _ = torch.linalg.svd(terms, full_matrices=False)
    kept: Tensor = basis[:, sizes > _RANK * sizes.max().clamp_min(1e-300)]
    return kept


def public_values(study: Study, likelihood: Likelihood) -> Tensor | None:
    """(C, ...) all values a record can take, or the corners of their box; None where they are too many to list."""
    most = study.target_kind.listed_up_to
    return likelihood.domain() if most is None or len(study.variables) <= most else None
