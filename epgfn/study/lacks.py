"""Which variables a node does not have: [data] lacks of a study of graphs, and what that does to the result (docs/mathematics.md, "What a
node lacks").

A node's records are scored for the part of a graph that lies over the variables it has. That is what a whole graph says of them unless a
lacked variable may lead from one of the node's variables to another, or to two of them: then the records can show a dependence that no
edge of the graph has made, and the product blames it on one. A study in which that may be is refused, unless it accepts it; what it then
says of these pairs is in doubt, and every place that shows the result says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import tomli_w

from epgfn.study.knowledge import knowledge_of
from epgfn.study.missing import category_of_blanks
from epgfn.study.mistakes import Mistake, did_you_mean, require_none
from epgfn.study.records.names import listed

if TYPE_CHECKING:
    from epgfn.study import Study

MOST_NAMED: Final = 4
"""Pairs that a sentence names; the report has all of them."""
IF: Final = "if no variable that a node lacks joins two that it has"
"""What a verdict on a result with doubted pairs is subject to."""
PRIVATE: Final = (
    "with privacy.mode other than 'none' every node has to have every variable: a release's claim is checked as one of all of the study's "
    "columns; take it out, or use privacy.mode = 'none'"
)
SHARED: Final = (
    "with target.parameters = 'shared' every node has to have every variable: the statistics of nodes with other columns do not add up to "
    "one of all records; take target.parameters = 'own'"
)
IMPUTED: Final = (
    "blanks are filled in together with graphs over all variables, of which a node that lacks some has none; take data.missing = "
    "'complete-rows'"
)

Pair = tuple[int, int]
"""Two variables by their numbers, the smaller first."""


class Doubt(NamedTuple):
    """`joined`: pairs of variables that a node has and that may be joined through some that it lacks. `pairs`: those and all others of its
    variables that its records may show as dependent, whatever is conditioned on, though no edge joins them."""

    node: str
    joined: list[Pair]
    pairs: list[Pair]


def lacked_by(study: Study, node: str | None) -> list[str]:
    """The names of the variables that a node does not have, in the study's order; none for nobody in particular."""
    lacked = study.data.lacks.get(node, []) if node is not None else []
    return [name for name in study.variable_names if name in lacked]


def held_by(study: Study, node: str) -> list[int]:
    """The numbers of the variables that a node has."""
    lacked = set(study.data.lacks.get(node, []))
    return [number for number, name in enumerate(study.variable_names) if name not in lacked]


def of_node(study: Study, node: str | None) -> Study:
    """The study over the variables that a node has, as its file is read and scored by; the study itself where it lacks none."""
    return over_held(study, tuple(lacked_by(study, node)))


def over_held(study: Study, lacked: Sequence[str]) -> Study:
    """The study without the variables `lacked`: what is known of the others' edges stays, and probabilities of edges go, which belong to
    the whole study."""
    return _over_held(study.raw, tuple(lacked)) if lacked else study


@lru_cache(maxsize=64)
def _over_held(raw: bytes, lacked: tuple[str, ...]) -> Study:
    from epgfn.study.study import Study, parsed

    whole, values = Study.from_bytes(raw), parsed(raw)
    held = [name for name in whole.variable_names if name not in lacked]
    values["variables"] = [v for v, name in zip(values["variables"], whole.variable_names, strict=True) if name in held]  # fmt: skip
    values["space"] = {**values.get("space", {}), "max_parents": min(whole.space.max_parents, len(held) - 1)}
    degrees = getattr(whole.target, "alpha_w", None)
    if degrees is not None:  # of a block of the precision's prior, as many fewer as it has fewer variables
        numbers = sum(v.is_number for v in whole.variables if v.name in lacked)
        values["target"] = {**values["target"], "alpha_w": degrees - numbers}
    values["prior"] = _known_of(whole, held)
    data = {key: v for key, v in values.get("data", {}).items() if key not in ("lacks", "accept_confounding")}
    if data.get("missing") == "category" and not any(
        category_of_blanks(v) is not None for v in whole.variables if v.name in held
    ):
        del data["missing"]
    values["data"] = data
    if whole.design.column is not None:
        sets = {arm: [name for name in names if name in held] for arm, names in whole.design.sets.items()}
        if any(sets.values()):
            values["design"] = {**values["design"], "sets": sets}
        else:  # nothing that the node has was ever set, so its column of arms says nothing
            del values["design"]
            values["data"]["extra_columns"] = "ignore"
    return Study.from_bytes(tomli_w.dumps(values).encode("utf-8"))


