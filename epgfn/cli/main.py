"""`epgfn`: run a study on this machine, draw from a published posterior, and check what was sent."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from epgfn.base.console import interrupt_on_signals, run_app, say
from epgfn.base.errors import UsageError
from epgfn.cli.bench import app as bench_app
from epgfn.cli.ledger import app as ledger_app
from epgfn.cli.privacy import app as privacy_app
from epgfn.cli.study import app as study_app

app = typer.Typer(
    name="epgfn",
    help="One Bayesian posterior over discrete structures from private data sets that never leave their institutions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(bench_app)
app.add_typer(ledger_app)
app.add_typer(privacy_app)
app.add_typer(study_app)


def _run_directory(path: Path) -> Path:
    """Of a node's home the copy of the run that it has fetched."""
    from epgfn.run.participant import run_directory

    return run_directory(path)


RunDir = Annotated[
    Path,
    typer.Argument(
        help="A run directory made by `epgfn demo` or `epgfn-coordinator export`, or the home of a node that has fetched the result.",
        callback=_run_directory,
    ),
]
MAX_POLICY_BYTES = 1 << 20
MOST_CERTAIN = 12
"""Certain marginals that are named."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


def _say_whether_signed(run_dir: Path) -> None:
    """To whoever is shown what a directory says, where no signature stands behind it."""
    from epgfn.run.published import signed

    if run_dir.is_dir() and signed(run_dir) is None:
        say(f"Nothing in {run_dir} is signed: nobody vouches for what it says.", err=True)


class Format(StrEnum):
    """File formats of `epgfn sample`."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


class ExportFormat(StrEnum):
    """Formats of `epgfn export`: the names in `epgfn.run.exports.EXPORTS`."""

    csv = "csv"
    graphml = "graphml"
    dot = "dot"
    bif = "bif"
    cpdag_csv = "cpdag-csv"
    newick = "newick"
    nexus = "nexus"
    parquet = "parquet"
    jkl = "jkl"
    arviz = "arviz"


