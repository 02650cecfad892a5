"""`epgfn bench`: the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="bench",
    help="Measure the GFlowNet core against exact answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def bench() -> None:
    """Measure the GFlowNet core against exact answers."""


@app.command()
def accuracy(
    only: Annotated[
        list[str] | None, typer.Option(help="An instance; repeat for more (default: all).")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Models to train on each instance.", min=1)] = 3,
    budget: Annotated[
        float | None,
        typer.Option(help="CPU-seconds that one model may train (default: each instance's own)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """Exact L1 distance (sum of |p_T - p|, never halved) of trained models from their targets, next to the paper's.

    Example: epgfn bench accuracy --only grid-2x12 --seeds 3
    """
    from epgfn.bench.accuracy import accuracy as measure

    def on_row(row: dict[str, Any]) -> None:
        if as_json:
            return
        figures = [key.removesuffix("_median") for key in row if key.endswith("_median")]
        spread = "  ".join(
            f"{key} {row[f'{key}_median']:.4f} ({row[f'{key}_min']:.4f} to {row[f'{key}_max']:.4f})"
            for key in figures
            if row[f"{key}_median"] is not None
        )
        print(
            f"{row['instance']:<16} {row['objective']:<18} {spread}  {row['seeds']} seeds  "
            f"{row['cpu_s']:.0f} CPU-s  paper {row['paper'] or '-'}",
            flush=True,
        )

    rows = measure(only or (), seeds=seeds, budget=budget, on_row=on_row)
    if as_json:
        print(json.dumps({"rows": rows}))


@app.command()
def aggregate(
    only: Annotated[
        list[str] | None, typer.Option(help="An instance; repeat for more (default: all).")
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes (default: each instance's own number).")] = None,
    seeds: Annotated[int, typer.Option(help="Federations to train on each instance.", min=1)] = 3,
    budget: Annotated[float, typer.Option(help="CPU-seconds that one model may train.")] = 300.0,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also run other methods with the same amount of work.")
    ] = False,
    split: Annotated[str, typer.Option(help="How data are dealt out to the nodes: even or skewed.")] = "even",
    undertrained: Annotated[int, typer.Option(help="Clients that take only 5 % of their steps.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """Distance of the global model from the exact product of all nodes' rewards, next to that of the product of its local models.

    Example: epgfn bench aggregate --only multiset-10x8 --nodes 5 --seeds 3 --baselines
    """
    from epgfn.bench.aggregate import Setting, shown
    from epgfn.bench.aggregate import aggregate as measure

    setting = Setting(nodes, seeds, budget, baselines, split, undertrained)

    def on_row(row: dict[str, Any]) -> None:
        if not as_json:
            print(shown(row), flush=True)

    rows = measure(only or (), setting, on_row=on_row)
    if as_json:
        print(json.dumps({"rows": rows}))


@app.command()
def speed(
    only: Annotated[
        list[str] | None, typer.Option(help="An instance; repeat for more (default: all).")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each library.", min=1)] = 3,
    budget: Annotated[float, typer.Option(help="CPU-seconds that one run of one library may train.")] = 20.0,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIBRARY=PYTHON",
            help="Measure torchgfn or gfnx too, with a Python that can import it; repeat for both.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """Trajectories per CPU-second of training, on one thread, and loss and exact L1 after the same number of steps.

    Example: epgfn bench speed --only grid-2x12 --peer torchgfn=/path/to/python
    """
    from epgfn.bench.speed import peers_of
    from epgfn.bench.speed import speed as measure

    def on_row(row: dict[str, Any]) -> None:
        if as_json:
            return
        parts = [
            f"{row['instance']:<10} {row['library']:<9} {row['trajectories_per_cpu_s']:>8.0f} trajectories/CPU-s"
        ]
        ratios = [f"{row['ratio']:.1f}x", *([f"with TB {row['ratio_tb']:.1f}x"] if "ratio_tb" in row else [])]
        exact = "not listed" if row["l1"] is None else f"{row['l1']:.4f}"
        loss = f", loss {row['loss']:.3f}" if "loss" in row else ""
        parts.append(f"ours {', '.join(ratios)}  L1 {exact}{loss} after {row['steps']} steps")
        parts.append(f"{row['peak_rss_mb']:.0f} MiB")
        if "share_matmul" in row:
            parts.append(f"{row['share_matmul']:.0%} matrix products")
        if "exact_s" in row:
            parts.append(f"exact posterior and p_T {row['exact_s']:.2f} CPU-s")
        print("  ".join(parts), flush=True)

    rows = measure(only or (), seeds=seeds, budget=budget, peers=peers_of(peer or ()), on_row=on_row)
    if as_json:
        print(json.dumps({"rows": rows}))


@app.command()
def scaling(
    only: Annotated[
        list[str] | None,
        typer.Option(help="sinks, edge-net or edge-attention; repeat for more (default: all)."),
    ] = None,
    variables: Annotated[
        list[int] | None,
        typer.Option(help="A number of variables; repeat for more (default: 5, 10, 20, 40)."),
    ] = None,
    budget: Annotated[float, typer.Option(help="CPU-seconds that one point may take.")] = 15.0,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PNG file to plot to, both axes logarithmic.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """CPU time of one trajectory of training (rollout, loss, gradient) as DAGs get more variables, and its exponent.

    Example: epgfn bench scaling --only sinks --plot scaling.png
    """
    from epgfn.bench import scaling as bench

    def on_row(row: dict[str, Any]) -> None:
        if not as_json:
            print(
                f"{row['policy']:<15} {row['variables']:>3} variables  {row['cpu_ms']:>9.3f} CPU-ms per trajectory "
                f"({row['cpu_ms_min']:.3f} to {row['cpu_ms_max']:.3f})  of {row['length']:.0f} steps  "
                f"batch {row['batch']}  setup {row['setup_cpu_s']:.1f} CPU-s",
                flush=True,
            )

    found = bench.scaling(only or (), variables=variables or bench.VARIABLES, budget=budget, on_row=on_row)
    if plot is not None:
        bench.plot(found, plot)
    if as_json:
        print(json.dumps(found))
        return
    for name, power in found["exponents"].items():
        print(f"{name:<15} exponent {'-' if power is None else f'{power:.2f}'}")


@app.command()
def membership(
    records: Annotated[
        list[int] | None, typer.Option(help="Records per node; repeat for more (default: 100 and 1000).")
    ] = None,
    epsilon: Annotated[
        list[float] | None,
        typer.Option(help="0 for no privacy; repeat for more (default: 0, 8, 4 and 1)."),
    ] = None,
    targets: Annotated[int, typer.Option(help="Target records per row, half of them members.", min=16)] = 400,
    trained: Annotated[
        int, typer.Option(help="Policies to train for the attack on their flow; 0 to leave it out.", min=0)
    ] = 20,
    seed: Annotated[
        int, typer.Option(help="Seed of populations and records; noise is never seeded.", min=0)
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """Membership inference on the policy a node sends, without and with differential privacy: AUC, and TPR at 1 % FPR.

    Example: epgfn bench membership --records 100 --epsilon 0 --epsilon 4
    """
    from epgfn.bench.membership import EPSILONS, Setting, shown
    from epgfn.bench.membership import membership as measure

    asked = tuple(value or None for value in epsilon) if epsilon else EPSILONS
    setting = Setting(tuple(records or (100, 1_000)), asked, targets, trained=trained, seed=seed)

    def on_row(row: dict[str, Any]) -> None:
        if not as_json:
            print(shown(row), flush=True)

    rows = measure(setting, on_row)
    if as_json:
        print(json.dumps({"rows": rows}))


@app.command()
def privacy(
    only: Annotated[
        list[str] | None, typer.Option(help="An instance; repeat for more (default: all).")
    ] = None,
    worlds: Annotated[
        int | None, typer.Option(help="Simulated data sets (default: each instance's own).")
    ] = None,
    epsilon: Annotated[
        list[float] | None,
        typer.Option(help="Epsilon that each node spends; repeat for more (default: each instance's own)."),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            help="Nodes, each with the same number of records (default: each instance's own number)."
        ),
    ] = None,
    first_seed: Annotated[int, typer.Option(help="Seed of the first world.", min=0)] = 3000,
    trained: Annotated[
        bool, typer.Option("--trained", help="With trained models: local ones, and aggregated ones.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """What privacy costs: L1 (sum of |q - p|, never halved) between the posterior from a private release and from the records.

    Example: epgfn bench privacy --only moments-5 --epsilon 4 --worlds 10
    """
    from epgfn.bench.privacy import Setting, shown
    from epgfn.bench.privacy import privacy as measure

    def on_row(row: dict[str, Any]) -> None:
        if not as_json:
            print(shown(row), flush=True)

    setting = Setting(worlds, tuple(epsilon) if epsilon else None, nodes, first_seed, trained)
    rows = measure(only or (), setting, on_row=on_row)
    if as_json:
        print(json.dumps({"rows": rows}))


@app.command()
def truth(
    only: Annotated[
        list[str] | None, typer.Option(help="A sort of cases; repeat for more (default: all).")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Cases of each sort (default: each sort's own number).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first case of each sort.", min=0)] = 0,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="Add each row to this file, one JSON object a line, and take from it what it holds."
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a table, as in docs/accuracy.md.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """What studies deliver at their defaults against the exact posterior, and what their verdict says of it.

    Example: epgfn bench truth --only worlds --count 5
    """
    from epgfn.bench.truth import summary, table
    from epgfn.bench.truth import truth as measure

    def on_row(row: dict[str, Any]) -> None:
        if as_json or markdown:
            return
        khat = "-" if row["khat"] is None else f"{row['khat']:.2f}"
        print(
            f"{row['case']:<18} {row['seed']:>3}  {row['variables']:>2} variables  {row['nodes']} nodes  "
            f"{row['records']:>5} records  error {row['mean_error']:.4f} mean, {row['max_error']:.4f} largest ({row['from']})  "
            f"samples {row['model_error']:.4f}  {row['verdict'] or 'no verdict'}  k-hat {khat}  {row['cpu_s']:.0f} CPU-s",
            flush=True,
        )

    rows = measure(only or (), count=count, seed=seed, kept=kept, on_row=on_row)
    found = summary(rows)
    if as_json:
        print(json.dumps({"rows": rows, "summary": found}))
        return
    if markdown:
        print(table(rows))
        return
    print(
        f"{found['cases']} cases: {found['good']} graded good, {found['wrongly_good']} of them wrongly; in 95 % of them the largest error "
        f"is below {found['max_error_p95']:.4f} as delivered, and {found['model_error_p95']:.4f} of the model's own samples"
    )


@app.command()
def large(
    network: Annotated[
        list[Path] | None,
        typer.Option(help="A network in the Bayesian Interchange Format (alarm.bif.gz); repeat for more."),
    ] = None,
    made: Annotated[
        list[int] | None,
        typer.Option(
            metavar="VARIABLES", help="A linear-Gaussian network that is made up; repeat for more.", min=2
        ),
    ] = None,
    nodes: Annotated[int, typer.Option(help="Nodes.", min=1)] = 5,
    records: Annotated[int, typer.Option(help="Records of each.", min=1)] = 1000,
    max_parents: Annotated[int, typer.Option(help="Parents that a variable has at most.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Seed of records and training.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """What a federated study of many variables publishes, beside long Markov chains on the sum of its nodes' score tables.

    Example: epgfn bench large --network alarm.bif.gz --network hailfinder.bif.gz
    """
    from epgfn.bench.large import large as measure

    def on_row(row: dict[str, Any]) -> None:
        if not as_json:
            print(
                f"{row['case']}: {row['variables']} variables, {row['nodes']} nodes, {row['records']:,} records  published from "
                f"{row['basis']}, error {row['mean_error']:.5f} mean, {row['max_error']:.4f} largest  model's samples "
                f"{row['model_mean']:.4f}, {row['model_max']:.3f}, {row['verdict']}  CPU-s: a table {row['tables_cpu_s']:.1f}, a node "
                f"{row['local_cpu_s']:.0f}, coordinator {row['coordinator_cpu_s']:.0f}, reference {row['reference_cpu_s']:.0f} "
                f"({row['reference_apart']:.4f} apart)  {row['peak_rss_mb']:,.0f} MiB",
                flush=True,
            )

    rows = measure(
        network or (),
        made or (),
        nodes=nodes,
        records=records,
        max_parents=max_parents,
        seed=seed,
        on_row=on_row,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if as_json:
        print(json.dumps({"rows": rows}))


@app.command()
def reading(
    rows: Annotated[int, typer.Option(help="Rows of the file.", min=1)] = 100_000,
    columns: Annotated[int, typer.Option(help="Columns of the file.", min=1)] = 11,
    rounds: Annotated[int, typer.Option(help="Turns that each takes.", min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """CPU-seconds to read and check a CSV file of numbers, beside pandas reading it unchecked.

    Example: epgfn bench reading --rows 10000
    """
    from epgfn.bench.reading import reading as measure

    found = measure(rows=rows, columns=columns, rounds=rounds)
    if as_json:
        print(json.dumps(found))
        return
    print(
        f"{rows:,} rows of {columns} numbers, {found['bytes']:,} bytes: {found['epgfn_cpu_s']:.3f} CPU-s, "
        f"pandas {found['pandas_cpu_s']:.3f}: {found['ratio']:.1f} times"
    )


@app.command()
def transport(
    nodes: Annotated[int, typer.Option(help="Nodes that submit at once; 0 leaves that out.", min=0)] = 100,
    hidden: Annotated[
        int, typer.Option(help="Width of their policy: 1024 makes 4 MiB of it.", min=8, max=2048)
    ] = 1024,
    stream: Annotated[
        int, typer.Option(metavar="MIB", help="Size of one large upload; 0 leaves that out.", min=0)
    ] = 1024,
    turns: Annotated[int, typer.Option(help="Turns of the large upload and the bare stream.", min=1)] = 3,
    artifacts: Annotated[
        int, typer.Option(help="Accepted models before a restart; 0 leaves that out.", min=0)
    ] = 1000,
    kills: Annotated[int, typer.Option(help="How often the coordinator is killed then.", min=1)] = 3,
    masked: Annotated[
        int,
        typer.Option(
            metavar="NODES", help="Nodes of a masked sum, beside a plain one; 0 leaves that out.", min=0
        ),
    ] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """Uploads to a real coordinator: many at once and its memory, one large one beside a bare gRPC stream, back after SIGKILL, masked sums.

    Example: epgfn bench transport --nodes 20 --stream 64 --artifacts 0 --masked 0
    """
    from epgfn.bench.transport import Setting, shown
    from epgfn.bench.transport import transport as measure

    def on_row(row: dict[str, Any]) -> None:
        if not as_json:
            print(shown(row), flush=True)

    rows = measure(Setting(nodes, hidden, stream, turns, artifacts, kills, masked), on_row)
    if as_json:
        print(json.dumps({"rows": rows}))


@app.command()
def artifacts(
    seal: Annotated[
        int, typer.Option(metavar="MIB", help="Size that is sealed and opened; 0 leaves that out.", min=0)
    ] = 64,
    turns: Annotated[int, typer.Option(help="Turns of that and the bare cipher.", min=1)] = 9,
    stream: Annotated[
        int, typer.Option(metavar="MIB", help="Size that is sealed as a stream; 0 leaves that out.", min=0)
    ] = 1024,
    entries: Annotated[int, typer.Option(help="Entries of a ledger; 0 leaves that out.", min=0)] = 100_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """Sealing beside the bare cipher, its memory, and the ledger's checkpoints and proofs.

    Example: epgfn bench artifacts --stream 64 --entries 1000
    """
    from epgfn.bench.artifacts import Setting, shown
    from epgfn.bench.artifacts import artifacts as measure

    def on_row(row: dict[str, Any]) -> None:
        if not as_json:
            print(shown(row), flush=True)

    rows = measure(Setting(seal, turns, stream, entries), on_row)
    if as_json:
        print(json.dumps({"rows": rows}))
