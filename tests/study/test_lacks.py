"""[data] lacks: what a node does without is refused where its records could show what no edge has made, and which pairs that is about."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.check import check_study
from epgfn.study.lacks import (
    cautious,
    caveat,
    doubted,
    doubts,
    nobody_saw,
    notes_of,
    of_node,
    seen_by,
    unseen,
)
from epgfn.study.records.tables import load_records

ACCEPTED = "accept_confounding = true"


def text(lacks: str, prior: str = "", more: str = "", names: str = "xyzw", data: str = "") -> str:
    told = ", ".join(f'{{name = "{n}", centre = 0, scale = 1, lower = -9, upper = 9}}' for n in names)
    return (
        f'name = "t"\nroster = ["a", "b", "c"]\nvariables = [{told}]\n{more}\nspace.max_parents = 2\n'
        f"[prior]\n{prior}\n[data]\nlacks = {{ {lacks} }}\n{data}\n"
    )


def study(*args: str, **kwargs: str) -> Study:
    return Study.from_bytes(text(*args, **kwargs).encode())


def by_names(one: Study, pairs: list[tuple[int, int]]) -> set[str]:
    return {one.variable_names[i] + one.variable_names[j] for i, j in pairs}


@pytest.mark.parametrize(
    "prior",
    [
        'leaves = ["w"]',
        'tiers = [["x", "y", "z"], ["w"]]',
        'forbidden = [["w", "*"]]',
        'roots = ["w"]\nforbidden = [["w", "x"], ["w", "y"]]',  # a cause of one variable alone joins nothing
        'required = [["x", "w"], ["y", "w"], ["z", "w"]]\nforbidden = []',
    ],
)
def test_what_has_no_effect_on_the_others_may_be_lacked(prior: str) -> None:
    more = {"prior": prior}
    if "required" in prior:  # three causes take max_parents = 3; then w cannot cause any of them
        found = Study.from_bytes(
            text('a = ["w"]', **more).replace("max_parents = 2", "max_parents = 3").encode()
        )
    else:
        found = study('a = ["w"]', **more)
    assert not doubts(found) and not notes_of(found) and cautious(found, "good") == "good"


@pytest.mark.parametrize(
    ("prior", "joined"),
    [
        ("", "x and y, or x and z, or y and z"),
        ('roots = ["w"]', "x and y, or x and z, or y and z"),
        ('roots = ["w"]\nforbidden = [["w", "z"]]', "x and y may"),
        ('tiers = [["x"], ["w"], ["y"]]\nforbidden = [["w", "z"], ["z", "w"]]', "x and y may"),  # between cause and effect
    ],
)  # fmt: skip
def test_what_may_join_two_others_is_refused_with_what_to_do(prior: str, joined: str) -> None:
    with pytest.raises(UsageError, match=f"a lacks 'w', through which {joined}.*accept_confounding = true"):
        study('a = ["w"]', prior)
    found = check_study(text('a = ["w"]', prior).encode())
    assert [m.where for m in found.mistakes] == ["data.lacks.a"]


def test_chains_of_lacked_variables_join_too() -> None:
    """v -> w, v -> x and w -> y: who lacks both v and w sees x and y depend, through a chain of them."""
    prior = 'candidates = { v = [], w = ["v"], x = ["v"], y = ["w", "x"] }'
    one = study('a = ["w"]', prior, names="vwxy", data=ACCEPTED)
    assert by_names(one, doubted(one)) == {"vy"}
    both = study('a = ["v", "w"]', prior, names="vwxy", data=ACCEPTED)
    assert by_names(both, doubted(both)) == {"xy"}
    sides = study('a = ["v"], b = ["w"]', prior, names="vwxy", data=ACCEPTED)
    assert {d.node: by_names(sides, d.joined) for d in doubts(sides)} == {"a": {"wx"}, "b": {"vy"}}


def test_an_instrument_is_in_doubt_with_the_outcome() -> None:
    """z -> x -> y with w a cause of x and y: without w, z and y depend whatever is given, and no edge joins them."""
    one = study('a = ["w"]', 'candidates = { w = [], z = [], x = ["z", "w"], y = ["x", "w"] }', data=ACCEPTED)
    (found,) = doubts(one)
    assert by_names(one, found.joined) == {"xy"}
    assert by_names(one, found.pairs) == {"xy", "yz"}
    apart = study('a = ["w"]', 'candidates = { w = [], z = [], x = ["z", "w"], y = ["w"] }', data=ACCEPTED)
    assert by_names(apart, doubts(apart)[0].pairs) == {
        "xy"
    }  # x is no cause of y: given nothing, z and y do not depend


@pytest.mark.parametrize("seed", range(12))
def test_doubted_pairs_are_those_that_no_set_separates(seed: int) -> None:
    """Against all sets to condition on, of one graph: where [prior] leaves only this graph or fewer edges, every pair of a subgraph that
    depends whatever the node conditions on and that no edge joins is among those in doubt."""
    rng = np.random.default_rng(seed)
    names = "uvwxyz"
    order = rng.permutation(6)
    edges = {(int(order[i]), int(order[j])) for i, j in combinations(range(6), 2) if rng.random() < 0.45}
    lacked = set(rng.choice(6, 2, replace=False).tolist())
    candidates = ", ".join(
        f"{names[j]} = [{', '.join(repr(names[i]) for i, k in sorted(edges) if k == j)}]" for j in range(6)
    )
    one = Study.from_bytes(
        text(f"a = {[names[j] for j in sorted(lacked)]}", f"candidates = {{ {candidates} }}", names=names, data=ACCEPTED)
        .replace("max_parents = 2", "max_parents = 5")
        .encode()
    ) if any(i not in lacked and j not in lacked for i, j in edges) else None  # fmt: skip
    if one is None:
        return
    held = [j for j in range(6) if j not in lacked]
    wanted = set()
    listed = sorted(edges)
    for kept in range(1 << len(listed)) if len(listed) <= 8 else rng.integers(0, 1 << len(listed), 256):
        graph = {edge for bit, edge in enumerate(listed) if int(kept) >> bit & 1}
        for a, b in combinations(held, 2):
            if {(a, b), (b, a)} & graph:
                continue
            others = [j for j in held if j not in (a, b)]
            sets = [set(s) for size in range(len(others) + 1) for s in combinations(others, size)]
            if not any(_separated(graph, a, b, given) for given in sets):
                wanted.add((a, b))
    assert wanted <= set(doubted(one))
    if (
        len(listed) <= 8
    ):  # all subgraphs were looked at; what is in doubt beyond them is doubted for safety alone
        assert bool(wanted) == bool(doubted(one))


def _separated(graph: set[tuple[int, int]], a: int, b: int, given: set[int]) -> bool:
    """By the moral graph of the ancestors (Lauritzen et al. 1990)."""
    ancestors, more = set(), {a, b, *given}
    while more:
        ancestors |= more
        more = {i for i, j in graph if j in ancestors} - ancestors
    inside = {(i, j) for i, j in graph if j in ancestors}
    joined = inside | {(i, k) for i, j in inside for k, other in inside if j == other and i != k}
    reached, more = set(), {a}
    while more:
        reached |= more
        more = {y for i, j in joined for x, y in ((i, j), (j, i)) if x in reached} - reached - given
    return b not in reached


@pytest.mark.parametrize(
    ("lacks", "more", "data", "said"),
    [
        ('d = ["w"]', "", "", "'d' is not in the roster"),
        ('a = ["v"]', "", "", "'v' is no variable of the study"),
        ('a = ["w", "w"]', "", "", "'w' is listed twice"),
        ('a = ["w"], b = ["w"], c = ["w"]', "", "", "no node has 'w'"),
        ('a = ["x", "y", "z"]', "", "", "a: has no two variables"),
        ('a = ["w"]', 'target.parameters = "shared"', "", "do not add up"),
        ('a = ["w"]', 'privacy = { mode = "statistic", epsilon = 4.0, delta = 1e-5 }', "", "every node has to have every variable"),
        ('a = ["w"]', "", 'missing = "impute"', "take data.missing = 'complete-rows'"),
        ("", "", ACCEPTED, "goes with data.lacks"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(lacks: str, more: str, data: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        study(lacks, 'leaves = ["w"]', more, data=data)


def test_who_sees_which_pair_and_that_nobody_sees_one() -> None:
    one = study('a = ["w"], b = ["z"], c = ["z"]', 'leaves = ["w", "z"]\nforbidden = [["z", "w"]]')
    seen = seen_by(one)
    assert (seen[0][1], seen[0][3], seen[0][2], seen[2][3]) == (3, 2, 1, 0)
    assert unseen(one) == []  # no edge may be there
    two = study('a = ["w"], b = ["z"], c = ["z"]', 'tiers = [["x", "y"], ["z", "w"]]', data=ACCEPTED)
    assert unseen(two) == [(2, 3)]
    assert "No node has both z and w: no record says anything" in nobody_saw(two)
    assert seen_by(two, ["b", "c"])[0][2] == 0  # of those who took part


def test_a_caveat_names_pairs_and_nodes_and_counts_only_who_took_part() -> None:
    one = study('a = ["w"]', 'roots = ["w"]\nforbidden = [["w", "z"], ["z", "*"]]', data=ACCEPTED)
    assert caveat(one).startswith(
        "In doubt: 1 pair of variables (x and y). What a node lacks (a lacks w) may be a common cause"
    )
    assert cautious(one, "good") == "good, if no variable that a node lacks joins two that it has"
    assert caveat(one, ["b", "c"]) == "" and cautious(one, "good", ["b", "c"]) == "good"
    assert "every pair of variables" not in caveat(study('a = ["w"]', data=ACCEPTED))


def test_a_node_reads_its_file_without_what_it_lacks(tmp_path: Path) -> None:
    one = study('a = ["w"]', 'leaves = ["w"]')
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 3))
    path = tmp_path / "a.csv"
    path.write_text("z,x,y\n" + "\n".join(",".join(f"{v:.4f}" for v in row) for row in rows) + "\n")
    found = load_records(path, one, "a")
    assert np.isnan(found[:, 3]).all() and np.allclose(found[:, [2, 0, 1]], rows, atol=1e-4)
    assert of_node(one, "a").variable_names == ["x", "y", "z"] and of_node(one, "b") is one
    with pytest.raises(UsageError, match="'w'"):
        load_records(path, one, "b")
    blank = path.read_text().replace("z,x,y", "z,x,y,w").splitlines()
    path.write_text("\n".join([blank[0], *(f"{line},NA" for line in blank[1:])]) + "\n")
    assert np.isnan(load_records(path, one, "a")[:, 3]).all()  # a column that is not read may be anything


def test_the_part_of_a_study_that_a_node_has() -> None:
    one = study(
        'a = ["w"]',
        'tiers = [["x"], ["y", "z"], ["w"]]\nrequired = [["x", "y"]]\nedge_probabilities = [["x", "w", 0.9]]',
        'target = { alpha_w = 9.5 }\ndesign = { column = "arm", sets = { usual = [], b = ["w"], c = ["z", "w"] } }',
    )
    part = of_node(one, "a")
    assert part.target.alpha_w == 8.5 and part.design.sets == {"usual": [], "b": [], "c": ["z"]}
    assert part.prior.candidates == {"x": [], "y": ["x", "z"], "z": ["x", "y"]}
    assert part.prior.required == [("x", "y")] and not part.prior.edge_probabilities and not part.data.lacks
    undesigned = of_node(
        study('a = ["w"]', 'leaves = ["w"]', 'design = { column = "arm", sets = { u = [], s = ["w"] } }'), "a"
    )
    assert undesigned.design.column is None
