"""Mode `gradient`: record-level DP-SGD, on Opacus' Poisson sampler, noise-only optimiser and PRV accountant.

Warning: this is the weakest mode. Clipping records' gradients moves the optimum, by an amount that shrinks only as clipping is
loosened and noise grows; noise fills every weight of the network; and weights are floats, so the exact arithmetic of the other modes is
missing here. Use `statistic` or `answers` where the target has them; docs/privacy.md has the figures side by side, and
`epgfn.privacy.of_study.gradient_training` takes off most of the noise where the values that a record can take are public.

Records, not trajectories, are what is sampled, clipped and counted. With a batch of B trajectories into x_1 .. x_B, log p_F - log p_B
= s_b and J the (B, P) gradients of the s_b, the all-pairs balance loss (1/B) sum_b (d_b - mean d)^2, d_b = s_b - sum_r l_r(x_b), has
the gradient

    (2/B) J^T (s - mean s)  -  (2/B) sum_r J^T c_r,        c_r = l_r(x) - mean_b l_r(x_b).

The first part holds no record. Record r's part has the norm (2/B) sqrt(c_r^T J J^T c_r): a ghost norm, from a (B, B) matrix and without
ever forming one gradient a record. Poisson-sampled records' parts are clipped, added, noised and divided by the public rate.
`PrivacyEngine.make_private` is not used: it clips whole trajectories, and divides by a number that depends on the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from epgfn.base.errors import RefusedError, UsageError
from epgfn.privacy import accounting
from epgfn.privacy.claims import claims
from epgfn.privacy.claims.claims import Claim, Unit
from epgfn.privacy.mechanisms.checks import check_parameters


@dataclass(frozen=True)
class GradientSettings:
    """`rate` of the Poisson sampler, number of `steps`, `clip` of one record's part, and `noise_multiplier`; all public.

    Raises:
        UsageError: a number is out of range.
    """

    rate: float
    steps: int
    clip: float
    noise_multiplier: float
    delta: float

    def __post_init__(self) -> None:
        check_parameters(1.0, self.delta)
        good = 0 < self.rate <= 1 and self.steps >= 1 and 0 < self.clip < 1e9 and self.noise_multiplier > 0
        if not good:
            raise UsageError(
                "gradient mode needs a sampling rate inside (0, 1], at least one step, and a clip and noise above 0"
            )

    @classmethod
    def for_epsilon(
        cls, epsilon: float, delta: float, *, rate: float, steps: int, clip: float
    ) -> GradientSettings:
        """With the least noise that keeps all steps together within epsilon.

        Raises:
            UsageError: a number is out of range, or no noise is enough.
        """
        check_parameters(epsilon, delta)
        try:
            noise = accounting.noise_multiplier(epsilon, delta, rate, steps)
        except ValueError:
            raise UsageError(
                "no noise keeps so many steps within this epsilon; take fewer steps or a lower rate"
            ) from None
        return cls(rate, steps, clip, noise, delta)

    def claim(self, clip_source: str = "the study: a public norm", unit: Unit = "record") -> Claim:
        """What the node promises about the weights after all steps, and after fewer; `unit`: what a record is called."""
        said = claims.Subsampling(
            rate=self.rate,
            steps=self.steps,
            noise_multiplier=self.noise_multiplier,
            clip=self.clip,
            clip_source=clip_source,
        )
        epsilon = accounting.subsampled_epsilon(self.noise_multiplier, self.rate, self.steps, self.delta)
        return Claim(
            mode="gradient",
            unit=unit,
            adjacency="add-remove",
            epsilon=epsilon,
            delta=self.delta,
            mu=0.0,
            rho=0.0,
            mechanism="record-level DP-SGD with ghost clipping",
            subsampling=said,
            composition="privacy-loss random variables of Poisson-subsampled Gaussians",
            sampler="opacus UniformWithReplacementSampler (Poisson)",
            accountant=accounting.prv_version(),
            arithmetic="float32; noise is a sum of four Gaussians (opacus secure_mode)",
            randomness="generator seeded by the operating system",
        )


def clipped_gradient(jacobian: Tensor, centred: Tensor, clip: float, batch: int | None = None) -> Tensor:
    """sum_r of record r's part of the gradient, each clipped to L2 norm `clip`.

    Args:
        jacobian: (B, P) gradients of s_b. centred: (B, n) c_r, records in columns; n may be 0. `batch`: B, where both are given in
            fewer coordinates: U^T J and U^T c_r, the columns of U orthonormal and the c_r among what they span.

    Returns:
        (P,): -(2/B) J^T sum_r c_r min(1, clip / norm_r), norm_r = (2/B) sqrt(c_r^T J J^T c_r).
    """
    b = len(jacobian) if batch is None else batch
    factor = (clip / part_norms(jacobian, centred, b).clamp_min(1e-300)).clamp_max(1.0)
    part = -2 / b * (jacobian.double().T @ (centred.double() @ factor))
    return part.to(jacobian.dtype)


def part_norms(jacobian: Tensor, centred: Tensor, batch: int) -> Tensor:
    """(n,) float64 norms of the records' parts of the gradient before clipping; arguments as of `clipped_gradient`."""
    j, c = jacobian.double(), centred.double()
    squares = (c * (j @ j.T @ c)).sum(0)
    return 2 / batch * squares.clamp_min(0).sqrt()


