"""The likelihood of a tree: equal to the sum over all ancestors, to a published value, and the product of its parts."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.spaces.phylogeny import Phylogeny, State
from epgfn.study.records.alignments import load_alignment, read_fasta
from epgfn.targets.jc69 import Jc69, simulate


def random_codes(n: int, sites: int, seed: int, known: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if known:
        return (1 << torch.randint(4, (n, sites), generator=generator)).to(torch.uint8)
    return torch.randint(1, 16, (n, sites), generator=generator).to(torch.uint8)


def by_all_ancestors(space: Phylogeny, state: State, row: int, codes: Tensor, branch: float) -> float:
    """log f(D | tree) as it is defined: each site's probability summed over all bases of all ancestors."""
    decay = math.exp(-4 * branch / 3)
    change = np.full((4, 4), (1 - decay) / 4) + np.eye(4) * decay
    parent: dict[int, int] = {}  # by leaf sets
    nodes = [int(node) for node in state.nodes[row, 1:]]
    for below in [*nodes, *space.leaves.tolist()]:
        above = [node for node in nodes if node & below == below and node != below]
        if above:
            parent[below] = min(above, key=lambda node: node.bit_count())
    root = next(node for node in nodes if node not in parent)
    total = 0.0
    for site in codes.T.tolist():
        probability = 0.0
        allowed = [[x for x in range(4) if code >> x & 1] for code in site]
        for ancestors in itertools.product(range(4), repeat=len(nodes)):
            bases = dict(zip(nodes, ancestors, strict=True))
            for tips in itertools.product(*allowed):
                every = bases | dict(zip(space.leaves.tolist(), tips, strict=True))
                term = 0.25
                for below, above in parent.items():
                    term *= change[every[above], every[below]]
                probability += term
        total += math.log(probability)
        assert root in bases
    return total


@pytest.mark.parametrize("branch", [0.02, 0.3, 2.0])
def test_pruning_is_the_sum_over_all_ancestors(branch: float) -> None:
    space, codes = Phylogeny(4), random_codes(4, 5, 1)
    trees = space.trees()
    found = Jc69(space, codes, branch).log_likelihood(trees)
    for row in range(len(trees.nodes)):
        assert float(found[row]) == pytest.approx(
            by_all_ancestors(space, trees, row, codes, branch), abs=1e-10
        )


def test_two_sequences_as_published() -> None:
    """Human and orangutan 12S rRNA: 90 of 948 sites differ, distance 0.1015, log likelihood -1710.58 (Yang,
    Computational Molecular Evolution, 2006, section 1.4.1). With the root between them, each branch is half."""
    codes = torch.ones(2, 948, dtype=torch.uint8)
    codes[1, :90] = 4
    found = Jc69(Phylogeny(2), codes, 0.1015 / 2).log_likelihood(Phylogeny(2).trees())
    assert float(found[0]) == pytest.approx(-1710.58, abs=0.005)


def test_one_site_by_hand() -> None:
    """A, A and C below ((0,1),2): the ancestor of 0 and 1 is A, C, G or T, and so is the root."""
    same, other = 0.25 + 0.75 * math.exp(-0.4), 0.25 - 0.25 * math.exp(-0.4)
    inner = [same**2, other**2, other**2, other**2]
    root = [
        sum((same if x == y else other) * inner[y] for y in range(4)) * (same if x == 1 else other)
        for x in range(4)
    ]
    codes = torch.tensor([[1], [1], [2]], dtype=torch.uint8)
    space = Phylogeny(3)
    trees = space.trees()
    row = space.decode(trees).index("((0,1),2);")
    found = Jc69(space, codes, 0.3).log_likelihood(trees)[row]
    assert float(found) == pytest.approx(math.log(sum(root) / 4), abs=1e-12)


@settings(max_examples=20)
@given(st.integers(2, 7), st.integers(1, 60), st.integers(1, 5), st.integers(0, 2**31))
def test_parties_likelihoods_multiply_to_the_whole(n: int, sites: int, parts: int, seed: int) -> None:
    space, codes = Phylogeny(n), random_codes(n, sites, seed)
    trees, whole = space.trees(), Jc69(space, codes, 0.1)
    cut = codes[:, torch.randperm(sites)].tensor_split(min(parts, sites), 1)
    product = sum(Jc69(space, part.contiguous(), 0.1).log_likelihood(trees) for part in cut)
    assert torch.allclose(whole.log_likelihood(trees), torch.as_tensor(product), atol=1e-9)


def test_what_says_nothing_changes_nothing() -> None:
    space, codes = Phylogeny(5), random_codes(5, 20, 3, known=True)
    gaps = torch.cat([codes, torch.full((5, 7), 15, dtype=torch.uint8)], 1)
    trees = space.trees()
    assert torch.allclose(
        Jc69(space, codes, 0.1).log_likelihood(trees), Jc69(space, gaps, 0.1).log_likelihood(trees)
    )


