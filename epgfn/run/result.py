"""A finished run, as whoever reads its result wants it: `epgfn.load_run`.

    run = epgfn.load_run("runs/mine")
    run.table                        # pandas: edges, or clades, items, ..., with their probabilities
    run.model.probability("a is an ancestor of b")
    run.effects("smoking")["hba1c"]  # what would change in one variable if another were raised by one
    run.samples[:10]                 # objects as the coordinator published them
    run.audit.ok                     # what was sent, by whom: checked
    run.report()                     # the HTML report
    run.export("graphml")            # for other tools: epgfn.run.exports

Everything is read when it is first asked for, and only if it is still what the coordinator signed; whose key that is, and all else,
`audit` tells.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epgfn.base.errors import RefusedError, UsageError
from epgfn.run import layout
from epgfn.run.lacking import took_part, with_columns
from epgfn.run.layout import RunLayout
from epgfn.run.participant import run_directory
from epgfn.run.summary import COMPELLED, MARGINAL_SAMPLES, probabilities_of
from epgfn.study import Study
from epgfn.study.lacks import cautious, notes_of

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from epgfn.learn.effects import Effect
    from epgfn.learn.model import Model
    from epgfn.learn.samples import Samples
    from epgfn.run.audit.audit import AuditReport

MAX_SAMPLES_BYTES = 1 << 30
"""Of any study's samples.parquet."""
EDGE_LEAST = 0.05
"""As in `epgfn.learn.conversions`, which loads numpy."""


def load_run(path: Path | str) -> RunResult:
    """The run directory at `path`, made by `epgfn demo`, `epgfn simulate` or `epgfn-coordinator export`, or the copy of it that the node
    whose home lies at `path` has fetched.

    >>> run = epgfn.load_run("runs/first")
    >>> run
    Run of 'small': graphs over 3 variables, 2 nodes, in runs/first
    >>> run.study.roster
    ['north', 'south']
    >>> run.audit.ok
    True

    Raises:
        UsageError: no study lies there, or it is malformed, or it is the home of a node that has fetched no whole result.
    """
    root = run_directory(Path(path))
    study = RunLayout(root).study
    if not study.is_file():
        raise UsageError(
            f"{root} is no run directory: it has no {layout.STUDY}; epgfn demo, epgfn simulate and epgfn-coordinator export make one"
        )
    return RunResult(root, Study.load(study))