@app.command()
def demo(
    nodes: Annotated[int, typer.Option(help="How many institutions.")] = 4,
    out: Annotated[
        Path | None, typer.Option(help="Run directory to make (default: runs/demo-<time>).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and of the training.", min=0)] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="Train briefly: every step of the procedure, a poor posterior.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole study on this machine, on real data, and compare it with the exact posterior.

    One coordinator and several nodes as processes of their own, over real mTLS. About three minutes on two cores.

    Example: epgfn demo --nodes 4 --out runs/first
    """
    from epgfn.demo.demo import run_demo

    target = out or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    figures = run_demo(nodes, target, seed, quiet=False, quick=quick)
    _tell(figures, as_json)


@app.command()
def simulate(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    more: Annotated[list[Path] | None, typer.Argument(help="Further data files.", show_default=False)] = None,
    data: Annotated[
        list[Path] | None, typer.Option(help="Data files, one per node, in the order of the roster.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory to make (default: runs/<study>-<time>).")
    ] = None,
    accept_warnings: Annotated[
        bool, typer.Option("--accept-warnings", help="Train in spite of loud warnings about the records.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run your own study on this machine, one data file per node.

    Example: epgfn simulate study.toml --data north.csv south.csv --out runs/mine
    """
    from epgfn.demo.demo import run_study
    from epgfn.study import Study

    loaded = Study.load(study)
    files = [*(data or []), *(more or [])]
    if not len(loaded.named) <= len(files) <= len(loaded.roster):
        raise UsageError(
            f"the roster of {study} names {', '.join(loaded.roster)}, but the number of data files is {len(files)}; name every node "
            "in the roster, and give one per node with --data, in the same order"
        )
    target = out or Path("runs") / f"{study.stem}-{datetime.now():%Y%m%d-%H%M%S}"
    by_node = dict(zip(loaded.roster, files, strict=False))  # places of an open roster may stay free
    figures = run_study(loaded, by_node, target, quiet=False, accept_warnings=accept_warnings)
    _tell(figures, as_json)


@app.command()
def sample(
    run_dir: RunDir,
    count: Annotated[int, typer.Option("-n", help="How many objects.", min=1)] = 1000,
    form: Annotated[Format, typer.Option("--format", help="File format.")] = Format.csv,
    out: Annotated[
        Path | None, typer.Option(help="File to write (default: standard output; parquet needs a file).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed (default: fresh randomness).")] = None,
    own: Annotated[
        bool, typer.Option("--own", help="From the model itself, even where its verdict is not good.")
    ] = False,
) -> None:
    """Draw objects from the global posterior as published: a graph as its edges, a tree, a set, with the model's log-probability.

    Example: epgfn sample runs/first -n 1000 --format jsonl
    """
    from epgfn.learn.samples import write_samples
    from epgfn.run.lacking import notes_of_run
    from epgfn.run.model import drawn_from, load_model

    if form is Format.parquet and out is None:
        raise UsageError("parquet is a binary format; name a file with --out")
    _say_whether_signed(run_dir)
    basis, verdict = drawn_from(run_dir)
    basis = "samples" if own else basis
    if basis != "samples":
        say(f"Drawn from {DRAWN_FROM[basis]}; the model's own draws (--own) are {verdict}.", err=True)
    elif verdict not in (None, "good"):
        say(f"These are the model's own draws, and its verdict is: {verdict}.", err=True)
    model = load_model(run_dir)
    _say(notes_of_run(run_dir, model.study))
    write_samples(model.sample(count, seed, basis), form.value, out)


@app.command()
def ask(
    run_dir: RunDir,
    questions: Annotated[
        list[str],
        typer.Argument(metavar="QUESTION...", help='Each in quotes, such as "a is an ancestor of b".'),
    ],
    count: Annotated[int, typer.Option("-n", help="How many graphs to draw for it.", min=1)] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """How probable something is of the graph, by the global posterior: edges, ancestors, paths, v-structures, Markov blankets.

    Forms: "a -> b", "a - b" (adjacent), "a is an ancestor of b", "a is in the Markov blanket of b", "a -> c <- b is a v-structure",
    "a -> b is compelled", "a path leads from a to b avoiding c, d".

    Example: epgfn ask runs/first "PKC is an ancestor of Erk" "Raf - Mek"
    """
    from epgfn.run.lacking import notes_of_run
    from epgfn.run.model import drawn_from, load_model

    _say_whether_signed(run_dir)
    _, verdict = drawn_from(run_dir)
    model = load_model(run_dir)
    notes = notes_of_run(run_dir, model.study)
    found = [(text, model.probability(text, count, seed)) for text in questions]
    if verdict not in (None, "good") and any(answer.basis == "samples" for _, answer in found):
        say(f"These are shares of the model's own draws, and its verdict is: {verdict}.", err=True)
    if as_json:
        answers = [{"question": text, **answer._asdict()} for text, answer in found]
        say(json.dumps({"answers": answers, **({"notes": notes} if notes else {})}))
        return
    for text, answer in found:
        say(f"{answer.probability:.4f} (+- {2 * answer.error:.4f}, {ASKED_OF[answer.basis]})  {text}")
    for note in notes:  # with the answers, wherever they go
        say(f"Note: {note}.")


@app.command()
def effects(
    run_dir: RunDir,
    of: Annotated[
        str | None, typer.Option("--of", help="The variable that is raised by one.", show_default=False)
    ] = None,
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help="A variable that may change; may be repeated (default: every other one)."),
    ] = None,
    count: Annotated[int, typer.Option("-n", help="How many graphs to draw for it.", min=1)] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """What would change in a variable if another were raised by one: total causal effects by the posterior of graphs and coefficients.

    For studies of numbers with target.parameters = "shared". Causal only if no common cause is hidden and relations are linear.

    Example: epgfn effects runs/first --of smoking --on hba1c
    """
    from epgfn.run.effects import statistic_said
    from epgfn.run.result import load_run

    run = load_run(run_dir)
    _say_whether_signed(run_dir)
    statistic_said(run)  # where there are no effects, that is what to say first
    if of is None:
        raise UsageError(
            f"which variable is raised? add --of NAME; the study's are {', '.join(run.study.variable_names)}"
        )
    for name in on or ():
        if name not in run.study.variable_names:
            raise UsageError(f"the study has no variable {name!r}")
        if name == of:
            raise UsageError("an effect is of one variable on another; --of and --on name the same")
    found = run.effects(of, count, seed)
    shown = [found[name] for name in dict.fromkeys(on or found)]
    if as_json:
        say(json.dumps({"effects": [effect.figures() for effect in shown]}))
        return
    for effect in shown:
        say(
            f"{effect.on}: {effect.mean:+.4g} (95 % between {effect.low:.4g} and {effect.high:.4g}; none at all in {effect.zero:.1%} of "
            f"graphs; {effect.unit})"
        )
    if run.study.privacy.is_private:
        say(
            "The statistic has noise: intervals count it as fewer records, which is an approximation.",
            err=True,
        )
    basis = shown[0].basis if shown else "samples"
    if basis == "samples" and run.verdict not in (None, "good"):
        say(f"Graphs are the model's own draws, and its verdict is: {run.verdict}.", err=True)
    say("These are effects only if no common cause is hidden and relations are linear.", err=True)


@app.command()
def exact(run_dir: RunDir, as_json: AsJson = False) -> None:
    """The exact distribution the global model samples from, where all objects can be listed (graphs: 5 variables or fewer).

    Example: epgfn exact runs/small
    """
    from epgfn.learn.model import terminating_distribution
    from epgfn.run.lacking import notes_of_run
    from epgfn.run.model import load_model
    from epgfn.study.objects import written

    _say_whether_signed(run_dir)
    model = load_model(run_dir)
    _say(notes_of_run(run_dir, model.study))
    state, probability = terminating_distribution(model)
    texts, called = written(model.study, state), model.study.kind.column
    order = probability.argsort(descending=True).tolist()
    rows = [{called: texts[i], "probability": float(probability[i])} for i in order]
    if as_json:
        say(json.dumps({"graphs" if model.study.kind.has_edges else "objects": len(rows), "rows": rows}))
        return
    for row in rows:
        say(f"{row['probability']:.6e}\t{row[called]}")


@app.command()
def report(
    run_dir: RunDir,
    out: Annotated[Path | None, typer.Option(help="HTML file (default: global/report.html).")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a run directory again.

    Example: epgfn report runs/first
    """
    from epgfn.run.report import write_report

    written = write_report(run_dir, out=out)
    say(json.dumps({"report": str(written)}) if as_json else written)


@app.command()
def export(
    run_dir: RunDir,
    to: Annotated[ExportFormat, typer.Option("--to", help="Format.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write (default: the run directory's name with the format's ending, here)."
        ),
    ] = None,
    least: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Least probability of an edge that is drawn (graphml, dot)."),
    ] = 0.05,
    draws: Annotated[
        int,
        typer.Option("-n", min=4, help="Objects to draw where the model is asked (bif, cpdag-csv, arviz)."),
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Write a run's result for other tools.

    Graphs: graphml, dot, jkl (scores of parents), bif and cpdag-csv (the most probable graph and equivalence class). Trees: newick, nexus.
    Anything: parquet (the table of probabilities), arviz (draws in netCDF).

    Example: epgfn export runs/first --to graphml --out first.graphml
    """
    from epgfn.run.exports import EXPORTS, Options
    from epgfn.run.exports import export as write
    from epgfn.run.result import load_run

    _say_whether_signed(run_dir)
    run = load_run(run_dir)
    written = write(run, to.value, out, Options(least, draws, seed))
    _say([said.removesuffix(".") for said in (EXPORTS[to.value].caution, run.caveat) if said])
    say(json.dumps({"export": str(written), "format": to.value}) if as_json else written)


@app.command()
def audit(
    run_dir: RunDir,
    coordinator_key: Annotated[
        str | None,
        typer.Option(
            help="Fingerprint of the coordinator's key, as you got it from the coordinator's operator."
        ),
    ] = None,
    receipts: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Receipts and checkpoints that nodes have kept, in any order: the run directory must hold what they prove.",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Which logs and witnesses you trust, and how many of them it takes (C2SP tlog-policy).",
        ),
    ] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Tell the ledger entry by entry, too.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it all as a page, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a run directory offline: signatures, digests, bindings, inclusion proofs, checkpoints, and what was aggregated.

    Ends with ten lines: what is proved, by whose keys, what rests on whose word, what cannot be known. Exit code 0 if every check
    passes, 1 if one fails.

    Example: epgfn audit runs/first --coordinator-key 3f9a...
    """
    from epgfn.base.files import read_bytes
    from epgfn.ledger.policy import parse_policy
    from epgfn.run.audit.audit import audit_run
    from epgfn.run.audit.kept import gather
    from epgfn.run.audit.lines import as_json as json_of
    from epgfn.run.audit.lines import as_lines, require_passed

    kept = [] if receipts is None else gather(receipts)
    trusted = None if policy is None else parse_policy(read_bytes(policy, "policy", MAX_POLICY_BYTES))
    result = audit_run(run_dir, coordinator_fingerprint=coordinator_key, kept=kept, policy=trusted)
    if html is not None:
        from epgfn.run.report.audit_page import write_audit_page

        write_audit_page(result, run_dir, html)
    say(json.dumps(json_of(result)) if as_json else "\n".join(as_lines(result, with_timeline=timeline)))
    require_passed(result)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="Any single file of a study, whatever it is called.")],
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A public key (PEM) or ledger key (vkey) to check its signature with."
        ),
    ] = None,
    sigstore: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write the signed statement into it with one signature a file, for Sigstore's tools, which take no more.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a file is: sealed model, statement, receipt, checkpoint, invitation, study, key; for whom, by whom, what is inside.

    Example: epgfn inspect runs/first/uploads/north/upload.sigstore.json --key runs/first/keys/nodes/north.pem
    """
    from epgfn.run.inspection import inspect_file, write_for_sigstore

    found = inspect_file(file, key)
    if sigstore is not None:
        written = [
            ("for Sigstore", f"{path}, to be checked with the P-256 key {keyid}")
            for path, keyid in write_for_sigstore(file, sigstore)
        ]
        found = found._replace(facts=[*found.facts, *written])
    say(json.dumps({"what": found.what, "facts": found.facts}) if as_json else "\n".join(found.lines))


def _say(notes: Sequence[str]) -> None:
    """Beside what goes to standard output."""
    for note in notes:
        say(f"Note: {note}.", err=True)


DRAWN_FROM = {
    "exact": "the exact answer of the model's scores",
    "weighted": "the model in proportion to the weights of what it draws",
    "chains": "Markov chains on the model's scores",
}
ASKED_OF = {
    "exact": "independent graphs of the exact answer",
    "weighted": "the model's graphs, weighted",
    "chains": "graphs of Markov chains",
    "samples": "the model's own graphs",
}
PUBLISHED = {
    "exact": "; the published probabilities are exact",
    "chains": "; the published probabilities are those of Markov chains on what the nodes' models amount to",
    "samples": ", and the published probabilities are theirs",
}


def _tell(figures: dict[str, Any], as_json: bool) -> None:
    """The end of a simulation, for a person or for a program."""
    if as_json:
        say(json.dumps(figures))
        return
    console = Console()
    if "edges" in figures:
        _tell_edges(figures, console)
    else:
        _tell_objects(figures, console)
    if figures["verdict"] is not None:
        published = PUBLISHED.get(figures["probabilities_from"], "")
        if figures["noise"] and figures["probabilities_from"] == "exact":
            published += " for what was released with noise, whatever the noise has done to it"
        console.print(f"\nThe global model's samples: {figures['verdict']}{published}.")
    for one, other in figures["contradictions"]:
        console.print(
            f"The models of {one} and {other} contradict one another; the report says more.", markup=False
        )
    verdict = "passed" if figures["audit_ok"] else "FAILED"
    console.print(f"\nPrivacy {figures['privacy']}", markup=False)
    if figures["noise"] and (figures.get("published_edge_mae") or 0.0) >= figures.get(
        "null_edge_mae", math.inf
    ):
        console.print(
            "[bold]With this noise the result is no nearer to the records than saying that there are no edges.[/bold] Take more records, a "
            "larger epsilon or fewer variables: epgfn privacy plan"
        )
    for note in figures["notes"]:
        console.print(f"Note: {note}.", markup=False)
    console.print(
        f"Audit: {verdict} ({figures['audit_checks']} checks; again: epgfn audit {figures['run_dir']})"
    )
    console.print(f"Run directory: {figures['run_dir']} ({figures['duration_s']:.0f} s)", soft_wrap=True)
    console.print(f"Report: open {figures['report']} in a browser", soft_wrap=True)


def _tell_edges(figures: dict[str, Any], console: Console) -> None:
    console.print(
        "Records cannot always tell which way an edge goes. Adjacent: an edge, whichever way; compelled: this way in all equivalent graphs."
        + (
            " Rows in which a variable was set tell more, which compelled leaves out."
            if figures["designed"]
            else ""
        )
    )
    table = Table(title="Most probable edges", title_justify="left", box=None)
    for column in ("parent", "child", "probability", "adjacent", "compelled"):
        table.add_column(column)
    for edge in figures["edges"]:
        compelled = "" if edge["compelled"] is None else f"{edge['compelled']:.3f}"
        shown = (f"{edge['probability']:.3f}", f"{edge['adjacent']:.3f}", compelled)
        table.add_row(escape(edge["parent"]), escape(edge["child"]), *shown)
    console.print(table)
    if figures["published_edge_mae"] is not None:
        how = "weighted towards its scores" if figures["global_edges_weighted"] else "unweighted"
        console.print(
            f"\nThe published edge probabilities differ from the exact posterior by {figures['published_edge_mae']:.4f} on average, "
            f"{figures['published_edge_max_error']:.3f} at most (an empty graph: {figures['null_edge_mae']:.3f}). "
            f"Those of the global model's samples, {how}: {figures['global_edge_mae']:.4f} and {figures['global_edge_max_error']:.3f}."
        )
    if figures["auroc_published"] is not None:
        console.print(
            f"AUROC against the published network: {figures['auroc_published']:.3f} (exact posterior: {figures['auroc_exact']:.3f})."
        )


def _tell_objects(figures: dict[str, Any], console: Console) -> None:
    from epgfn.run.report.text import number

    noun, known = figures["noun"], figures["global_l1"] is not None
    of_samples = figures["top_from"] == "samples"
    for title, first, p, key, rows in (
        (
            f"Most probable {noun}",
            "object",
            "share of samples" if of_samples else "probability",
            "object",
            figures["top"],
        ),
        (
            "Most probable marginals that are not certain",
            "marginal",
            "probability",
            "name",
            figures["marginals"],
        ),
    ):
        table = Table(title=title, title_justify="left", box=None)
        for column in (first, p, *(["exact"] if known else [])):
            table.add_column(column, overflow="fold")
        for row in rows:
            shown = [number(row["probability"]), *([number(row["exact"])] if known else [])]
            table.add_row(escape(row[key] or "(empty)"), *shown)
        console.print(table)
    console.print(_left_out(figures), markup=False)
    if not known:
        console.print(f"\nThere are too many {noun} to list, so the exact posterior is not known.")
        return
    local = figures["local_l1"].values()
    of_nodes = f"{number(min(local), 4)} to {number(max(local), 4)}"
    console.print(
        f"\nThe published marginals differ from the exact ones by {number(figures['published_marginal_mae'], 4)} on average, "
        f"{number(figures['published_marginal_max_error'])} at most; those of the global model itself by "
        f"{number(figures['global_marginal_mae'], 4)} and {number(figures['global_marginal_max_error'])}.\n"
        f"Its L1 from the exact posterior over {figures['objects']:,.0f} {noun}, of 2 at most: {number(figures['global_l1'], 4)} "
        f"(the uniform distribution: {number(figures['uniform_l1'])}). Nodes' models from their own: {of_nodes}, "
        f"their product {number(figures['product_of_locals_l1'], 4)}."
    )


def _left_out(figures: dict[str, Any]) -> str:
    """Which marginals the table does not show, and why."""
    certain, shown = figures["certain"], len(figures["marginals"])
    said = []
    if figures["marginals_open"] > shown:
        said.append(f"{figures['marginals_open'] - shown} less probable ones")
    if certain:
        more = f" and {len(certain) - MOST_CERTAIN} more" if len(certain) > MOST_CERTAIN else ""
        said.append(f"{len(certain)} that are certain ({', '.join(certain[:MOST_CERTAIN])}{more})")
    if figures["impossible"]:
        said.append(f"{figures['impossible']} that are as good as impossible")
    return f"Not in the table: {', '.join(said)}." if said else "The table has all marginals."


def main() -> None:
    """Entry point of the `epgfn` command. Whatever asks it to end also ends the processes that it started."""
    interrupt_on_signals()
    run_app(app, "epgfn")


if __name__ == "__main__":
    main()
