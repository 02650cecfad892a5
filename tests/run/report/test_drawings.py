"""What the report draws is what was counted: supports of trees, shares of classes, how far two computations are apart."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kinds
from epgfn.run.pairs import Pair
from epgfn.run.report.agreement import agreement
from epgfn.run.report.frequent import most_frequent_graphs
from epgfn.run.report.heatmap import block_order
from epgfn.run.report.network import network
from epgfn.run.report.run import read_run
from epgfn.run.report.trees import parsed, trees
from epgfn.study import Study
from report_run import make_run


def test_a_consensus_has_the_clades_of_most_trees_with_their_shares() -> None:
    study = kinds.study("phylogeny")
    counts = {"(((ape,bat),cat),dog);": 6, "(((ape,bat),dog),cat);": 3, "((ape,cat),(bat,dog));": 1}
    html = trees(study, counts)
    consensus = html.split("</figure>")[0]
    assert sorted(re.findall(r'class="support">([.\d]+)<', consensus)) == ["0.60", "0.90"]
    assert "ape, bat 0.900; ape, bat, cat 0.600" in consensus
    assert re.findall(r'class="leaf">(\w+)<', consensus) == ["ape", "bat", "cat", "dog"]
    assert html.count('class="overlay"') == 3
    even = trees(study, {"(((ape,bat),cat),dog);": 1, "((ape,cat),(bat,dog));": 1})
    assert "No clade is in more than half of them" in even


def test_trees_with_quoted_names_are_read() -> None:
    tree = parsed("(('it''s','b_c'),d,e);")
    assert {frozenset(node.clade) for node in tree.below} == {
        frozenset({"it's", "b_c"}),
        frozenset("d"),
        frozenset("e"),
    }
    for broken in ("((a,b);", "(a,b));", "();", "a,b;"):
        with pytest.raises(ValueError, match="not a tree"):
            parsed(broken)


def test_equivalent_graphs_count_as_one_class() -> None:
    counts = {"a->b": 3, "b->a": 2, "a->c;b->c": 4, "": 1}
    graphs, classes = most_frequent_graphs(counts, ["a", "b", "c"], 2)
    assert graphs.different == 4 and [one.share for one in graphs.first] == pytest.approx(
        [0.4, 0.3, 0.2, 0.1]
    )
    assert classes.different == 3 and [one.share for one in classes.first] == pytest.approx([0.5, 0.4, 0.1])
    assert [set(one.marks) for one in classes.first] == [{"a – b"}, {"a → c", "b → c"}, set()]


def test_variables_that_are_adjacent_stand_together() -> None:
    edges = np.zeros((6, 6))
    for i, j in ((0, 3), (3, 5), (1, 4), (4, 2)):
        edges[i, j] = 0.9
    order = block_order(edges)
    assert sorted(order) == list(range(6))
    assert {frozenset(order[:3]), frozenset(order[3:])} == {frozenset({0, 3, 5}), frozenset({1, 4, 2})}


def test_two_computations_that_disagree_are_counted(tmp_path: Path, small_study: Study) -> None:
    run = read_run(make_run(tmp_path / "run", small_study))
    assert run.edges is not None
    assert "no difference is larger than chance" in agreement(
        replace(run, counts={"a->b;c->b": 900, "": 100}, edges=_edges(0.9))
    )
    assert "2 differ by more than chance" in agreement(
        replace(run, counts={"a->b;c->b": 900, "": 100}, edges=_edges(0.5))
    )
    assert agreement(replace(run, counts={})) == ""


def _edges(p: float) -> np.ndarray:
    edges = np.zeros((3, 3))
    edges[0, 1] = edges[2, 1] = p
    return edges


def test_what_can_be_told_is_an_arrow_and_as_wide_as_it_is_probable() -> None:
    html = network(
        ["a", "b", "c", "d"],
        [Pair("a", "b", 1.0, 0.9, True), Pair("b", "c", 0.5, 0.3, False), Pair("a", "c", 0.05, 0.05, False)],
    )
    assert html.count("<polygon") == 1 and html.count('class="told"') == 1 and html.count('class="open"') == 1
    assert sorted(re.findall(r'stroke-width="([.\d]+)"', html)) == ["3.5", "6.0"]
    assert html.count('class="name"') == 4
