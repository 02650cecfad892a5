"""The command `epgfn-node`.

Each command imports what it needs when it runs: help and a mistyped option are answered at once, and only what trains a model, or
looks into one, loads torch.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from epgfn.base.console import make_reporter, run_app, say
from epgfn_node import key_commands
from epgfn_node.command_options import (
    DEFAULT_HOME,
    Accept,
    Budget,
    Data,
    Device,
    Events,
    Home,
    MlDsa,
    Seed,
    SentEarlier,
    SmallCounts,
    Statistic,
    ToFile,
)
from epgfn_node.home import NodeHome
from epgfn_node.sessions import connect, party_of, session

if TYPE_CHECKING:
    from epgfn.study import Study

NAME = "epgfn-node"
DAY = 86_400.0

app = typer.Typer(
    name=NAME,
    help="Train on your own records, look at what would leave, send it once, and fetch the common result.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

privacy = typer.Typer(name="privacy", help="Whose records are released with noise.", no_args_is_help=True)
population = typer.Typer(
    name="population",
    help="People who share one privacy budget.",
    no_args_is_help=True,
)
app.add_typer(privacy)
privacy.add_typer(population)


@app.command(epilog="Example: epgfn-node init --home node-home --data records.csv")
def init(
    home: Home = DEFAULT_HOME,
    data: Data = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Put the private keys under no passphrase; ask for none.")
    ] = False,
    ml_dsa: MlDsa = False,
) -> None:
    """Make this node's keys and settings. Running it again changes nothing that exists."""
    from epgfn.base.passphrase import UNPROTECTED
    from epgfn_node import pipeline

    pipeline.require_readable(data)
    with session(home) as (node_home, report):
        if pipeline.initialise(node_home, data, no_passphrase=no_passphrase, double=ml_dsa):
            report.event("unprotected", UNPROTECTED)
        report.event("initialised", f"keys and settings are in {node_home.root}; next: epgfn-node enroll")


app.command(epilog="Example: epgfn-node passphrase --home node-home")(key_commands.passphrase)
app.command("rotate-key", epilog='Example: epgfn-node rotate-key --home node-home --reason "a key a year"')(
    key_commands.rotate_key
)


@app.command(epilog="Example: epgfn-node enroll --home node-home --invite clinic-a.invitation.json")
def enroll(
    home: Home = DEFAULT_HOME,
    invite: Annotated[
        Path | None, typer.Option("--invite", help="The invitation file from the coordinator's operator.")
    ] = None,
    to_file: ToFile = None,
    events: Events = False,
) -> None:
    """Get a certificate, pin the coordinator's keys, and fetch the signed study for you to read."""
    from epgfn_node.enroll import enroll as enroll_node
    from epgfn_node.settings import NodeSettings
    from epgfn_node.trust import Invitation

    with session(home, events) as (node_home, report):
        node_home.require_initialised()
        settings = NodeSettings.of(node_home)
        source = invite or settings.invite or node_home.invitation
        if to_file is not None:
            from epgfn_node.letters import write_enrolment

            write_enrolment(node_home, Invitation.load(source), to_file, report)
            return
        agreement = enroll_node(node_home, Invitation.load(source), settings, report)
    if not events:
        _show(agreement.study, node_home)


def _show(study: Study, node_home: NodeHome) -> None:
    """What is to be agreed to, what it would tell, and how."""
    from epgfn.study.exposure import exposure_of
    from epgfn.study.lacks import notes_of
    from epgfn.study.parameters import privacy_in_words
    from epgfn_node.settings import NodeSettings

    told = exposure_of(study)
    data = "" if NodeSettings.of(node_home).data else " --data FILE"
    say(
        f"Study   {study.name}\nDigest  {study.digest}\nPrivacy {privacy_in_words(study)}\n"
        + (f"Tells   {told}\n" if told else "")
        + "".join(f"Note    {note}.\n" for note in filter(None, (study.one_way, *notes_of(study))))
        + f"\nRead {node_home.study}. If you agree to it, run:\n"
        f"  epgfn-node train --home {node_home.root}{data} --accept-study {study.digest}"
    )


