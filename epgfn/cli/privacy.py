"""`epgfn privacy`: what an epsilon buys before anything runs, and an attack on the code that is to keep it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epgfn.base.console import make_reporter, say
from epgfn.base.errors import EpgfnError, UsageError

if TYPE_CHECKING:
    from epgfn.privacy.attacks.canaries import Case
    from epgfn.privacy.of_study.planning import PlanRow
    from epgfn.study import Study

app = typer.Typer(
    name="privacy",
    help="Differential privacy: plan it, attack it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

EPSILONS = (1.0, 2.0, 4.0, 8.0)
RECORDS = (100, 1_000, 10_000)
QUICK_VARIABLES = 8
"""Beyond so many an exact posterior takes long, and fewer rows in more worlds say more."""
ATTACKED_EPSILONS = (1.0, 4.0, 8.0)
RELEASES, SHORT_RELEASES = 2_000, 600
CONFIDENCE = 0.999
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]
Epsilons = Annotated[list[float] | None, typer.Option("--epsilon", help="An epsilon; repeat for more.")]


@app.callback()
def privacy() -> None:
    """Differential privacy: plan it, attack it."""


@app.command()
def plan(
    study: Annotated[Path, typer.Argument(help="The study file.")],
    records: Annotated[
        list[int] | None,
        typer.Option(
            help="Roughly how many records each node has; repeat for more (default: 100, 1000 and 10000; beyond eight variables 1000)."
        ),
    ] = None,
    epsilon: Epsilons = None,
    nodes: Annotated[
        int | None, typer.Option(help="Nodes in the product (default: the roster).", min=1)
    ] = None,
    worlds: Annotated[
        int | None, typer.Option(help="Simulated worlds (default: 3 to 40, as time allows).", min=2)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Of the made-up worlds, to see the same again (default: others each time).", min=0),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What epsilon buys for this study: expected error of the posterior, from made-up records of the same size.

    Nobody's records are read. The size you give says how many records you have: where that is secret, keep the output to yourself.

    Example: epgfn privacy plan study.toml --records 1000 --epsilon 1 --epsilon 4
    """
    import secrets

    from epgfn.privacy.of_study.planning import TAIL_WORLDS
    from epgfn.privacy.of_study.planning import plan as compute
    from epgfn.privacy.of_study.question import Question, mode_of
    from epgfn.study import Study

    loaded = Study.load(study)
    trained = mode_of(loaded) == "gradient"
    question = Question(
        loaded,
        _sizes(loaded, records, trained),
        tuple(epsilon or _epsilons(loaded, trained)),
        nodes=nodes or (1 if trained else None),
        worlds=worlds,
        seed=secrets.randbits(31) if seed is None else seed,
    )
    with _worlds() as on_world:
        planned = compute(question, on_world)
    if as_json:
        facts: dict[str, Any] = {
            "target": loaded.target.kind,
            "variables": len(loaded.variables),
            "delta": question.delta,
        }
        facts |= {"adjacency": loaded.privacy.adjacency, "settings": planned.settings, "seed": question.seed}
        say(json.dumps({**facts, "rows": [row._asdict() for row in planned.rows]}))
        return
    say(
        f"{loaded.name}: {loaded.target.kind}, {len(loaded.variables)} variables, delta {question.delta:g}, "
        f"{loaded.privacy.adjacency}; {planned.rows[0].worlds} made-up worlds (seed "
        f"{question.seed}), nobody's records"
    )
    said = ", ".join(f"{name} {_shown(value)}" for name, value in planned.settings.items())
    say(f"Settings: {said}{'' if loaded.privacy.is_private else ' (the study itself asks for no privacy)'}\n")
    _print_plan(loaded, planned.rows)
    if loaded.privacy.unit == "person":
        say(
            f"Records are those that are used, at most {loaded.privacy.rows_per_person} of each person, and not all that a file holds; the "
            "made-up ones are independent of one another, which several of one person are not: expect less."
        )
    count = planned.rows[0].worlds
    if count < TAIL_WORLDS:
        say(
            f"From {count} worlds the worst tenth is hardly known: take --worlds {2 * TAIL_WORLDS} before you decide, fewer sizes or "
            "fewer epsilons."
        )
    if trained and nodes is None and len(loaded.roster) > 1:
        say("One node's models only, since each is a whole training; --nodes N plans their product.")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_plan(study: Study, rows: list[PlanRow]) -> None:
    from epgfn.privacy.of_study.planning import MOST_LOST, MOST_MOVED

    kind = study.kind
    of_what = kind.probabilities if kind.has_edges else f"probability of each {kind.asked(study)}"
    for scope, several in (("local", "One node's model"), ("product", "The product of all nodes' models")):
        found = [row for row in rows if row.scope == scope]
        if not found:
            continue
        counted = f" ({found[0].nodes} nodes)" if scope == "product" else ""
        say(f"{several}{counted}, {of_what} from the release against those from the records themselves")
        say(
            f"{'records':>9} {'epsilon':>8} {'median error':>13} {'90 %':>6} {'mean':>14} {'largest':>8} {'L1':>5} "
            f"{'90 %':>5} {'null':>6} {'lost':>5}"
        )
        for row in found:
            l1, l1_90 = ("-" if x is None else f"{x:.2f}" for x in (row.l1, row.l1_90))
            say(
                f"{row.records:>9} {row.epsilon:>8g} {row.error_median:>13.3f} {row.error_90:>6.3f} "
                f"{row.error:>6.3f} ± {row.error_se:.3f} {row.largest:>8.2f} {l1:>5} {l1_90:>5} {row.prior_error:>6.3f} "
                f"{row.lost:>5.0%}{'' if row.enough else '  too few records'}"
            )
        say()
    each = "edges" if kind.has_edges else "of these probabilities"
    say(
        f"median error, 90 %, mean: over worlds, of the mean error of all {each}; one world in ten is worse than its 90 %. largest: of all "
        "of them, on average over worlds.\n"
        f"L1: sum over {kind.noun} of the differences, from 0 to 2 (nothing in "
        "common). null: mean error of the prior, that is of sending nothing.\n"
        "lost: share of worlds where the model from the release is no closer to that from the records than to the prior, or further "
        f"off than the prior. More than {MOST_LOST:.0%} of worlds lost, or L1 above {MOST_MOVED:g} in more than "
        "one of ten (a standard error is left to spare): too few records."
    )
    few = [f"{row.records} at epsilon {row.epsilon:g} ({row.scope})" for row in rows if not row.enough]
    if few:
        say(
            f"Too few records for this epsilon: {', '.join(few)}. Take a larger epsilon, more records or "
            f"{kind.smaller}."
        )
    say(study.target_kind.caution)


