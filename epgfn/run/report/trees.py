"""Drawings of a posterior over trees: the majority-rule consensus with its supports, and the different trees over one another."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from epgfn.run.report.html import Markup, drawing, join, tag
from epgfn.run.report.text import number, short
from epgfn.study import Study

MAJORITY = 0.5
"""A clade is part of the consensus where it has a greater share."""
OVERLAID = 60
"""Different trees drawn over one another, the most frequent ones."""
FAINT = 0.002
"""A tree of a smaller share would not be seen."""
NAME = 24
STEP, WIDE, LETTER = 26.0, 520.0, 7.4
_TOKEN = re.compile(r"'(?:[^']|'')*'|[(),;]|[^(),;'\s]+")

Clade = frozenset[str]


class Node(NamedTuple):
    """A `clade` of leaves, and the nodes below it."""

    clade: Clade
    below: tuple[Node, ...]


def parsed(newick: str) -> Node:
    """A tree without branch lengths, as samples are written.

    Raises:
        ValueError: it is none.
    """
    stack: list[list[Node]] = [[]]
    for token in _TOKEN.findall(newick):
        if token == "(":
            stack.append([])
        elif token == ")":
            below = tuple(stack.pop())
            if not stack or not below:
                raise ValueError("not a tree")
            stack[-1].append(Node(frozenset().union(*(node.clade for node in below)), below))
        elif token not in ",;":
            name = token[1:-1].replace("''", "'") if token.startswith("'") else token
            stack[-1].append(Node(frozenset([name]), ()))
    if len(stack) != 1 or len(stack[0]) != 1:
        raise ValueError("not a tree")
    return stack[0][0]


def trees(study: Study, counts: Mapping[str, int]) -> Markup | str:
    """Both drawings, from texts of signed samples and how often each stands there; empty where there are none."""
    if not counts:
        return ""
    total = sum(counts.values())
    found = [
        (parsed(text), count / total)
        for text, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    ]
    share: dict[Clade, float] = {}
    for tree, weight in found:
        for clade in _inner(tree):
            share[clade] = share.get(clade, 0.0) + weight
    whole = found[0][0].clade
    consensus = _nested(whole, [clade for clade, p in share.items() if p > MAJORITY])
    order = _leaves(consensus, study.variable_names)
    parts = [_consensus(consensus, share, order, total, _unrooted(study))]
    if len(found) > 1:
        parts.append(_overlay(found, order))
    return join(parts)


def _unrooted(study: Study) -> bool:
    return study.kind.asked(study) == "split"


def _inner(tree: Node) -> list[Clade]:
    """Clades of two leaves or more."""
    if not tree.below:
        return []
    return [tree.clade, *(clade for node in tree.below for clade in _inner(node))]


def _nested(whole: Clade, clades: Sequence[Clade]) -> Node:
    """The tree that has just these clades, which must not cross."""
    inside = sorted(
        (clade for clade in clades if clade < whole), key=lambda clade: (-len(clade), sorted(clade))
    )
    below, left = [], set(whole)
    for clade in inside:
        if clade <= left:
            below.append(_nested(clade, inside))
            left -= clade
    leaves = [Node(frozenset([leaf]), ()) for leaf in sorted(left)] if len(whole) > 1 else []
    return Node(whole, (*below, *leaves))


def _leaves(tree: Node, names: Sequence[str]) -> list[str]:
    """From top to bottom: subtrees in the study's order of their first taxon."""
    if not tree.below:
        return list(tree.clade)
    first = {node: min(names.index(leaf) for leaf in node.clade) for node in tree.below}
    return [leaf for node in sorted(tree.below, key=lambda one: first[one]) for leaf in _leaves(node, names)]


def _consensus(
    tree: Node, share: Mapping[Clade, float], order: Sequence[str], total: int, unrooted: bool
) -> Markup:
    parts: list[Markup] = []

    def place(node: Node, start: float) -> float:
        """Draws it, from the branch's beginning `start`; how far down it stands."""
        x = _x(node, len(order))
        if node.below:
            ends = [place(below, x) for below in node.below]
            y = sum(ends) / len(ends)
            parts.append(tag("path", d=f"M{x:.1f} {min(ends):.1f}V{max(ends):.1f}", class_="tree"))
            if node.clade != tree.clade:
                text = f"{share[node.clade]:.2f}"
                parts.append(
                    tag("text", text, x=f"{x - 4:.1f}", y=f"{y - 4:.1f}", text_anchor="end", class_="support")
                )
        else:
            y = STEP * (order.index(next(iter(node.clade))) + 0.8)
        parts.append(tag("path", d=f"M{start:.1f} {y:.1f}H{x:.1f}", class_="tree"))
        return y

    place(tree, 4.0)
    clades = [(clade, p) for clade, p in share.items() if p > MAJORITY and clade != tree.clade]
    shown = "; ".join(
        f"{', '.join(sorted(clade))} {number(p)}" for clade, p in sorted(clades, key=lambda one: -one[1])[:12]
    )
    alt = f"Consensus tree with the share of trees that have each {'split' if unrooted else 'clade'}: {shown or 'none above one half'}."
    told = "" if clades else f" No {'split' if unrooted else 'clade'} is in more than half of them."
    root = (
        " It has no root: where it begins is arbitrary, and lengths mean nothing."
        if unrooted
        else " Lengths mean nothing."
    )
    caption = f"Majority-rule consensus of {total:,} signed trees; numbers are the share of trees that have what lies to their right."
    caption += told + root
    return _sheet(parts, order, alt, caption)


def _overlay(found: Sequence[tuple[Node, float]], order: Sequence[str]) -> Markup:
    parts: list[Markup] = []
    drawn = [(tree, share) for tree, share in found if share >= FAINT][:OVERLAID]
    for tree, share in reversed(drawn):
        steps: list[str] = []

        def place(node: Node, steps: list[str] = steps) -> tuple[float, float]:
            x = _x(node, len(order))
            if not node.below:
                return x, STEP * (order.index(next(iter(node.clade))) + 0.8)
            ends = [place(below) for below in node.below]
            y = sum(end[1] for end in ends) / len(ends)
            steps.extend(f"M{x:.1f} {y:.1f}L{end[0]:.1f} {end[1]:.1f}" for end in ends)
            return x, y

        place(tree)
        told = tag("title", number(share))
        parts.append(
            tag(
                "path",
                told,
                d="".join(steps),
                class_="overlay",
                stroke_opacity=f"{min(1.0, 0.08 + share):.3f}",
            )
        )
    alt = f"The {len(drawn)} most frequent different trees drawn over one another; the most frequent one has {number(found[0][1])}."
    caption = f"The {len(drawn)} most frequent of {len(found):,} different trees over one another, each as strong as its share."
    return _sheet(parts, order, alt, caption)


def _x(node: Node, n: int) -> float:
    return 24 + WIDE * (1 - (len(node.clade) - 1) / max(1, n - 1))


def _sheet(parts: Sequence[Markup], order: Sequence[str], alt: str, caption: str) -> Markup:
    labels = [
        tag("text", short(leaf, NAME), x=f"{WIDE + 32:.0f}", y=f"{STEP * (k + 0.8) + 4.5:.1f}", class_="leaf")
        for k, leaf in enumerate(order)
    ]
    width = WIDE + 44 + LETTER * max(len(short(leaf, NAME)) for leaf in order)
    return drawing(width, STEP * (len(order) + 0.6), alt, [*parts, *labels], caption, least=300)