def _known_of(study: Study, held: list[str]) -> dict[str, Any]:
    """[prior] of a study over `held`: which of their edges cannot be there and which have to, or nothing where that leaves no choice."""
    known, names = knowledge_of(study), study.variable_names
    if known is None:
        return {}
    edges = {(names[i], names[j]) for i, j in known.required if names[i] in held and names[j] in held}
    parents = {
        child: [p for p in held if p != child and (names.index(p), names.index(child)) not in known.barred]
        for child in held
    }
    if sum(map(len, parents.values())) == len(edges):
        return {}
    return {"candidates": parents, "required": [list(edge) for edge in sorted(edges)]}


def check_lacks(study: Study) -> None:
    """Raises:
    Mistakes: nodes or variables that there are not, a study that cannot have it, or pairs that a lacked variable may join where that is
        not accepted.
    """
    lacks, where, names = study.data.lacks, "data.lacks", study.variable_names
    if not lacks:
        if study.data.accept_confounding:
            what = "goes with data.lacks, which says which node does not have which variables; take it out"
            require_none([Mistake("data.accept_confounding", what)])
        return
    if not study.kind.has_edges:
        what = "says which variables a node does not have, which studies of graphs alone can do without; take it out"
        require_none([Mistake(where, what)])
    found = [
        Mistake(where, f"'{node}' is not in the roster{did_you_mean(node, study.roster)}")
        for node in lacks
        if node not in study.roster
    ]
    for node, lacked in lacks.items():
        for name in lacked:
            if name not in names:
                found.append(Mistake(f"{where}.{node}", f"'{name}' is no variable of the study{did_you_mean(name, names)}"))  # fmt: skip
        twice = sorted({name for name in lacked if lacked.count(name) > 1})
        found += [Mistake(f"{where}.{node}", f"'{name}' is listed twice") for name in twice]
    require_none(found)
    if study.privacy.is_private:
        found.append(Mistake(where, PRIVATE))
    if getattr(study.target, "parameters", "own") == "shared":
        found.append(Mistake(where, SHARED))
    if study.data.missing == "impute":
        found.append(Mistake(where, IMPUTED))
    for name in names:
        if all(name in lacks.get(node, []) for node in study.roster):
            found.append(Mistake(where, f"no node has '{name}'; take it out of the study"))
    known = knowledge_of(study)
    settled = set[Pair]() if known is None else {*known.barred, *known.required}
    for node in lacks:
        held = held_by(study, node)
        if len(held) < 2 or all((i, j) in settled for i in held for j in held if i != j):
            what = "has no two variables between which an edge is in question, so its records say nothing; leave the node out"
            found.append(Mistake(f"{where}.{node}", what))
    require_none(found)
    if study.columns.mixed:
        require_none(_mixtures(study))
    if not study.data.accept_confounding:
        require_none(_refused(study, doubt) for doubt in doubts(study))


def _mixtures(study: Study) -> Iterator[Mistake]:
    """Where categories and numbers are scored together, what is left of a number when a category that it follows is not there is a mixture
    of normal distributions, which no score here is of; so what is lacked has no effect on what is there."""
    may, names = _possible(study), study.variable_names
    for node in study.data.lacks:
        held = held_by(study, node)
        lacked = [i for i in range(len(names)) if i not in set(held)]
        found = [(i, j) for i in lacked for j in held if may[i][j]]
        if found:
            i, j = found[0]
            what = (
                f"{node} lacks '{names[i]}', which may have an effect on '{names[j]}', and where categories and numbers are scored "
                "together what a lacked variable leaves is no distribution that the score is of; say under [prior] that what is lacked has "
                "no effect on what the node has (leaves, a last tier, or forbidden edges), or leave the node or the variable out"
            )
            yield Mistake(f"data.lacks.{node}", what)


