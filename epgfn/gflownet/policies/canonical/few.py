"""Flows of two late variables at most, for all of them: those of more, which they need, are guessed from them."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from epgfn.gflownet.policies.canonical.cells import Cells, cells_of
from epgfn.gflownet.policies.canonical.corrections import log_flow
from epgfn.gflownet.policies.canonical.set_sums import SetSums
from epgfn.gflownet.policies.canonical.tables import WORST, Tables
from epgfn.gflownet.policies.canonical.walk import Walk

TIMES: Final = 3
"""How often flows at one t are worked out of one another. At first nobody but t takes a sink, and each time one more may before it."""
BLOCK: Final = 1 << 21


@torch.no_grad()
def prepared(sums: SetSums) -> Tables:
    tables = Tables(sums)
    v = sums.n_variables
    none, one, single, excess = tables.none, tables.one_late, tables.single, tables.excess
    place, at_once = torch.arange(v), max(1, BLOCK // v**2)
    for t in range(v - 1, -1, -1):
        none[t], one[t] = none[t + 1], one[t + 1]
        n = v - t - 1
        late = place[t + 1 :]
        one_at = late.repeat(2)
        pairs = torch.combinations(late, 2) if n > 1 and sums.max_parents > 1 else late.new_zeros(0, 2)
        members = (place < t).repeat(1 + 2 * n + len(pairs), 1)
        members[torch.arange(2 * n) + 1, one_at] = True
        sinks = torch.zeros_like(members)
        sinks[torch.arange(n) + 1 + n, late] = True
        both = torch.arange(len(pairs)) + 1 + 2 * n
        for i in range(2):
            members[both, pairs[:, i]] = True
            sinks[both, pairs[:, i]] = True
        e, f = pairs.T
        for _ in range(TIMES):
            parts = zip(torch.split(members, at_once), torch.split(sinks, at_once), strict=True)
            more = torch.cat([_more(tables, *part) for part in parts])
            none[t] = more[0]
            one[t, late] = (more[1 : n + 1] - more[0]).clamp(-WORST, 0.0)
            single[t, late] = (more[n + 1 : 2 * n + 1] - more[1 : n + 1]).clamp(-WORST, 0.0)
            cost = more[2 * n + 1 :] - none[t] - one[t, e] - one[t, f]
            apart = (cost - single[t, e] - single[t, f]).clamp(-WORST, 0.0)
            excess[t, e, f] = excess[t, f, e] = apart
    return tables


def _more(tables: Tables, members: Tensor, sinks: Tensor) -> Tensor:
    """(B,) log flow less that of going on in order, nothing to be covered."""
    cells: Cells = cells_of(Walk.at(tables, members, sinks))
    in_turn = (tables.of.log(cells.walk.own) * ~members).sum(1)
    return log_flow(cells, cells.base, cells.in_order) - in_turn