@app.command(epilog="Example: epgfn-node receive clinic-a.letter.reply --home node-home")
def receive(
    reply: Annotated[
        Path, typer.Argument(metavar="REPLY", help="The coordinator's reply to the last letter.")
    ],
    home: Home = DEFAULT_HOME,
    sent_earlier: SentEarlier = None,
    events: Events = False,
) -> None:
    """Take a reply that somebody has carried here: checked as what the coordinator answers to calls, and kept: certificate and study,
    receipt, or result."""
    from epgfn_node.letters import ENROLMENT, receive_reply
    from epgfn_node.settings import NodeSettings
    from epgfn_node.study import load_agreement
    from epgfn_node.trust import Trust

    with session(home, events) as (node_home, report):
        kind = receive_reply(node_home, reply, NodeSettings.of(node_home), report, sent_earlier)
        study = load_agreement(node_home, Trust(node_home)).study
    if kind == ENROLMENT and not events:
        _show(study, node_home)


@app.command(epilog="Example: epgfn-node rounds --home node-home")
def rounds(
    home: Home = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the coordinator's rounds in which this node may take part."""
    from epgfn_node.join import rounds as of_this_node

    with session(home) as (node_home, report):
        found = of_this_node(connect(node_home), report)
    if as_json:
        say(json.dumps(found, indent=2))
        return
    width = max((len(each["name"]) for each in found), default=0)
    for each in found:
        here = "" if each["here"] else f"  epgfn-node join --home {node_home.base} --round {each['name']}"
        say(f"{each['name']:<{width}}  {each['study']}, {each['state']}{here}")


@app.command(epilog="Example: epgfn-node join --home node-home --round second")
def join(
    round_name: Annotated[
        str, typer.Option("--round", metavar="NAME", help="The round, as `epgfn-node rounds` names it.")
    ],
    home: Home = DEFAULT_HOME,
    events: Events = False,
) -> None:
    """Take part in a further round of the same coordinator, without a token: get its signed study for you to read."""
    from epgfn_node.join import join as join_round
    from epgfn_node.join import require_name

    require_name(round_name)
    node = NodeHome(NodeHome(home).base)
    connection = connect(node)
    with session(node.round(round_name).root, events) as (_, report):
        joined, agreement = join_round(connection, round_name, report)
    if not events:
        _show(agreement.study, joined)


@app.command(epilog="Example: epgfn-node renew --home node-home")
def renew(
    home: Home = DEFAULT_HOME,
    invite: Annotated[
        Path | None,
        typer.Option("--invite", help="An invitation for renewal, where the certificate has ended already."),
    ] = None,
    to_file: ToFile = None,
    events: Events = False,
) -> None:
    """Get another certificate for the same keys; `run` does it by itself in the last month."""
    from epgfn_node.renew import renew as renew_now
    from epgfn_node.renew import renew_by_invitation
    from epgfn_node.settings import NodeSettings
    from epgfn_node.trust import Invitation

    with session(home, events) as (node_home, report):
        if to_file is not None:
            from epgfn.base.errors import UsageError
            from epgfn_node.letters import write_enrolment

            if invite is None:
                raise UsageError(
                    "by letter a certificate is renewed with an invitation for that; add --invite FILE"
                )
            node_home.require_enrolled()
            write_enrolment(node_home, Invitation.load(invite), to_file, report)
            return
        if invite is None:
            renew_now(connect(node_home), report)
            return
        settings = NodeSettings.of(node_home)
        renew_by_invitation(node_home, Invitation.load(invite), settings, report)


@app.command(epilog="Example: epgfn-node doctor --home node-home")
def doctor(
    home: Home = DEFAULT_HOME,
    invite: Annotated[
        Path | None,
        typer.Option("--invite", help="An invitation file, before this node is enrolled with it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Go the way to the coordinator step by step and say where it ends. Changes nothing, and may be run beside another command."""
    from epgfn_node.doctor import examine, require_well

    node_home = NodeHome(home)
    examined = examine(node_home, invite, make_reporter(party_of(node_home), events=False))
    if as_json:
        say(json.dumps([each.as_json() for each in examined], indent=2))
    else:
        say("\n\n".join(each.in_words() for each in examined))
    require_well(examined)


@app.command(epilog="Example: epgfn-node check --home node-home --data records.csv")
def check(
    home: Home = DEFAULT_HOME,
    data: Data = None,
    study: Annotated[
        Path | None, typer.Option("--study", help="A study file, before this node is enrolled for it.")
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(help="Your node's id, where the study file says which variables it lacks (data.lacks)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Look at your records on the study's scale: units, codes for missing values, copies. For your eyes alone; nothing is sent or kept.

    What it prints is computed from the records, without noise. The exit code says only whether the file can be read.
    """
    from epgfn.base.errors import UsageError
    from epgfn.study import Study
    from epgfn.study.lacks import of_node
    from epgfn.study.records.tables import load_table
    from epgfn_node.check import check as look
    from epgfn_node.check import in_words
    from epgfn_node.settings import NodeSettings
    from epgfn_node.study import load_agreement, require_on_roster

    settings = NodeSettings()
    if study is None:
        with session(home) as (node_home, _):
            connection = connect(node_home)
            settings = NodeSettings.of(node_home)
            loaded = load_agreement(node_home, connection.trust).study
            node = connection.node_id
    else:
        loaded = Study.load(study)
        if node is not None:
            require_on_roster(loaded, node)
    file = data or settings.data
    if file is None:
        raise UsageError("no records are named; add --data FILE")
    facts = look(load_table(file, of_node(loaded, node)), file, loaded, node)
    say(json.dumps(facts, indent=2) if as_json else in_words(facts))


@app.command(epilog="Example: epgfn-node train --home node-home --data records.csv --accept-study DIGEST")
def train(
    home: Home = DEFAULT_HOME,
    data: Data = None,
    accept_study: Accept = None,
    seed: Seed = None,
    privacy_budget: Budget = None,
    device: Device = "cpu",
    events: Events = False,
) -> None:
    """Train the local model. Nothing leaves; a model approved before must be approved again.

    On several cores, GPUs or machines: torchrun --nproc-per-node 2 -m epgfn_node train ...
    """
    from epgfn.gflownet.device import chosen
    from epgfn.gflownet.parallel import joined
    from epgfn_node import pipeline
    from epgfn_node.enroll import Connection
    from epgfn_node.settings import NodeSettings

    with joined(chosen(device)) as workers:
        if not workers.is_first:
            pipeline.train_along(NodeHome(home), data, device)
            return
        with session(home, events) as (node_home, report):
            node_home.require_enrolled()
            settings = NodeSettings.of(node_home)
            connection = Connection.load(node_home, settings)
            agreement = pipeline.agree(connection, accept_study or settings.accept_study, report)
            seed = seed if seed is not None else settings.seed
            data = data or settings.data
            pipeline.train_step(connection, agreement, data, seed, report, settings, privacy_budget, device)


@app.command(epilog="Example: epgfn-node inspect --home node-home")
def inspect(
    home: Home = DEFAULT_HOME,
    dossier: Annotated[
        Path | None,
        typer.Option(
            "--dossier",
            metavar="DIR",
            help="Write a record of it all there, with measured attacks; local only.",
        ),
    ] = None,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show in plain words exactly what would leave this machine, and what never does."""
    from epgfn_node.enroll import Connection
    from epgfn_node.inspection import in_words
    from epgfn_node.inspection import inspect as inspect_model
    from epgfn_node.settings import NodeSettings
    from epgfn_node.study import load_agreement

    with session(home) as (node_home, report):
        node_home.require_enrolled()
        settings = NodeSettings.of(node_home)
        connection = Connection.load(node_home, settings)
        agreement = load_agreement(node_home, connection.trust)
        facts = inspect_model(connection, agreement, settings)
        if dossier is not None:
            from epgfn_node import dossier as record_of

            record = record_of.make(node_home, agreement, settings, facts, data or settings.data)
            written = record_of.write(dossier, record)
            report.event(
                "dossier", f"wrote {' and '.join(map(str, written))}; both are for this institution alone"
            )
    say(json.dumps(facts, indent=2) if as_json else in_words(facts))


@app.command(epilog="Example: epgfn-node approve --home node-home --model SHA256")
def approve(
    home: Home = DEFAULT_HOME,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="SHA256", help="Approve only this model, as `inspect` named it."),
    ] = None,
    accept_small_counts: SmallCounts = False,
    accept_statistic: Statistic = False,
    approver: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME, ROLE", help="Who approves; it is signed, and every auditor reads it."
        ),
    ] = None,
    events: Events = False,
) -> None:
    """Say yes: encrypt and sign the trained model for sending. Nothing leaves before this."""
    from epgfn_node.outbox import approve as approve_model
    from epgfn_node.settings import NodeSettings
    from epgfn_node.study import load_agreement
    from epgfn_node.withdraw import require_none_under_way

    with session(home, events) as (node_home, report):
        connection = connect(node_home)
        require_none_under_way(node_home)
        settings = NodeSettings.of(node_home)
        accept_small_counts = accept_small_counts or settings.accept_small_counts
        accept_statistic = accept_statistic or settings.accept_statistic
        agreement = load_agreement(node_home, connection.trust)
        approve_model(connection, agreement, report, model, accept_small_counts, accept_statistic, approver)


@app.command(epilog="Example: epgfn-node submit --home node-home")
def submit(
    home: Home = DEFAULT_HOME,
    to_file: ToFile = None,
    wait: Annotated[
        float,
        typer.Option("--wait", min=0, help="Where sums are masked: seconds to wait for the other nodes."),
    ] = 0.0,
    events: Events = False,
) -> None:
    """Send what was approved and keep the receipt. Safe to run again after any interruption."""
    from epgfn_node.study import load_agreement
    from epgfn_node.submit import submit as submit_model

    with session(home, events) as (node_home, report):
        connection = connect(node_home, report)
        agreement = load_agreement(node_home, connection.trust)
        if to_file is not None:
            from epgfn_node.letters import write_submission

            write_submission(connection, agreement, to_file, report)
            return
        submit_model(connection, agreement, report, wait=wait)


@app.command(epilog="Example: epgfn-node withdraw --home node-home")
def withdraw(home: Home = DEFAULT_HOME, to_file: ToFile = None, events: Events = False) -> None:
    """Take back what was sent, before it is aggregated: signed, entered in the ledger, and not aggregated. Another model may follow."""
    from epgfn_node.study import load_agreement
    from epgfn_node.withdraw import withdraw as withdraw_model

    with session(home, events) as (node_home, report):
        connection = connect(node_home)
        agreement = load_agreement(node_home, connection.trust)
        if to_file is not None:
            from epgfn_node.letters import write_withdrawal

            write_withdrawal(connection, agreement, to_file, report)
            return
        withdraw_model(connection, agreement, report)


@app.command(epilog="Example: epgfn-node fetch --home node-home --wait 600")
def fetch(
    home: Home = DEFAULT_HOME,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait until it is published.")
    ] = 0.0,
    aggregate: Annotated[
        int,
        typer.Option(
            "--aggregate", min=1, help="Number of the global model, where the study takes late models."
        ),
    ] = 1,
    sent_earlier: SentEarlier = None,
    to_file: ToFile = None,
    events: Events = False,
) -> None:
    """Fetch the result and verify that it was made from exactly what the nodes sent: the global model, and this node's copy of the run.

    The copy, in `result/` of the home, has all that is published and all that was signed, but nothing that other nodes sent sealed:
    `epgfn report`, `sample`, `ask`, `effects`, `export` and `audit` take the home.
    """
    from epgfn_node.fetch import fetch as fetch_model
    from epgfn_node.study import load_agreement

    with session(home, events) as (node_home, report):
        connection = connect(node_home, report)
        agreement = load_agreement(node_home, connection.trust)
        if to_file is not None:
            from epgfn_node.letters import write_question

            write_question(connection, agreement, to_file, report, aggregate)
            return
        fetch_model(
            connection,
            agreement,
            report,
            wait,
            aggregate=aggregate,
            sent_earlier=sent_earlier,
        )


@app.command(epilog="Example: epgfn-node audit runs/study --home node-home")
def audit(
    run_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN_DIR",
            help="What the coordinator's operator has exported (default: this node's own copy of the result).",
            show_default=False,
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a run directory as `epgfn audit` does, and that it holds what this node sent, under its key, and all the ledger it has seen.

    Without RUN_DIR it is this node's copy, as `fetch` has brought it, which lacks what other nodes sent sealed.
    """
    from epgfn.run.audit.lines import as_json as json_of
    from epgfn.run.audit.lines import as_lines, require_passed
    from epgfn_node.audit import audit as audit_with

    report = audit_with(NodeHome(home), run_dir or home)
    say(json.dumps(json_of(report)) if as_json else "\n".join(as_lines(report)))
    require_passed(report)


@app.command(epilog="Example: epgfn-node cosign runs/study --home node-home")
def cosign(
    run_dir: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="What the coordinator's operator has exported, or a node's home."
        ),
    ],
    home: Home = DEFAULT_HOME,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write (default: NODE.cosignature.json).")
    ] = None,
) -> None:
    """Audit a run directory as `audit` does and, if it passes, sign the head of its ledger as a witness: whoever rewrites it needs you.

    Hand the file to whoever keeps the run directory, who adds it with: epgfn ledger add RUN_DIR FILE
    """
    from epgfn.base.files import write_atomic
    from epgfn_node.cosign import cosign as sign

    with session(home) as (node_home, report):
        signed = sign(node_home, run_dir)
        path = out or Path(f"{signed.node_id}.cosignature.json")
        write_atomic(path, signed.to_bytes())
        report.event("cosigned", f"cosigned the ledger in {run_dir}; add {path} to it with epgfn ledger add")


@app.command(epilog="Example: epgfn-node status --home node-home")
def status(
    home: Home = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask the coordinator where the round stands: state, deadline and whether its operator has extended it, as the signed ledger shows."""
    from epgfn_node.status import in_words
    from epgfn_node.status import status as ask
    from epgfn_node.study import load_agreement

    with session(home) as (node_home, report):
        connection = connect(node_home)
        found = ask(connection, load_agreement(node_home, connection.trust), report)
    say(json.dumps(found, indent=2) if as_json else in_words(found))


@population.command(
    epilog='Example: epgfn-node privacy population new ward-b --because "admitted from 2027 on"'
)
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case letters, digits and hyphens.")],
    because: Annotated[
        str | None,
        typer.Option(
            "--because", help="What keeps these people apart from all whose records were released before."
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Say that the node's next records are of other people than all before: they get a privacy budget of their own.

    A person who is in both loses more than either budget says. Without this all releases of a node count together, whatever the file.
    """
    from epgfn_node.privacy import new_population
    from epgfn_node.settings import NodeSettings

    if because is None:
        because = typer.prompt("What keeps these people apart from all whose records were released before?")
    with session(home) as (node_home, report):
        folder = new_population(node_home, NodeSettings.of(node_home), name, because)
        report.event(
            "population",
            f'opened population {name} in {folder}; for records of these people set privacy_population = "{name}" in '
            f"{node_home.settings}",
        )


@population.command(name="list", epilog="Example: epgfn-node privacy population list --home node-home")
def list_populations(home: Home = DEFAULT_HOME) -> None:
    """Say what was spent on whom so far, by the spending log that this node counts in."""
    from epgfn_node.privacy import spent_so_far
    from epgfn_node.settings import NodeSettings

    with session(home) as (node_home, _):
        say("\n".join(spent_so_far(node_home, NodeSettings.of(node_home))))


@app.command(
    epilog="Example: epgfn-node run --home node-home --invite clinic-a.invitation.json --data records.csv "
    "--accept-study DIGEST --approve-automatically"
)
def run(
    home: Home = DEFAULT_HOME,
    invite: Annotated[Path | None, typer.Option("--invite", help="The invitation file.")] = None,
    data: Data = None,
    accept_study: Accept = None,
    approve_automatically: Annotated[
        bool, typer.Option("--approve-automatically", help="Send without anyone looking first.")
    ] = False,
    accept_warnings: Annotated[
        bool,
        typer.Option(
            "--accept-warnings",
            help="With --approve-automatically: train and send in spite of loud warnings about the records.",
        ),
    ] = False,
    accept_small_counts: SmallCounts = False,
    accept_statistic: Statistic = False,
    seed: Seed = None,
    privacy_budget: Budget = None,
    device: Device = "cpu",
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the global model.")] = DAY,
    events: Events = False,
) -> None:
    """All steps in a row, each skipped if it is done; stops before sending unless you allow it."""
    from epgfn_node import pipeline

    pipeline.require_readable(data)
    pipeline.require_device(device)
    with session(home, events) as (node_home, report):
        plan = pipeline.Plan(
            invite=invite,
            data=data,
            accept_study=accept_study,
            approve_automatically=approve_automatically,
            accept_warnings=accept_warnings,
            accept_small_counts=accept_small_counts,
            accept_statistic=accept_statistic,
            seed=seed,
            wait=wait,
            privacy_budget=privacy_budget,
            device=device,
        )
        pipeline.run(node_home, plan, report)


def main() -> None:
    """Entry point. A container's stop signal ends a command as Ctrl-C does: cleanly, to be run again."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_app(app, NAME)