class RunResult:
    """What one run found, from its run directory at `path`; `study` is what it was about. Read-only, and lazy: see the module."""

    def __init__(self, path: Path, study: Study) -> None:
        self.path = path
        self.study = study

    def __repr__(self) -> str:
        kind, n = self.study.kind, len(self.study.variables)
        return f"Run of {self.study.name!r}: {kind.noun} over {n} {kind.components}, {len(self.study.roster)} nodes, in {self.path}"

    def __dir__(self) -> list[str]:
        # For completion: what there is to ask, without what Python adds.
        return sorted(name for name in (*vars(type(self)), "path", "study") if not name.startswith("_"))

    def _repr_html_(self) -> str:
        """For notebooks: the run in a line, and the most probable rows of its table."""
        import html

        rows = self.table.head(10).to_html(index=False, float_format=lambda p: f"{p:.3f}")
        said = "<br>".join(map(html.escape, filter(None, (repr(self), self.verdict, self.caveat))))
        return f"<p>{said}</p>{rows}"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """`global/summary.json` (docs/formats/run-directory.md); empty where there is none, or an earlier version did not sign it.

        >>> epgfn.load_run("runs/first").summary["variables"]
        ['a', 'b', 'c']

        Raises:
            UsageError: the file is no summary. RefusedError: it is not the one that the coordinator signed.
        """
        from epgfn.run.published import signed_summary

        return signed_summary(self.path) or {}

    @property
    def verdict(self) -> str | None:
        """The coordinator's grade of its model: "good", "usable after weighting" or "not to be relied on"; None without one. Where a
        `caveat` goes with the result, the grade is followed by what it is subject to."""
        found = (self.summary.get("diagnostics") or {}).get("trust") or {}
        grade = found.get("verdict")
        return (
            None if grade is None else cautious(self.study, str(grade), took_part(self.study, self.summary))
        )

    @property
    def caveat(self) -> str:
        """What the study accepts that may make probabilities wrong, whatever the verdict: which pairs are in doubt because a node lacks
        a variable, and which no node has both of; empty where there is nothing of the kind."""
        notes = notes_of(self.study, took_part(self.study, self.summary)) if self.study.data.lacks else []
        return " ".join(f"{note}." for note in notes)

    @cached_property
    def marginals(self) -> dict[str, float]:
        """The published probability of each edge ("a->b"), item, letter, coordinate or clade; the model's where nothing is published.

        >>> sorted(epgfn.load_run("runs/first").marginals)
        ['a->b', 'a->c', 'b->a', 'b->c', 'c->a', 'c->b']

        Raises:
            UsageError: there is no result. RefusedError: it is not what the coordinator signed.
        """
        from epgfn.run.published import NO_SUMMARY

        if not self.summary:
            return self.model.marginals(MARGINAL_SAMPLES)
        try:
            found = probabilities_of(self.summary)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(NO_SUMMARY.format(RunLayout(self.path).summary)) from None
        return {"->".join(name) if isinstance(name, tuple) else name: p for name, p in found.items()}

    @cached_property
    def table(self) -> pd.DataFrame:
        """`marginals` as a table, the most probable first. Of graphs: parent, child, `probability`, `adjacent` (an edge, whichever way)
        and, where it was published, `compelled` (the edge, and in all equivalent graphs); where nodes lack variables `seen_by`, how many
        nodes have both, and `in_doubt` (see `caveat`).

        >>> epgfn.load_run("runs/first").table.columns[:3].tolist()
        ['parent', 'child', 'probability']
        """
        import numpy as np

        from epgfn.learn.conversions import edge_rows, marginal_rows
        from epgfn.learn.trust import edge_matrix

        if not self.study.kind.has_edges:
            return marginal_rows(self.marginals, self.study.kind.asked(self.study))
        compelled = self.summary.get(COMPELLED)
        told = None if compelled is None else np.array(compelled, dtype=np.float64)
        rows = edge_rows(self.study.variable_names, np.array(edge_matrix(self.study, self.marginals)), told)
        return with_columns(rows, self.study, took_part(self.study, self.summary))

    @cached_property
    def model(self) -> Model:
        """The global model.

        Raises:
            UsageError: there is none. RefusedError: it is not the one that the coordinator signed.
        """
        from epgfn.run.model import load_model

        return load_model(self.path, self.study)

    @cached_property
    def samples(self) -> Samples:
        """The objects in `global/samples.parquet`, which the coordinator drew and signed.

        >>> epgfn.load_run("runs/first").samples.adjacency.shape
        (200, 3, 3)

        Raises:
            UsageError: there are none, or the file is none of samples. RefusedError: it is not the one that the coordinator signed.
        """
        from epgfn.run.published import read_signed, signed
        from epgfn.run.samples import published

        path = RunLayout(self.path).samples
        raw = read_signed(path, "samples", MAX_SAMPLES_BYTES, signed(self.path))
        try:
            return published(raw, self.study)
        except ValueError as error:
            raise RefusedError("malformed", f"{path} does not hold samples of this study: {error}") from None

    def sample(self, n: int, seed: int | None = None) -> Samples:
        """`n` further objects from the posterior as it was published (what `epgfn sample` gives): see `Model.sample`."""
        from epgfn.run.model import drawn_from

        return self.model.sample(n, seed, drawn_from(self.path)[0])

    def effects(self, of: str, n: int = 20_000, seed: int | None = 0) -> dict[str, Effect]:
        """What would change in each other variable if `of` were raised by one, by name: the posterior of the total causal effect, over `n`
        graphs as `Model.graphs` draws them and, given each, over coefficients. Means hold for linear relations without hidden common
        causes. For studies of numbers in which all sites share their parameters; see `epgfn.learn.effects.Effect`.

        Raises:
            UsageError: there is no such variable, or no effects can be told of this study; the sentence says why. RefusedError: what the
            result holds for it is not what its model was made of.
        """
        from epgfn.run.effects import effects_of

        return effects_of(self, of, n, seed)

    @cached_property
    def audit(self) -> AuditReport:
        """Every promise of the run, checked offline (`epgfn audit`): `audit.ok`, and `audit.findings` with a sentence each. To hold the
        coordinator's key against the fingerprint you were given, call `epgfn.audit_run` with it."""
        from epgfn.run.audit.audit import audit_run

        return audit_run(self.path)

    def report(self, out: Path | str | None = None) -> Path:
        """Write the HTML report to `out` (default: `global/report.html`); returns its path. See `epgfn.write_report`."""
        from epgfn.run.report import write_report

        return write_report(self.path, out=out)

    def export(self, to: str, out: Path | str | None = None, least: float = EDGE_LEAST) -> Path:
        """Write the result in another tool's format, as `epgfn export` does; its path. `to`: graphml, dot, bif, cpdag-csv, newick, nexus,
        parquet, jkl or arviz; `least`: the least probability of an edge that is drawn.

        >>> epgfn.load_run("runs/first").export("graphml", "edges.graphml").name
        'edges.graphml'

        Raises:
            UsageError: there is no such format, or it does not go with the study.
        """
        from epgfn.run.exports import Options, export

        return export(self, to, None if out is None else Path(out), Options(least=least))

    def to_pandas(self) -> pd.DataFrame:
        """A copy of `table`."""
        return self.table.copy()

    def to_networkx(self, least: float = EDGE_LEAST) -> nx.DiGraph:
        """Variables, and each edge whose published probability is at least `least`, as a networkx graph; the figures of `table` are the
        edges' attributes. Where both directions are probable both are there, so it may have cycles.

        >>> sorted(epgfn.load_run("runs/first").to_networkx().nodes)
        ['a', 'b', 'c']

        Raises:
            UsageError: the study is not about graphs.
        """
        from epgfn.learn.conversions import as_network

        if not self.study.kind.has_edges:
            raise UsageError("only a study of graphs is a network; see to_pandas")
        return as_network(self.table, self.study.variable_names, least)

    def to_inference_data(self, n: int = 1000, seed: int | None = 0, chains: int = 4) -> Any:
        """`n` objects as `sample` draws them, as ArviZ's InferenceData: see `Model.to_inference_data`."""
        from epgfn.learn.conversions import as_inference_data

        return as_inference_data(self.study, self.sample(n, seed), chains)


__all__ = ["RunResult", "load_run"]