def test_the_likelihood_follows_the_names_not_the_rows() -> None:
    """Leaves renumbered and rows reordered alike: the same likelihoods, over all trees."""
    space, codes = Phylogeny(5), random_codes(5, 30, 4, known=True)
    shuffled = codes[[3, 0, 4, 1, 2]]
    first, second = (
        Jc69(space, c, 0.1).log_likelihood(space.trees()).sort().values for c in (codes, shuffled)
    )
    assert torch.allclose(first, second)


def test_sixty_four_leaves_do_not_underflow() -> None:
    space = Phylogeny(64)
    state = space.initial(2)
    for _ in range(63):
        state = space.step(state, space.forward_mask(state).to(torch.uint8).argmax(1))
    codes = random_codes(64, 10, 5, known=True)
    assert bool(torch.isfinite(Jc69(space, codes, 1e-4).log_likelihood(state)).all())


@pytest.mark.parametrize("branch", [0.0, -1.0, math.nan, math.inf, 11.0])
def test_impossible_branches_are_refused(branch: float) -> None:
    with pytest.raises(UsageError, match="branch length"):
        Jc69(Phylogeny(3), random_codes(3, 4, 0), branch)


def test_a_branch_too_short_for_the_data_is_said_so() -> None:
    codes = torch.tensor([[1], [2], [4]], dtype=torch.uint8)
    with pytest.raises(EpgfnError, match="no finite likelihood"):
        Jc69(Phylogeny(3), codes, 1e-300).log_likelihood(Phylogeny(3).trees())


def test_an_alignment_of_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match="3 sequences"):
        Jc69(Phylogeny(3), random_codes(4, 4, 0), 0.1)
    with pytest.raises(UsageError, match="one site"):
        Jc69(Phylogeny(3), random_codes(3, 0, 0), 0.1)


def test_fasta_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_bytes(b"\xef\xbb\xbf>b second\r\nACGU\r\n\r\n>a\nac\nN-\n>c\nRYk?\n")
    found = read_fasta(path)
    assert found.taxa == ("b", "a", "c")
    assert found.codes.tolist() == [[1, 2, 4, 8], [1, 2, 15, 15], [5, 10, 12, 15]]
    ordered = load_alignment(path, ["a", "b", "c"])
    assert ordered.taxa == ("a", "b", "c")
    assert ordered.codes[0].tolist() == [1, 2, 15, 15]


BAD = {
    "": "fewer than two",
    "ACGT\n": "not FASTA",
    ">a\nACGT\n": "fewer than two",
    ">a\nAC\n>\nAC\n": "record 2 has no name",
    ">a\nAC\n>a\nAC\n": "record 2 has the name of record 1",
    ">a\nAC\n>secret\nACG\n": "record 2 is not as long",
    ">a\nAC\n>secret\n": "record 2 has no sequence",
    ">a\nAC\n>secret\nAJ\n": "record 2, site 2",
    ">a\nAC\n>secret\nA\u00e9\n": "record 2, site 2",
    ">a\nAC\n>secret\nA\u4e2d\n": "record 2, site 2",
    ">a\nAC\n>b\nA.\n": "record 2, site 2",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_alignments_are_refused_by_place_not_by_content(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.fasta"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=BAD[text]) as refused:
        read_fasta(path)
    assert "secret" not in str(refused.value)


def test_bytes_that_are_no_text_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    with pytest.raises(UsageError):
        read_fasta(path)
    path.write_bytes(b"\xff\xfe>\x00a")
    with pytest.raises(UsageError, match="not FASTA"):
        read_fasta(path)


def test_the_studys_taxa_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "a.fasta"
    path.write_text(">a\nAC\n>secret\nAC\n")
    with pytest.raises(UsageError, match="taxon 'b' is missing"):
        load_alignment(path, ["a", "b"])
    with pytest.raises(UsageError, match="record 2 is not a taxon") as refused:
        load_alignment(path, ["a"])
    assert "secret" not in str(refused.value)


def test_what_the_model_evolves_it_recognises() -> None:
    """Of 105 trees the one the sites came from is the likeliest, and about as many sites differ as should."""
    space, generator = Phylogeny(5), torch.Generator().manual_seed(1)
    trees, row = space.trees(), 40
    codes = simulate(space, State(*(field[row:] for field in trees)), 4000, 0.2, generator)
    assert int(Jc69(space, codes, 0.2).log_likelihood(trees).argmax()) == row
    two = simulate(Phylogeny(2), Phylogeny(2).trees(), 20_000, 0.2, generator)
    expected = 0.75 * (1 - math.exp(-4 * 0.4 / 3))
    assert float((two[0] != two[1]).float().mean()) == pytest.approx(expected, abs=0.02)
