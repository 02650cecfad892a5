"""Which edges of a graph may be there, and which have to be: the one place from which spaces, scores and chains know impossible graphs.

A variable's parents are admissible if they hold all that are required of it and nothing that is not allowed. Where the required edges have
no cycle and are allowed, every such graph is built from the graph of required edges by adding edges, and is taken apart into it again: no
state in between is a dead end.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.parent_sets import parent_sets


class EdgeRules(NamedTuple):
    """`allowed` and `required` (V, V) bool, [i, j] the edge i -> j. What is required is allowed too, and no variable is its own parent."""

    allowed: Tensor
    required: Tensor

    @classmethod
    def none(cls, n_variables: int) -> EdgeRules:
        """Every edge may be there, and none has to."""
        own = torch.eye(n_variables, dtype=torch.bool)
        return cls(~own, torch.zeros_like(own))

    def admissible(self, sets: Tensor) -> Tensor:
        """(V, K) bool: which of (K, V) bool sets may be each variable's parents."""
        held = sets.float()
        barred, missing = held @ (~self.allowed).float(), (1 - held) @ self.required.float()
        return ((barred + missing) == 0).T.contiguous()

    def admits(self, adjacency: Tensor) -> Tensor:
        """(B,) bool: whether (B, V, V) bool graphs hold all that is required and nothing that is not allowed."""
        return ~((adjacency & ~self.allowed) | (~adjacency & self.required)).flatten(1).any(1)

    def check(self, n_variables: int, max_parents: int) -> None:
        """Raises:
        ValueError: no graph keeps the rules.
        """
        shape = (n_variables, n_variables)
        if self.allowed.shape != shape or self.required.shape != shape:
            raise ValueError("needs rules for edges between its own variables")
        own = torch.eye(n_variables, dtype=torch.bool, device=self.allowed.device)
        if bool(((self.required & ~self.allowed) | (self.allowed & own)).any()):
            raise ValueError("has an edge that is required and not allowed, or of a variable to itself")
        if bool((self.required.sum(0) > max_parents).any()):
            raise ValueError("has more parents required of a variable than it may have")
        left = torch.ones(n_variables, dtype=torch.bool, device=self.allowed.device)
        for _ in range(n_variables):
            left = left & (self.required & left[:, None]).any(0)
        if bool(left.any()):
            raise ValueError("has required edges that form a cycle")


class RuledDags:
    """What spaces of graphs share: V = `n_variables`, fan-in at most `max_parents`; graphs that do not keep `rules` are no part of them."""

    def __init__(self, n_variables: int, max_parents: int, rules: EdgeRules | None = None) -> None:
        if n_variables < 2 or not 1 <= max_parents < n_variables:
            raise ValueError("needs at least 2 variables and a fan-in of 1 to V - 1")
        if rules is not None:
            rules.check(n_variables, max_parents)
        self.n_variables, self.max_parents, self.rules = n_variables, max_parents, rules

    @cached_property
    def parents(self) -> Tensor:
        """(K, V) bool: membership of each parent set."""
        return parent_sets(self.n_variables, self.max_parents)

    @cached_property
    def admissible(self) -> Tensor:
        """(V, K) bool: which sets may be each variable's parents; never those that hold it."""
        return ~self.parents.T if self.rules is None else self.rules.admissible(self.parents)

    @property
    def fewest_edges(self) -> Tensor:
        """(V, V) bool: the graph that holds no edge but the required ones."""
        return EdgeRules.none(self.n_variables).required if self.rules is None else self.rules.required
