"""The cases of `epgfn bench truth`: studies at their defaults, each with its nodes' records, whose exact posterior is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tomli_w

from epgfn.bench.families import categorical, gaussian, mixed
from epgfn.bench.releases.studies import STUDIES
from epgfn.privacy.of_study.networks import DiscreteNetwork, GaussianNetwork
from epgfn.privacy.of_study.synthetic import worlds_of
from epgfn.study import Study

Floats = npt.NDArray[np.float64]
Records = Floats | npt.NDArray[np.int64]


class Case(NamedTuple):
    """`name` of its sort, the `study`, and `records` as `load_records` gives them, one a node of the roster. From whoever judges a
    `is_sampled` case the exact answer is withheld. `plain`: records that amount to the same and from which the exact answer is worked out,
    where those of the nodes are hard on arithmetic. `tables`: what nodes' records would amount to, in their place, of objects whose
    log-reward is a sum over parts (`epgfn.bench.separable`), however many objects there are. `possible`: whether a variable may have
    such parents, by their names, where the study rules some out; the exact answer is worked out with that alone. `families`: the
    log-likelihood (nats) of a variable given its parents at a node, all by their numbers, by arithmetic that shares nothing with the
    scores under test; the exact answer is worked out from it."""

    name: str
    study: Study
    records: list[Any]
    is_sampled: bool = False
    plain: list[Any] | None = None
    tables: Sequence[Floats] | None = None
    possible: Callable[[str, frozenset[str]], bool] | None = None
    families: Callable[[int, int, tuple[int, ...]], float] | None = None


Make = Callable[[int], Case]
"""From a number, the seed of everything that is drawn."""


def graphs(name: str, parts: Sequence[Records], more: str = "", variables: Sequence[str] = ()) -> Case:
    """A study of graphs that says nothing but its variables, and `more`."""
    told = variables or [f'{{ name = "v{j}", centre = 0, scale = 1 }}' for j in range(parts[0].shape[1])]
    text = f'name = "{name}"\nroster = {_roster(len(parts))}\nvariables = [{", ".join(told)}]\n{more}'
    return Case(name, Study.from_bytes(text.encode()), list(parts))


def world(seed: int) -> Case:
    """6 to 14 variables at 2 to 4 nodes, 50 to 500 records each, of one random linear network."""
    rng = np.random.default_rng(seed)
    mix, nodes = GaussianNetwork(6 + seed % 9, rng).mixing, 2 + int(rng.integers(3))
    return graphs(
        "worlds", [rng.normal(size=(int(rng.integers(50, 501)), len(mix))) @ mix for _ in range(nodes)]
    )


def by_edges(seed: int) -> Case:
    """The same of 4 to 8 variables, two nodes with 200 records each, grown by edges."""
    rng = np.random.default_rng(seed)
    mix = GaussianNetwork(4 + seed % 5, rng).mixing
    parts = [rng.normal(size=(200, len(mix))) @ mix for _ in range(2)]
    return graphs("by-edges", parts, '[space]\nkind = "dag-by-edges"\n')


def means(seed: int) -> Case:
    """Independent variables whose means differ from site to site: there is no edge to find."""
    rng = np.random.default_rng(seed)
    return graphs("means", [rng.normal(m, 1.0, (200, 6)) for m in (-0.8, 0.0, 0.8)])


def units(seed: int) -> Case:
    """Age, height and weight as they are measured, with centres that are off."""
    rng = np.random.default_rng(seed)
    records = rng.normal((66.0, 175.0, 82.0), (12.0, 10.0, 14.0), (1000, 3)) - (60.0, 170.0, 75.0)
    told = [f'{{ name = "{n}", centre = {c} }}' for n, c in (("age", 60), ("height", 170), ("weight", 75))]
    return graphs("units", [records], "space.max_parents = 2\n", told)


def scaled_column(seed: int) -> Case:
    """One of three files has a column in another unit."""
    parts = _eight(seed)
    parts[1][:, 3] *= 38.67
    return graphs("scaled-column", parts)


def codes(seed: int) -> Case:
    """Three cells of one file hold the code of a missing value."""
    parts = _eight(seed)
    for row, column in ((5, 1), (60, 4), (120, 4)):
        parts[2][row, column] = -999.0
    return graphs("codes", parts)


def repeated(seed: int) -> Case:
    """Each row three times, as in files of repeated measurements."""
    return graphs("repeated", [np.repeat(part, 3, axis=0) for part in _eight(seed)])


def offset(seed: int) -> Case:
    """A likelihood without a penalty, and columns that begin at 1.7e9, as times in seconds do."""
    rng = np.random.default_rng(seed)
    plain = rng.normal(size=(200, 6)) @ GaussianNetwork(6, rng).mixing
    case = graphs("offset", [plain + 1.7e9], 'target.kind = "profile-likelihood"\n')
    return case._replace(plain=[plain])


def many(seed: int) -> Case:
    """16 variables, which nobody who judges a model adds up over; the exact answer takes some minutes and a gigabyte."""
    rng = np.random.default_rng(seed)
    mix = GaussianNetwork(16, rng).mixing
    return graphs("many", [rng.normal(size=(int(rng.integers(100, 501)), 16)) @ mix for _ in range(2)])


def knowledge(seed: int) -> Case:
    """5 to 10 variables at three nodes with 50 to 300 records each; tiers, candidates, forbidden and required edges, and a root, that have
    nothing to do with what the records come from."""
    rng = np.random.default_rng(seed)
    mix = GaussianNetwork(5 + seed % 6, rng).mixing
    parts = [rng.normal(size=(int(rng.integers(50, 301)), len(mix))) @ mix for _ in range(3)]
    return _with_knowledge("knowledge", parts, rng)


def knowledge_by_edges(seed: int) -> Case:
    """The same of 4 or 5 variables, grown by edges."""
    rng = np.random.default_rng(seed)
    mix = GaussianNetwork(4 + seed % 2, rng).mixing
    parts = [rng.normal(size=(100, len(mix))) @ mix for _ in range(3)]
    return _with_knowledge("knowledge-by-edges", parts, rng, '[space]\nkind = "dag-by-edges"\n')


def _with_knowledge(name: str, parts: list[Floats], rng: np.random.Generator, more: str = "") -> Case:
    names = [f"v{j}" for j in rng.permutation(parts[0].shape[1])]
    root, required = names[0], (names[0], names[2])
    tiers = [names[:2], names[2:-1], names[-1:]]
    among = [names[0], *rng.choice(names[1:-1], 2, replace=False).tolist()]
    forbidden = [(names[1], names[2]), (names[2], names[1])]
    tier = {one: number for number, group in enumerate(tiers) for one in group}

    def possible(child: str, parents: frozenset[str]) -> bool:
        if child == root and parents:
            return False
        if child == names[-1] and not parents <= set(among):
            return False
        if child == required[1] and required[0] not in parents:
            return False
        return all(tier[one] <= tier[child] and (one, child) not in forbidden for one in parents)

    said = {
        "tiers": tiers,
        "candidates": {names[-1]: among},
        "forbidden": [list(edge) for edge in forbidden],
        "required": [list(required)],
        "roots": [root],
    }
    prior = tomli_w.dumps({"prior": said})
    return graphs(name, parts, more + prior)._replace(possible=possible)


def design(seed: int) -> Case:
    """5 to 10 variables at three nodes with 60 to 300 records each, a third of them with one variable set, and at two of the nodes a third
    with two others; perfect for even seeds. Half of what is set is constant."""
    rng = np.random.default_rng(seed)
    v, parts = 5 + seed % 6, list[Records]()
    weights = rng.normal(size=(v, v)) * np.tril(rng.random((v, v)) < 0.4, -1)
    order = rng.permutation(v)
    sets: list[list[int]] = [[], rng.choice(v, 1).tolist(), rng.choice(v, 2, replace=False).tolist()]
    perfect = seed % 2 == 0
    for node in range(3):
        n = int(rng.integers(60, 301))
        arms = np.arange(n) % (3 if node else 2)
        x = np.zeros((n, v))
        for place in range(v):
            j = order[place]
            x[:, j] = rng.normal(size=n) + x[:, order] @ weights[place]
            for arm, members in enumerate(sets):
                rows = arms == arm
                if j in members:
                    still = perfect and arm == 1
                    x[rows, j] = 1.5 if still else x[rows, j] * 0.3 + rng.normal(1.0, 1.0, int(rows.sum()))
        parts.append(np.column_stack([x, arms.astype(np.float64)]))
    said = tomli_w.dumps({"design": _design(sets, perfect)})
    case = graphs("design", parts, said, [f'{{ name = "v{j}", centre = 0, scale = 1 }}' for j in range(v)])

    return case._replace(
        families=_by_arms(parts, sets, perfect, lambda x, child, parents: gaussian(x, child, parents, v))
    )


def design_of_categories(seed: int) -> Case:
    """The same of 5 to 8 variables of two or three categories."""
    rng = np.random.default_rng(seed)
    sizes = tuple(map(int, rng.integers(2, 4, 5 + seed % 4)))
    network, sets, perfect = DiscreteNetwork(sizes, rng), [[], [0], [1, 2]], seed % 2 == 0
    parts = list[Records]()
    for node in range(3):
        x = network.draw(200, rng)
        arms = np.arange(200) % (3 if node else 2)
        for arm, members in enumerate(sets):
            for j in members:
                x[arms == arm, j] = rng.integers(0, sizes[j], int((arms == arm).sum()))
        parts.append(np.column_stack([x, arms]))
    told = [
        f'{{ name = "v{j}", categories = {[str(c) for c in range(size)]} }}' for j, size in enumerate(sizes)
    ]
    said = tomli_w.dumps({"target": {"kind": "bdeu"}, "design": _design(sets, perfect)})
    case = graphs("design-of-categories", parts, said, told)

    return case._replace(
        families=_by_arms(
            parts, sets, perfect, lambda x, child, parents: categorical(x, child, parents, sizes)
        )
    )


def shared(seed: int) -> Case:
    """5 to 10 variables at three nodes with 40 to 300 records each, whose means differ somewhat, one set of coefficients for all: against
    the distribution of all records at once."""
    rng = np.random.default_rng(seed)
    v = 5 + seed % 6
    mix = GaussianNetwork(v, rng).mixing
    parts = [rng.normal(size=(int(rng.integers(40, 301)), v)) @ mix + rng.normal(0, 0.2, v) for _ in range(3)]
    together = np.concatenate(parts)
    case = graphs("shared", parts, 'target.parameters = "shared"\n')
    return case._replace(families=_at_once(lambda child, parents: gaussian(together, child, parents, v)))


def shared_categories(seed: int) -> Case:
    """The same of 5 to 8 variables of two or three categories."""
    rng = np.random.default_rng(seed)
    sizes = tuple(map(int, rng.integers(2, 4, 5 + seed % 4)))
    network = DiscreteNetwork(sizes, rng)
    parts = [network.draw(int(rng.integers(40, 301)), rng) for _ in range(3)]
    together = np.concatenate(parts)
    told = [
        f'{{ name = "v{j}", categories = {[str(c) for c in range(size)]} }}' for j, size in enumerate(sizes)
    ]
    case = graphs("shared-categories", parts, 'target.kind = "bdeu"\ntarget.parameters = "shared"\n', told)
    return case._replace(
        families=_at_once(lambda child, parents: categorical(together, child, parents, sizes))
    )


SIZES = (40, 150, 600)
"""Records of three nodes of which two lack variables."""


def lacking(seed: int) -> Case:
    """5 to 8 variables at three nodes with 40, 150 and 600 records; one lacks two variables and one another or one of these, which have no
    effects (even seeds), or of which one is a cause of a single variable."""
    rng = np.random.default_rng(seed)
    v = 5 + seed // 2 % 4
    mix = GaussianNetwork(v, rng).mixing
    parts = [rng.normal(size=(int(n), v)) @ mix for n in rng.permutation(SIZES)]
    told = [f'{{ name = "v{j}", centre = 0, scale = 1 }}' for j in range(v)]
    return _lacking(
        "lacking", parts, rng, seed % 2 == 0, "", told, lambda x, j, parents: gaussian(x, j, parents, v)
    )


def lacking_categories(seed: int) -> Case:
    """The same of two or three categories."""
    rng = np.random.default_rng(seed)
    sizes = tuple(map(int, rng.integers(2, 4, 5 + seed // 2 % 4)))
    network = DiscreteNetwork(sizes, rng)
    parts = [network.draw(int(n), rng) for n in rng.permutation(SIZES)]
    told = [
        f'{{ name = "v{j}", categories = {[str(c) for c in range(size)]} }}' for j, size in enumerate(sizes)
    ]
    return _lacking(
        "lacking-categories",
        parts,
        rng,
        seed % 2 == 0,
        'target.kind = "bdeu"\n',
        told,
        lambda x, j, parents: categorical(x, j, parents, sizes),
    )


def _lacking(
    name: str,
    parts: list[Any],
    rng: np.random.Generator,
    without_effects: bool,
    more: str,
    told: Sequence[str],
    score: Callable[[Records, int, tuple[int, ...]], float],
) -> Case:
    """Of what a node has each variable is scored by the parents it has, of what it lacks nothing is."""
    v = parts[0].shape[1]
    order = rng.permutation(v).tolist()
    first, second, last, further = order[0], order[1], order[-1], order[-2]
    lacks = [[], [further, last], [last]] if without_effects else [[], [first, last], [first]]

    def possible(child: str, parents: frozenset[str]) -> bool:
        j, among = int(child[1:]), {int(parent[1:]) for parent in parents}
        if without_effects:
            return last not in among and (further not in among or j == last)
        return last not in among and not (j == first and among) and (first not in among or j == second)

    prior: dict[str, Any]
    if without_effects:
        prior = {"tiers": [[f"v{j}" for j in order[:-2]], [f"v{further}"], [f"v{last}"]]}
    else:
        others = [[f"v{first}", f"v{j}"] for j in order[2:]]
        prior = {"roots": [f"v{first}"], "leaves": [f"v{last}"], "forbidden": others}
    lacked = {f"n{node}": [f"v{j}" for j in which] for node, which in enumerate(lacks) if which}
    case = graphs(name, parts, more + tomli_w.dumps({"prior": prior, "data": {"lacks": lacked}}), told)
    seen = []
    for x, which in zip(parts, lacks, strict=True):
        seen.append(x.copy())
        seen[-1][:, which] = np.nan if np.issubdtype(x.dtype, np.floating) else -1

    def family(node: int, child: int, parents: tuple[int, ...]) -> float:
        if child in lacks[node]:
            return 0.0
        return score(parts[node], child, tuple(i for i in parents if i not in lacks[node]))

    return case._replace(records=seen, families=family, possible=possible)


def _at_once(
    score: Callable[[int, tuple[int, ...]], float],
) -> Callable[[int, int, tuple[int, ...]], float]:
    """As `Case.families`, of records that are scored together: the first node's is all of it."""
    return lambda node, child, parents: 0.0 if node else score(child, parents)


