"""Models that speak of the same objects overlap, whatever their spread; those of which each finds the other's impossible do not."""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.measure.overlap import overlap

SAMPLES = 1000


def of_normals(*models: tuple[float, float]) -> Tensor:
    """(N, N + 1, S) log densities of normal models (mean, standard deviation) at each other's samples and their product's."""
    generator = torch.Generator().manual_seed(0)
    precision = sum(1 / s**2 for _, s in models)
    together = (sum(m / s**2 for m, s in models) / precision, precision**-0.5)
    drawn = [m + s * torch.randn(SAMPLES, generator=generator) for m, s in (*models, together)]
    return torch.stack([torch.stack([-(((x - m) / s) ** 2) / 2 for x in drawn]) for m, s in models])


def test_models_that_agree_overlap_however_sharp() -> None:
    found = overlap(of_normals((0.0, 1.0), (0.5, 0.1), (0.4, 3.0)))
    assert found.contradictions == []
    assert float(found.inside.diagonal().min()) > 0.98


def test_one_that_is_elsewhere_contradicts_the_others() -> None:
    found = overlap(of_normals((0.0, 1.0), (0.3, 1.0), (30.0, 1.0)))
    assert found.contradictions == [(0, 2), (1, 2)]
    assert float((found.own - found.of_product)[2]) > 40  # the product lies at 10


def test_a_model_that_never_was_where_the_product_lies_is_a_stranger() -> None:
    """A sure model draws the product to itself: the other, whose own objects are 30 away, is asked about what it never met."""
    assert overlap(of_normals((0.0, 1.0), (30.0, 0.1))).strangers == [0]
    assert overlap(of_normals((0.0, 1.0), (3.0, 0.1), (1.0, 2.0))).strangers == []


def test_a_constant_of_a_model_changes_nothing() -> None:
    log_prob = of_normals((0.0, 1.0), (3.0, 2.0))
    shifted = log_prob + torch.tensor([5e3, -7.0])[:, None, None]
    assert torch.allclose(overlap(log_prob).inside, overlap(shifted).inside, atol=0.01)


def test_models_a_few_nats_apart_do_not_contradict_one_another() -> None:
    """Each is sure of itself, as from few records, and neither finds the other's impossible."""
    assert overlap(of_normals((0.0, 1.0), (5.0, 1.0))).contradictions == []
    assert overlap(of_normals((0.0, 1.0), (9.0, 1.0))).contradictions == [(0, 1)]
