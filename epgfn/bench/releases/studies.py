"""Whole studies of every kind: records as their likelihood draws them, the node's own release, and models as their settings train them.

The posterior of several nodes is that of the sum of what they say. Settings of training are those that a study of the kind gets
(`epgfn.study.kinds`); for graphs those of `epgfn.bench.releases.trained`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from epgfn.bench.releases.measure import Ask, Errors, Measure
from epgfn.privacy.of_study.releases import Released, maker_of
from epgfn.privacy.of_study.synthetic import worlds_of
from epgfn.study import Study

Train = Callable[[Study, list[Released], Tensor, int], float]
"""A study, its nodes' releases, what all records together say exactly (nats) and a seed -> L1 of a model trained on the releases."""

_LOOPS = """[training]
steps = 600
batch = 256
learning_rate = 3e-3
temperature = 2.0
[aggregation]
steps = 600
batch = 256
learning_rate = 3e-3
"""
_LETTERS = 'variables = [{{ name = "seen", categories = [{}] }}]\n'
_ITEMS = _LETTERS.format(", ".join(f'"{name}"' for name in "abcde"))
_WORDS = _LETTERS.format('"a", "b", "c", "d"')
_POINTS = 'variables = [{ name = "x", lower = 0, upper = 10 }, { name = "y", lower = 0, upper = 10 }]\n'
_TAXA = "variables = [" + ", ".join(f'{{ name = "t{i}" }}' for i in range(5)) + "]\n"
_NETWORK = "variables = [{}]\n".format(
    ", ".join(
        f'{{ name = "v{i}", categories = [{", ".join(f"{c!r}" for c in map(str, range(r)))}] }}'
        for i, r in enumerate((2, 3, 2, 3, 2))
    )
)
STUDIES = {
    "multiset": _ITEMS + 'space = { kind = "multiset", size = 6 }\ntarget.signal = 0.06\n',
    "sequence": _WORDS + 'space = { kind = "sequence", max_length = 3 }\ntarget.signal = 0.2\n',
    "grid": _POINTS + 'space = { kind = "hypergrid", side = 12 }\ntarget.sigma = 20.0\n',
    "trees": _TAXA + 'space = { kind = "phylogeny" }\ntarget.branch_length = 0.9\n',
    "categories": _NETWORK + f'space.max_parents = 4\ntarget.kind = "bdeu"\n{_LOOPS}',
}
"""210 multisets of 6 items of 5 kinds; 85 sequences of up to 3 of 4 letters; 144 points; 105 trees of 5 taxa; 29,281 graphs of five
variables of 2 or 3 categories. An object explains little of a record (6 and 20 per cent; a standard deviation of twice the box; long
branches), so that 2,000 of them leave the posterior wide."""


GRADIENT = """rate = 0.9
clip = 10.0
[policy]
hidden = 64
[training]
steps = 300
batch = 64
learning_rate = 0.01
exploration = 0.3
"""
"""Settings of DP-SGD for 2,000 records, chosen on worlds 5000 to 5003; the clip has no effect where values are public."""


def study_of(kind: str, ask: Ask, mode: str = "") -> Study:
    """One of `STUDIES` with so many nodes, each of which releases as asked, by the kind's mechanism or by `mode`."""
    names = ", ".join(f'"n{number}"' for number in range(ask.nodes))
    mode = mode or ("statistic" if kind == "categories" else "answers")
    privacy = f'[privacy]\nmode = "{mode}"\nepsilon = {ask.epsilon!r}\ndelta = {ask.delta!r}\n'
    more = GRADIENT if mode == "gradient" else ""
    return Study.from_bytes(
        f'name = "{kind}"\nroster = [{names}]\nseed = 1\n{STUDIES[kind]}{privacy}{more}'.encode()
    )


def release(ask: Ask, *, kind: str, mode: str = "", train: Train | None = None) -> Measure:
    """L1 of the posterior from the releases, and with `train` that of the model trained on them. Under `gradient` a release is a
    model."""
    study = study_of(kind, ask, mode)
    worlds, maker = worlds_of(study), maker_of(study, study.roster[0])

    def measure(seed: int) -> Errors:
        sites = worlds.draw(ask.records, ask.nodes, np.random.default_rng(seed))
        exact = [worlds.exact(records) for records in sites]
        done = [maker.finish(maker.observe(worlds.bounded(records))) for records in sites]
        p, q = worlds.posterior(exact), worlds.posterior([worlds.released(each) for each in done])
        if p.objects is None or q.objects is None:
            raise ValueError("the objects of these studies are listed")
        errors = Errors(float(np.abs(p.objects - q.objects).sum()))
        if study.kind.has_edges:
            wrong = np.abs(p.answers - q.answers)
            errors = errors._replace(
                edge_mean=float(wrong.mean()),
                edge_max=float(wrong.max()),
                edge_null=float(p.answers.mean()),
            )
        if train is None:
            return errors
        return errors._replace(trained=train(study, done, torch.stack(exact).sum(0), seed))

    return measure