class RecordSgd:
    """Steps of DP-SGD on `parameters` under `optimizer`; never more of them than were accounted for.

    for batch in sgd.batches(n):
        ... J, s, c of a batch of trajectories and the sampled records ...
        sgd.step(free_gradient, clipped_gradient(J, c, settings.clip))

    `step` is `release`, the only part that sees records, and then `descend`, which may go along anything computed from what was released.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        optimizer: torch.optim.Optimizer,
        settings: GradientSettings,
    ) -> None:
        from opacus.optimizers import DPOptimizerFastGradientClipping  # loaded here: it takes seconds

        self._parameters = list(parameters)
        self._settings = settings
        self._left = settings.steps
        self._optimizer: Any = DPOptimizerFastGradientClipping(
            optimizer,
            noise_multiplier=settings.noise_multiplier,
            max_grad_norm=settings.clip,
            expected_batch_size=None,
            loss_reduction="sum",
            generator=os_generator(),
            secure_mode=True,
        )

    def batches(self, n: int) -> Iterator[list[int]]:
        """The records of each step: each of n by itself with the public rate. A batch may be empty and is a step all the same."""
        from opacus.utils.uniform_sampler import UniformWithReplacementSampler

        if n == 0:  # a neighbour of one record: its steps look no different
            yield from ([] for _ in range(self._settings.steps))
            return
        sampler: Any = UniformWithReplacementSampler(
            num_samples=n,
            sample_rate=self._settings.rate,
            generator=os_generator(),
            steps=self._settings.steps,
        )
        yield from sampler

    def step(self, free: Tensor, clipped: Tensor) -> None:
        """Descend along free + (clipped + noise) / rate; both (P,), `clipped` by `clipped_gradient`. Raises as `release`."""
        self.descend(free + self.release(clipped) / self._settings.rate)

    def release(self, clipped: Tensor) -> Tensor:
        """(P,): `clipped`, by `clipped_gradient`, with noise of noise_multiplier * clip on each number. One of the steps.

        Raises:
            RefusedError: "budget-spent": all steps are done.
        """
        if self._left == 0:
            raise RefusedError(
                "budget-spent", "all agreed steps are done; the model is as good as it gets for this epsilon"
            )
        self._left -= 1
        for parameter, part in zip(self._parameters, self._pieces(clipped), strict=True):
            parameter.grad = part.clone()
        if not self._optimizer.pre_step():
            raise RuntimeError("the optimiser skipped a step that was accounted for")
        noisy = torch.cat([p.grad.flatten() for p in self._parameters if p.grad is not None])
        self._optimizer.zero_grad()
        return noisy

    def descend(self, gradient: Tensor) -> None:
        """One step of the optimiser along `gradient` (P,), which must not be computed from records but through `release`."""
        for parameter, part in zip(self._parameters, self._pieces(gradient), strict=True):
            parameter.grad = part.clone()
        self._optimizer.original_optimizer.step()
        self._optimizer.zero_grad()

    def _pieces(self, flat: Tensor) -> list[Tensor]:
        sizes = [parameter.numel() for parameter in self._parameters]
        return [
            piece.view_as(parameter)
            for piece, parameter in zip(torch.split(flat, sizes), self._parameters, strict=True)
        ]


def os_generator() -> torch.Generator:
    """A generator with a seed of the operating system's that nobody sees, not even this process again."""
    return torch.Generator().manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