@app.command()
def audit(
    study: Annotated[
        Path | None, typer.Argument(help="A study: attack its mode with its settings (default: every mode).")
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(help="statistic, counts, answers or gradient; repeat for more (default: all)."),
    ] = None,
    epsilon: Epsilons = None,
    delta: Annotated[float | None, typer.Option(help="Default: the study's, or 1e-5.")] = None,
    releases: Annotated[int, typer.Option(help="Releases of each of the two data sets.", min=100)] = RELEASES,
    short: Annotated[bool, typer.Option("--short", help=f"{SHORT_RELEASES} releases, for CI.")] = False,
    as_json: AsJson = False,
) -> None:
    """Attack this installation's own release code: thousands of releases of two data sets that differ in one record (in all of a
    person's, where the study protects persons).

    Nobody's records are read. Exit code 0 if no epsilon is measured above the claimed one, 1 if the code is broken.

    Example: epgfn privacy audit --mode statistic --epsilon 4 --releases 4000
    """
    from epgfn.privacy.attacks.canaries import ATTACKED

    loaded = _private_study(study) if study is not None else None
    chosen = list(mode or ATTACKED) if loaded is None else [_called(loaded, name) for name in mode or [""]]
    if not set(chosen) <= set(ATTACKED):
        unknown = ", ".join(sorted(set(chosen) - set(ATTACKED)))
        raise UsageError(f"there is no mode {unknown} to attack; choose {', '.join(ATTACKED)}")
    settings = {"delta": delta or 1e-5} if loaded is None else _attacked_as(loaded, delta)
    default = ATTACKED_EPSILONS if loaded is None else (float(loaded.privacy.epsilon or 0),)
    runs = SHORT_RELEASES if short else releases
    if loaded is not None and not as_json:
        _print_attacked(loaded, chosen)
    rows = []
    for name in chosen:
        for value in epsilon or default:
            row = _attack(_make(loaded, name, value, settings), runs)
            rows.append(row)
            if not as_json:
                say(
                    f"{name:<10} claimed epsilon {row['claimed']:.4g}, measured at least {row['measured']:.3f}: "
                    f"{'BROKEN' if row['broken'] else 'holds'}"
                )
    broken = [row for row in rows if row["broken"]]
    several = settings.get("rows_per_person")
    canary = (
        "one record"
        if several is None
        else f"one person's {several} records"
        if several > 1
        else "one person's record"
    )
    if as_json:
        say(json.dumps({"ok": not broken, **settings, "rows": rows}))
    else:
        say(
            f"\nMeasured: a lower limit on the real epsilon at delta {settings['delta']:g}, {CONFIDENCE:.1%} confidence for each row, "
            f"from {runs} releases with {canary} and {runs} without. One above the claim proves a mistake; one below it proves "
            "nothing, and more releases bring it closer to the truth."
        )
    if broken:
        raise EpgfnError(
            f"{len(broken)} of {len(rows)} attacks got more out of a release than it claims; release nothing with this installation, "
            "and report it"
        )