def _refused(study: Study, doubt: Doubt) -> Mistake:
    lacked = listed([f"'{name}'" for name in lacked_by(study, doubt.node)])
    joined = pairs_in_words(study, doubt.joined)
    what = (
        f"{doubt.node} lacks {lacked}, through which {joined} may depend on each other without an edge between them (a common cause, or "
        "something between cause and effect): its records show that as an edge, and no weighting of the nodes puts it right. If the "
        "lacked variables have no effect on what the node has, say so under [prior] (leaves, a last tier, or forbidden edges); else take "
        "them out of the study, or leave the node out; or set data.accept_confounding = true, and every result will say which pairs are "
        "in doubt"
    )
    return Mistake(f"data.lacks.{doubt.node}", what)


def doubts(study: Study, nodes: Iterable[str] | None = None) -> list[Doubt]:
    """Of each of `nodes` (default: the roster) whose records may show what no edge has made; none of others."""
    chosen = study.roster if nodes is None else list(nodes)
    lacking = [node for node in study.data.lacks if node in chosen and study.data.lacks[node]]
    found = []
    for node in sorted(lacking, key=study.roster.index):
        joined, pairs = _in_doubt(_possible(study), held_by(study, node))
        if joined:
            found.append(Doubt(node, joined, pairs))
    return found


def doubted(study: Study, nodes: Iterable[str] | None = None) -> list[Pair]:
    """All pairs that are in doubt by anybody's records."""
    return sorted({pair for doubt in doubts(study, nodes) for pair in doubt.pairs})


def seen_by(study: Study, nodes: Iterable[str] | None = None) -> list[list[int]]:
    """[i][j]: how many of `nodes` (default: the roster) have both variables."""
    held = [set(held_by(study, node)) for node in (study.roster if nodes is None else nodes)]
    numbers = range(len(study.variables))
    return [[sum(i in one and j in one for one in held) for j in numbers] for i in numbers]


def unseen(study: Study, nodes: Iterable[str] | None = None) -> list[Pair]:
    """Pairs that an edge may join and that nobody has both of."""
    seen, known = seen_by(study, nodes), knowledge_of(study)
    barred = set() if known is None else set(known.barred)
    pairs = combinations(range(len(study.variables)), 2)
    return [(i, j) for i, j in pairs if not seen[i][j] and not {(i, j), (j, i)} <= barred]


def pairs_in_words(study: Study, pairs: Sequence[Pair], most: int = MOST_NAMED) -> str:
    """ "a and b", "a and b, or c and d", and how many more there are."""
    names = study.variable_names
    said = [f"{names[i]} and {names[j]}" for i, j in pairs[:most]]
    more = len(pairs) - most
    if more > 0:
        return f"{', or '.join(said)} (and {more} more pair{'s' if more > 1 else ''})"
    return ", or ".join(said)


def in_words(study: Study) -> str:
    """Who lacks what, for people; empty where nobody lacks anything."""
    said = [f"{node} lacks {listed(lacked_by(study, node))}" for node in study.data.lacks if study.data.lacks[node]]  # fmt: skip
    return "; ".join(said)


def caveat(study: Study, nodes: Iterable[str] | None = None) -> str:
    """What has to be said with every result of a study that accepts confounding, without its full stop; empty where nothing is in doubt.
    `nodes`: whose models the result is made of (default: the roster)."""
    found = doubts(study, nodes)
    if not found:
        return ""
    pairs = doubted(study, nodes)
    v, one = len(study.variables), len(pairs) == 1
    what = (
        "every pair of variables"
        if len(pairs) == v * (v - 1) // 2
        else f"{len(pairs)} pair{'' if one else 's'} of variables ({pairs_in_words(study, pairs)})"
    )
    who = "; ".join(f"{doubt.node} lacks {listed(lacked_by(study, doubt.node))}" for doubt in found)
    return (
        f"In doubt: {what}. What a node lacks ({who}) may be a common cause of two variables, or lie between cause and effect, and that "
        "node's records show it as an edge; so edges there, and others into these variables, may be more or less probable than they should "
        "be, by how much no figure here shows. The study accepts that (data.accept_confounding)"
    )