def _design(sets: Sequence[Sequence[int]], perfect: bool) -> dict[str, Any]:
    """The study's [design], in which arm number i sets the variables `sets[i]`."""
    told = {str(arm): [f"v{j}" for j in members] for arm, members in enumerate(sets)}
    return {"column": "arm", "kind": "perfect" if perfect else "imperfect", "sets": told}


def _by_arms(
    parts: Sequence[Records],
    sets: Sequence[Sequence[int]],
    perfect: bool,
    score: Callable[[Records, int, tuple[int, ...]], float],
) -> Callable[[int, int, tuple[int, ...]], float]:
    """As `Case.families`: the `score` in the rows in which the child was not set, and if not `perfect` in each arm that set it."""

    def family(node: int, child: int, parents: tuple[int, ...]) -> float:
        x, arms = parts[node][:, :-1], parts[node][:, -1]
        free = [arm for arm, members in enumerate(sets) if child not in members]
        own = [] if perfect else [[arm] for arm, members in enumerate(sets) if child in members]
        return sum(score(x[np.isin(arms, some)], child, parents) for some in [free, *own])

    return family


def categories(seed: int) -> Case:
    """4 to 8 categorical variables of 2 to 4 categories, two nodes with 300 records each, by BDeu."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 5, 4 + seed % 5)
    told = [
        f'{{ name = "v{j}", categories = [{", ".join(f"{c!r}" for c in map(str, range(size)))}] }}'
        for j, size in enumerate(sizes)
    ]
    network = DiscreteNetwork(tuple(map(int, sizes)), rng)
    parts = [network.draw(300, rng) for _ in range(2)]
    return graphs("categories", parts, 'target.kind = "bdeu"\n', told)


def mixed_columns(seed: int) -> Case:
    """5 to 7 variables at three nodes with 40 to 200 records each, about half of them of two or three categories: numbers follow categories
    and other numbers, with means, coefficients and noise of each category's own, and at each node somewhat differently; even seeds with the
    score whose groups differ in their means, odd ones with that whose groups have all their own."""
    rng = np.random.default_rng(seed)
    v = 5 + seed % 3
    sizes = [int(rng.integers(2, 4)) if j < v // 2 else 0 for j in range(v)]
    sizes = [sizes[j] for j in rng.permutation(v)]
    others, numbers = ([j for j in range(v) if bool(sizes[j]) is which] for which in (True, False))
    network = DiscreteNetwork(tuple(sizes[j] for j in others), rng)
    follows = {j: (rng.random(len(others)) < 0.5, rng.random(place) < 0.5) for place, j in enumerate(numbers)}
    weights = {j: 0.5 * rng.normal(size=(2, 3, v)) for j in numbers}
    parts = list[Records]()
    for _ in range(3):
        n = int(rng.integers(40, 201))
        x = np.zeros((n, v))
        x[:, others] = network.draw(n, rng)
        for place, j in enumerate(numbers):
            of, on = follows[j]
            x[:, j] = rng.normal(size=n) + rng.normal(0, 0.1)
            for i, there in zip(others, of, strict=True):
                kind = x[:, i].astype(int)
                x[:, j] = there * weights[j][0, kind, i] + x[:, j] * (1 + there * 0.4 * (kind == 1))
            for i, there in zip(numbers[:place], on, strict=True):
                slope = weights[j][1, x[:, others[0]].astype(int), i]
                x[:, j] += there * slope * x[:, i]
        parts.append(x)
    told = [
        f'{{ name = "v{j}", categories = {[str(c) for c in range(size)]} }}'
        if size
        else f'{{ name = "v{j}", centre = 0, scale = 1 }}'
        for j, size in enumerate(sizes)
    ]
    own = seed % 2 == 1
    score = f'target = {{ kind = "conditional-gaussian", covariance = "{"own" if own else "common"}" }}\n'
    case = graphs("mixed", parts, score, told)

    def possible(child: str, parents: frozenset[str]) -> bool:
        return not sizes[int(child[1:])] or all(sizes[int(parent[1:])] for parent in parents)

    return case._replace(
        possible=possible,
        families=lambda node, child, parents: mixed(parts[node], child, parents, sizes, own),
    )


def opposed(seed: int) -> Case:
    """Ten variables whose dependences are others at each of three sites."""
    rng = np.random.default_rng(seed)
    return graphs("opposed", [rng.normal(size=(400, 10)) @ GaussianNetwork(10, rng).mixing for _ in range(3)])


def multisets_opposed(seed: int) -> Case:
    """Three sites, each with records of a multiset of its own."""
    study, rng = (
        _study_of("multiset", 3).with_changes({"target": {"signal": 0.8}}),
        np.random.default_rng(seed),
    )
    parts = [worlds_of(study).draw(100, 1, rng)[0] for _ in study.roster]
    return Case("multisets-opposed", study, parts)


def multisets_skewed(seed: int) -> Case:
    """Five sites, each of which values two of ten kinds of items and no other, up to 7.5 nats an item: multisets of eight."""
    rng, kinds, size = np.random.default_rng(seed), 10, 8
    tables = [
        5 * (np.arange(kinds) % 5 == node)[:, None] * _items_valued(rng, kinds, size) for node in range(5)
    ]
    return _of_tables("multisets-skewed", _categories(kinds) + _multiset(size), tables)


def large_multiset(seed: int) -> Case:
    """20 of 30 kinds of items, values up to 1.5 nats: 3e13 objects."""
    table = _items_valued(np.random.default_rng(seed), 30, 20)
    return _of_tables("large-multiset", _categories(30) + _multiset(20), [table])


def large_sequence(seed: int) -> Case:
    """Up to 20 of six letters, 4e15 objects: weights of places up to 1, values of letters within 1 nat."""
    rng = np.random.default_rng(seed)
    table = np.outer(rng.uniform(0, 1, 20), rng.uniform(-1, 1, 6))
    return _of_tables(
        "large-sequence", _categories(6) + 'space = { kind = "sequence", max_length = 20 }\n', [table]
    )


def large_grid(seed: int) -> Case:
    """Eight variables of 16 places, 4e9 objects: along each a normal bump of a width of its own."""
    rng, places = np.random.default_rng(seed), np.linspace(0, 10, 16)
    table = -((places - rng.uniform(0, 10, (8, 1))) ** 2) / (2 * rng.uniform(1, 3, (8, 1)) ** 2)
    told = ", ".join(f'{{ name = "x{i}", lower = 0, upper = 10 }}' for i in range(8))
    return _of_tables(
        "large-grid", f'variables = [{told}]\nspace = {{ kind = "hypergrid", side = 16 }}\n', [table]
    )


def summed(kind: str) -> Make:
    """One of the kinds whose records add up, two nodes with 1,000 records each of one object."""

    def make(seed: int) -> Case:
        study = _study_of(kind, 2)
        return Case(kind, study, list(worlds_of(study).draw(1000, 2, np.random.default_rng(seed))))

    return make


def sampled(name: str, make: Make) -> Make:
    """The same with the exact answer withheld."""
    return lambda seed: make(seed)._replace(name=name, is_sampled=True)


CASES: dict[str, tuple[Make, int]] = {
    "worlds": (world, 30),
    "means": (means, 1),
    "units": (units, 1),
    "scaled-column": (scaled_column, 1),
    "codes": (codes, 1),
    "repeated": (repeated, 1),
    "offset": (offset, 1),
    "opposed": (opposed, 1),
    "many": (many, 2),
    "categories": (categories, 5),
    "by-edges": (by_edges, 5),
    "knowledge": (knowledge, 6),
    "knowledge-by-edges": (knowledge_by_edges, 2),
    "design": (design, 6),
    "design-of-categories": (design_of_categories, 5),
    "shared": (shared, 6),
    "shared-categories": (shared_categories, 5),
    "lacking": (lacking, 6),
    "lacking-categories": (lacking_categories, 6),
    "mixed": (mixed_columns, 5),
    "multiset": (summed("multiset"), 4),
    "multisets-opposed": (multisets_opposed, 4),
    "multisets-skewed": (multisets_skewed, 4),
    "large-multiset": (large_multiset, 3),
    "large-sequence": (large_sequence, 3),
    "large-grid": (large_grid, 3),
    "sequence": (summed("sequence"), 4),
    "grid": (summed("grid"), 4),
    "trees": (summed("trees"), 4),
    "worlds-sampled": (sampled("worlds-sampled", world), 9),
    "multiset-sampled": (sampled("multiset-sampled", summed("multiset")), 2),
    "grid-sampled": (sampled("grid-sampled", summed("grid")), 2),
    "trees-sampled": (sampled("trees-sampled", summed("trees")), 2),
}
"""How each sort is made, and how many of it there are."""


def _eight(seed: int) -> list[Floats]:
    rng = np.random.default_rng(seed)
    mix = GaussianNetwork(8, rng).mixing
    return [rng.normal(size=(200, 8)) @ mix for _ in range(3)]


def _of_tables(name: str, text: str, tables: Sequence[Floats]) -> Case:
    study = Study.from_bytes(f'name = "{name}"\nroster = {_roster(len(tables))}\n{text}'.encode())
    return Case(name, study, [[] for _ in tables], tables=tables)


def _items_valued(rng: np.random.Generator, kinds: int, size: int) -> Floats:
    """(kinds, size + 1): so many items of a kind are worth so many times a value of 0 to 1.5 nats."""
    return rng.uniform(0, 1.5, (kinds, 1)) * np.arange(size + 1)


def _categories(count: int) -> str:
    names = ", ".join(f'"k{number}"' for number in range(count))
    return f'variables = [{{ name = "seen", categories = [{names}] }}]\n'


def _multiset(size: int) -> str:
    return f'space = {{ kind = "multiset", size = {size} }}\n'


def _study_of(kind: str, nodes: int) -> Study:
    return Study.from_bytes(f'name = "{kind}"\nroster = {_roster(nodes)}\n{STUDIES[kind]}'.encode())


def _roster(nodes: int) -> str:
    return "[" + ", ".join(f'"n{number}"' for number in range(nodes)) + "]"
