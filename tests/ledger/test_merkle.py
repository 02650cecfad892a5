"""The log's proofs: what RFC 6962 says holds is accepted, everything else is refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epgfn.base.errors import RefusedError
from epgfn.ledger import merkle
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.merkle import MerkleTree, verify_consistency, verify_inclusion


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of RFC 6962 section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def leaves_of(count: int) -> list[bytes]:
    return [merkle.leaf_hash(str(i).encode()) for i in range(count)]


SIZES = st.integers(1, 70)


def test_published_values_of_rfc_6962_trees() -> None:
    # The test tree of the Certificate Transparency reference implementation.
    entries = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    leaves = [merkle.leaf_hash(bytes.fromhex(entry)) for entry in entries]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    assert [merkle.root(leaves[: n + 1]).hex() for n in range(8)] == roots
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(size=SIZES, data=st.data())
def test_every_true_statement_is_accepted_and_equals_the_definition(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(1, size))
    assert merkle.root(leaves) == naive_root(leaves)
    proof = merkle.inclusion_proof(leaves, index)
    assert proof == naive_path(index, leaves)
    verify_inclusion(leaves[index], index, size, proof, naive_root(leaves))
    chain = merkle.consistency_proof(leaves, first)
    assert chain == naive_subproof(first, leaves)
    verify_consistency(first, size, naive_root(leaves[:first]), naive_root(leaves), chain)


@given(size=SIZES, earlier=SIZES)
def test_a_grown_tree_still_proves_its_earlier_sizes(size: int, earlier: int) -> None:
    earlier = min(earlier, size)
    tree, leaves = MerkleTree(leaves_of(size)), leaves_of(size)
    assert tree.root(earlier) == naive_root(leaves[:earlier])
    assert tree.inclusion_proof(earlier - 1, earlier) == naive_path(earlier - 1, leaves[:earlier])


def mutations(proof: list[bytes], data: st.DataObject) -> list[bytes]:
    """A proof that is another one in length or in one bit."""
    kind = data.draw(
        st.sampled_from(["flip", "drop", "add", "duplicate", "short", "swap"] if proof else ["add"])
    )
    at = data.draw(st.integers(0, max(len(proof) - 1, 0)))
    changed = list(proof)
    if kind == "flip":
        changed[at] = bytes([changed[at][0] ^ (1 << data.draw(st.integers(0, 7)))]) + changed[at][1:]
    elif kind == "drop":
        del changed[at]
    elif kind == "add":
        changed.insert(data.draw(st.integers(0, len(proof))), data.draw(st.binary(min_size=32, max_size=32)))
    elif kind == "duplicate":
        changed.insert(at, changed[at])
    elif kind == "short":
        changed[at] = changed[at][:31]
    else:
        changed = changed[::-1]
        if changed == proof:
            changed.append(proof[-1])
    return changed


@given(size=SIZES, data=st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(leaves, index), merkle.root(leaves)
    with pytest.raises(LedgerError):
        verify_inclusion(leaves[index], index, size, mutations(proof, data), root)
    with pytest.raises(LedgerError):
        verify_inclusion(merkle.leaf_hash(b"another"), index, size, proof, root)
    with pytest.raises(LedgerError):
        verify_inclusion(leaves[index], index, size, proof, merkle.leaf_hash(b"another"))
    other = data.draw(st.integers(0, size + 2).filter(lambda i: i != index))
    with pytest.raises(LedgerError):
        verify_inclusion(leaves[index], other, size, proof, root)


@given(size=SIZES, data=st.data())
def test_a_changed_consistency_proof_is_refused(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    first = data.draw(st.integers(1, size))
    old, new = merkle.root(leaves[:first]), merkle.root(leaves)
    proof = merkle.consistency_proof(leaves, first)
    other = merkle.leaf_hash(b"another")
    for wrong in [
        (first, size, old, new, mutations(proof, data)),
        (first, size, other, new, proof),
        (first, size, old, other, proof),
        (size + 1, size, old, new, proof),
        (0, size, merkle.EMPTY_ROOT, new, proof),
        (0, size, merkle.EMPTY_ROOT, new, []),
    ]:
        with pytest.raises(LedgerError):
            verify_consistency(*wrong)
    if first < size:
        with pytest.raises(LedgerError):
            verify_consistency(first, size, new, old, proof)
        with pytest.raises(LedgerError):
            verify_consistency(first, size, old, new, [])


ROOT = merkle.root(leaves_of(3))
LEAF = leaves_of(1)[0]


@pytest.mark.parametrize(
    "arguments",
    [
        (LEAF, 0, 0, [], merkle.EMPTY_ROOT),
        (LEAF, 1, 1, [], LEAF),
        (LEAF, -1, 1, [], LEAF),
        (LEAF, True, 1, [], LEAF),
        (LEAF, 0, 1, [], LEAF[:31]),
        (LEAF[:31], 0, 1, [], LEAF),
        (LEAF, 0, 1, [LEAF], LEAF),
        (LEAF, 0, 1, None, LEAF),
        (LEAF, 0, 1, b"", LEAF),
        (LEAF, 0, 3, [LEAF, LEAF, LEAF], ROOT),
        ("text", 0, 1, [], LEAF),
        (LEAF, 0.0, 1, [], LEAF),
    ],
)
def test_unfit_arguments_of_an_inclusion_proof_are_refused_not_crashed_on(
    arguments: tuple[object, ...],
) -> None:
    with pytest.raises(LedgerError) as refused:
        verify_inclusion(*arguments)  # type: ignore[arg-type]
    assert isinstance(refused.value, RefusedError) and refused.value.reason == "ledger"


@pytest.mark.parametrize(
    "arguments",
    [
        (0, 0, merkle.EMPTY_ROOT, merkle.EMPTY_ROOT, []),
        (3, 3, ROOT, LEAF, []),
        (3, 3, ROOT, ROOT, [LEAF]),
        (3, 2, ROOT, ROOT, []),
        (1, 2, LEAF, ROOT, [LEAF[:31]]),
        (1, 2, LEAF, ROOT, None),
        (-1, 2, LEAF, ROOT, [LEAF]),
        (1, 2, LEAF.hex(), ROOT, [LEAF]),
    ],
)
def test_unfit_arguments_of_a_consistency_proof_are_refused_not_crashed_on(
    arguments: tuple[object, ...],
) -> None:
    with pytest.raises(LedgerError):
        verify_consistency(*arguments)  # type: ignore[arg-type]


def test_equal_sizes_with_equal_roots_are_consistent() -> None:
    verify_consistency(3, 3, ROOT, ROOT, [])