def _make(study: Study | None, mode: str, epsilon: float, settings: dict[str, Any]) -> Case:
    """The study's own release where the mode is the study's, else the mechanism by itself."""
    from epgfn.privacy.attacks.canaries import make_case
    from epgfn.privacy.of_study.canaries import CASES, study_case

    if study is None or mode != _own_mode(study) or study.mechanism not in CASES:
        return make_case(mode, epsilon=epsilon, **settings)  # type: ignore[arg-type]
    return study_case(
        study.with_changes({"privacy": {"epsilon": epsilon, "delta": settings["delta"]}}),
    )


def _own_mode(study: Study) -> str:
    """What the study's mode is called among those that are attacked: a statistic of categories is a table of counts."""
    from epgfn.privacy.of_study.canaries import CASES

    return study.mechanism if study.mechanism in CASES else study.privacy.mode


def _called(study: Study, mode: str) -> str:
    """`mode` as it is attacked; the study's own where none is named, or where it is named as the study does."""
    return _own_mode(study) if mode in ("", study.privacy.mode) else mode


def _print_attacked(study: Study, chosen: list[str]) -> None:
    from epgfn.privacy.of_study.canaries import CASES, STEPS

    own = _own_mode(study)
    if own in chosen and study.mechanism in CASES:
        few = f", in {STEPS} steps with the noise that these need" if own == "gradient" else ""
        say(
            f"{study.name}: the study's own release is attacked ({own}, {study.target.kind}, {study.privacy.adjacency}{few}), with the "
            "worst record that its likelihood allows."
        )
    other = [mode for mode in chosen if mode != own]
    if other:
        say(
            f"{', '.join(other)}: not this study's, so the mechanism by itself is attacked at its delta and adjacency."
        )


def _attack(case: Case, runs: int) -> dict[str, Any]:
    with _progress(f"{case.mode}, epsilon {case.claimed:g}") as on_progress:
        found = case.attack(runs, CONFIDENCE, on_progress)
    return {
        "mode": case.mode,
        "claimed": found.claimed,
        "measured": found.epsilon,
        "confidence": found.confidence,
        "releases": runs,
        "broken": found.broken,
    }


def _sizes(study: Study, records: list[int] | None, trained: bool) -> tuple[int, ...]:
    """What was asked for; else the public numbers of the study's nodes, or three powers of ten; one, where each is a training."""
    if records:
        return tuple(sorted(set(records)))
    public = study.privacy.records
    if public:
        return tuple(sorted(set(public.values())))
    return RECORDS[1:2] if trained or len(study.variables) > QUICK_VARIABLES else RECORDS


def _epsilons(study: Study, trained: bool) -> list[float]:
    own = {study.privacy.epsilon} if study.privacy.epsilon is not None else set()
    several = EPSILONS[::2] if len(study.variables) > QUICK_VARIABLES else EPSILONS
    return sorted(own) if trained else sorted({*several, *own})


def _private_study(path: Path) -> Study:
    """Raises:
    UsageError: it asks for no privacy.
    """
    from epgfn.study import Study

    loaded = Study.load(path)
    if not loaded.privacy.is_private:
        raise UsageError(
            f"{path} has privacy mode none, so there is no release to attack; leave the study out to attack every mechanism, or set "
            "privacy.mode in it"
        )
    return loaded


def _attacked_as(study: Study, delta: float | None) -> dict[str, Any]:
    asked = study.privacy
    return {
        "delta": delta or asked.delta,
        "adjacency": asked.adjacency,
        "n_variables": len(study.variables),
        "radius": asked.radius,
        "with_sums": study.needs_sums,
        "rows_per_person": asked.rows_per_person if asked.unit == "person" else None,
    }


@contextmanager
def _worlds() -> Iterator[Callable[[int, int, float], None]]:
    """As `_progress`, with the time left."""
    report = make_reporter("privacy", events=False)
    try:
        yield lambda done, of, left: report.event("worlds", f"about {left:.0f} s left", step=done, steps=of)
    finally:
        report.close()


@contextmanager
def _progress(phase: str) -> Iterator[Callable[[int, int], None]]:
    """To standard error: a bar on a terminal, else a line every few seconds."""
    report = make_reporter("privacy", events=False)
    try:
        yield lambda done, of: report.event(phase, step=done, steps=of)
    finally:
        report.close()
