"""With many records scores lie far below their rows' maxima, and still no nat of them is lost on the way from node to result."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from epgfn.learn.aggregate import GlobalResult, train_global
from epgfn.learn.exact import exact_of_table
from epgfn.learn.local import train_local
from epgfn.learn.policy import validate_policy
from epgfn.learn.scores import score_table
from epgfn.sealing.model_file import read_model, write_model
from epgfn.study import Study

STUDY = Study.from_bytes(
    b'name = "many"\nroster = ["north", "south"]\nvariables = [VARIABLES]\nspace.max_parents = 2\n'.replace(
        b"VARIABLES", ", ".join(f'{{ name = "v{j}", centre = 0, scale = 1 }}' for j in range(3)).encode()
    )
)
RECORDS = 300_000


def site(seed: int) -> torch.Tensor:
    """A pair of columns that say nearly the same, and a third that is weakly theirs: 2.9 nats of mutual information a record."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=RECORDS)
    second = first + 0.05 * rng.normal(size=RECORDS)
    return torch.from_numpy(np.c_[first, second, 0.5 * rng.normal(size=RECORDS) + 0.003 * second])


SITES = {node: site(seed) for seed, node in enumerate(STUDY.roster)}


@pytest.fixture(scope="module")
def models() -> dict[str, dict[str, torch.Tensor]]:
    return {node: train_local(STUDY, x, seed=seed).tensors for seed, (node, x) in enumerate(SITES.items())}


@pytest.fixture(scope="module")
def result(models: dict[str, dict[str, torch.Tensor]]) -> GlobalResult:
    return train_global(STUDY, models, seed=1)


def test_what_is_published_is_the_posterior_and_the_signed_file_says_the_same(result: GlobalResult) -> None:
    table = torch.stack([score_table(STUDY, x, 2) for x in SITES.values()]).sum(0)
    truth = exact_of_table(STUDY, table)
    assert truth is not None
    assert any(0.02 < p < 0.98 for p in truth.probabilities.values()), "else nothing would be tested"
    metadata = {"study_digest": STUDY.digest, "role": "global"}
    tensors, _ = read_model(write_model(result.tensors, metadata))
    again = exact_of_table(STUDY, tensors["score_table"])
    assert again is not None
    for name, p in truth.probabilities.items():
        assert result.judged.probabilities[name] == pytest.approx(p, abs=1e-6)
        assert again.probabilities[name] == pytest.approx(p, abs=1e-6)


def test_the_model_itself_is_right_too(result: GlobalResult) -> None:
    assert result.judged.trust["verdict"] == "good"
    assert result.judged.trust["exact_largest_error"] < 0.03


def test_models_of_before_with_scores_in_float32_are_taken_as_they_are(
    models: dict[str, dict[str, torch.Tensor]],
) -> None:
    older = {name: tensor.float() for name, tensor in models["north"].items()}
    validate_policy(STUDY, older)
    brief = STUDY.with_changes({"aggregation": {"steps": 2}})
    assert train_global(brief, {"north": older, "south": models["south"]}, seed=1).history