def nobody_saw(study: Study, nodes: Iterable[str] | None = None) -> str:
    """Pairs of which no record says anything, without a full stop; empty where there are none."""
    pairs = unseen(study, nodes)
    if not pairs:
        return ""
    return (
        f"No node has both {pairs_in_words(study, pairs)}: no record says anything of an edge there, and its probability is what [prior] "
        "and the rest of the graph leave to it"
    )


def notes_of(study: Study, nodes: Iterable[str] | None = None) -> list[str]:
    """What to say beside a result, or before anybody takes part: `caveat` and `nobody_saw`, where there is something to say."""
    said = (caveat(study, nodes), nobody_saw(study, nodes)) if study.data.lacks else ()
    return [text for text in said if text]


def cautious(study: Study, verdict: str, nodes: Iterable[str] | None = None) -> str:
    """A grade of a model, with what it is subject to."""
    return f"{verdict}, {IF}" if doubts(study, nodes) else verdict


def _possible(study: Study) -> list[list[bool]]:
    """[i][j]: whether some graph of the study may have i -> j, as far as single edges tell. More than there are do no harm: then more is in
    doubt."""
    v, known = len(study.variables), knowledge_of(study)
    may = [[i != j for j in range(v)] for i in range(v)]
    if known is None:
        return may
    for i, j in known.barred:
        may[i][j] = False
    required = [[(i, j) in known.required for j in range(v)] for i in range(v)]
    before = _closed(required)
    for j in range(v):
        full = sum(required[i][j] for i in range(v)) >= study.space.max_parents
        for i in range(v):
            if before[j][i] or (full and not required[i][j]):
                may[i][j] = False
    return may


def _closed(edges: list[list[bool]]) -> list[list[bool]]:
    """[i][j]: whether a path of one edge or more leads from i to j."""
    v = len(edges)
    found = [row.copy() for row in edges]
    for k in range(v):
        for i in range(v):
            if found[i][k]:
                found[i] = [one or other for one, other in zip(found[i], found[k], strict=True)]
    return found


def _in_doubt(may: list[list[bool]], held: list[int]) -> tuple[list[Pair], list[Pair]]:
    """`Doubt.joined` and `Doubt.pairs` of a node that has the variables `held`.

    Joined are ends of an edge that leaving out the others may add to the graph (Verma's latent projection): i -> lacked -> ... -> j, or
    i <- ... <- lacked -> ... -> j. A pair cannot be told from one with an edge if an inducing path may lead from one to the other (Verma &
    Pearl 1990): all between are colliders on it, and causes of one of its ends.
    """
    v = len(may)
    lacked = [i for i in range(v) if i not in set(held)]
    through = [[may[i][j] and j in lacked for j in range(v)] for i in range(v)]
    to_lacked = _closed(through)  # i -> lacked -> ... -> lacked
    effects = {
        cause: {j for j in held if may[cause][j] or any(to_lacked[cause][k] and may[k][j] for k in lacked)}
        for cause in lacked
    }
    directed = {(i, j) for i in held for cause in lacked if may[i][cause] for j in effects[cause] if i != j}
    common = {(i, j) for cause in lacked for i in effects[cause] for j in effects[cause] if i != j}
    joined = sorted({(min(pair), max(pair)) for pair in directed | common})
    causes = _closed(may)

    def induced(a: int, b: int) -> bool:
        if {(a, b), (b, a)} & (directed | common):
            return True
        between = {m for m in held if m not in (a, b) and (causes[m][a] or causes[m][b])}
        first = {
            m for m in between if (a, m) in common or ((may[a][m] or (a, m) in directed) and causes[m][b])
        }
        last = {
            m for m in between if (b, m) in common or ((may[b][m] or (b, m) in directed) and causes[m][a])
        }
        if any((a, m) in common or (b, m) in common for m in first & last):
            return True
        reached = {m for m in between if any((f, m) in common for f in first)}
        while more := {m for m in between - reached if any((r, m) in common for r in reached)}:
            reached |= more
        return bool(reached & last)

    return joined, [(a, b) for a, b in combinations(held, 2) if joined and induced(a, b)]
