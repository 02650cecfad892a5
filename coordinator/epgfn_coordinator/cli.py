"""The command `epgfn-coordinator`. Each command imports what it needs when it runs, so that help and mistakes are answered at once."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

os.environ.setdefault(
    "GRPC_VERBOSITY", "NONE"
)  # what it would print is not for users; we say it in a sentence

import typer

from epgfn.base.console import make_reporter, run_app, say
from epgfn.base.errors import EpgfnError, UsageError, WaitingError, one_line
from epgfn.base.files import write_secret
from epgfn_coordinator import key_commands
from epgfn_coordinator.command_options import DEFAULT_HOME, AsJson, HomeOption, MlDsa, StudyOption
from epgfn_coordinator.home import DEFAULT_ADDRESS, DEFAULT_ENROLL_ADDRESS, Config, Home
from epgfn_coordinator.journal import Journal, log_to_stderr
from epgfn_coordinator.rounds import all_rounds, find, options
from epgfn_coordinator.store import RETRY_FACT, SERVED_FACT, TROUBLE_FACT, Store

if TYPE_CHECKING:
    from epgfn.sealing.pki import CertificateAuthority

NAME = "epgfn-coordinator"
ANSWER_WITHIN = 30.0  # seconds that `close` waits for the serving process
LETTER_WITHIN = 1800.0  # seconds that `receive` waits for it: a large model takes minutes to check
MOST_OF_A_NOTE = 200  # characters
TAKEN_UP_WITHIN = 10.0  # seconds that `add` waits for it

app = typer.Typer(
    name=NAME,
    help="Enrols nodes, verifies and keeps what they send, trains the global model, publishes it signed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point."""
    run_app(app, NAME)


@app.command()
def init(
    study: Annotated[Path, typer.Option(help="The study all parties agreed on.")],
    home: HomeOption = DEFAULT_HOME,
    address: Annotated[str, typer.Option(help="host:port to listen on; port 0 picks one.")] = DEFAULT_ADDRESS,
    enroll_address: Annotated[
        str, typer.Option(help="host:port for enrolment, without client certificates.")
    ] = DEFAULT_ENROLL_ADDRESS,
    tls_name: Annotated[
        list[str] | None, typer.Option(help="Name or IP address that nodes will use; may be given again.")
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(help="Certificate of your institution's authority, instead of one made for this study."),
    ] = None,
    ca_key: Annotated[
        Path | None, typer.Option(help="Its private key; it is copied into the home, under the passphrase.")
    ] = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Put the private keys under no passphrase; ask for none.")
    ] = False,
    ml_dsa: MlDsa = False,
    as_json: AsJson = False,
) -> None:
    """Make keys, sign the study, open its round.

    Example: epgfn-coordinator init --home coordinator-home --study study.toml --tls-name coordinator.example.org
    """
    from epgfn.base.passphrase import UNPROTECTED, key_passphrase
    from epgfn.learn.policy import model_weight
    from epgfn.study import Study
    from epgfn.study.exposure import exposure_of
    from epgfn.study.lacks import notes_of
    from epgfn_coordinator.initialise import initialise

    parsed = Study.load(study)
    config = Config(address, enroll_address, tuple(tls_name or ()))
    made = initialise(
        Home(home), parsed, config, _authority(ca, ca_key), no_passphrase=no_passphrase, double=ml_dsa
    )
    if as_json:
        say(
            json.dumps(
                {"study": parsed.name, "study_digest": parsed.digest, "made": made, "home": str(home)},
                indent=2,
            )
        )
        return
    say(f"study {parsed.name}  digest {parsed.digest}")
    say(f"what each node sends: {model_weight(parsed)}")
    for note in filter(
        None,
        (
            parsed.notice,
            parsed.resemblance,
            exposure_of(parsed),
            parsed.disclosure,
            parsed.caution,
            parsed.one_way,
            *notes_of(parsed),
        ),
    ):
        say(f"note: {note}")
    if not made:
        say(f"{home} was initialised for this study before; nothing is changed")
        kept = Config.load(Home(home).config)
        if (kept.address, kept.enroll_address, kept.tls_names) != (address, enroll_address, config.tls_names):
            say(
                f"note: addresses and TLS names stay as they are in {Home(home).config}; change them there, then serve"
            )
    else:
        if key_passphrase() is None:
            say(UNPROTECTED)
        say(f"next: {NAME} serve --home {home}, and for each node: {NAME} token NODE --home {home}")


@app.command()
def add(
    study: Annotated[Path, typer.Option(help="The study all parties agreed on.")],
    home: HomeOption = DEFAULT_HOME,
    name: Annotated[
        str | None,
        typer.Option(
            help="What to call the round (default: by the study's name; a further round of a study needs one)."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Open a further round in a home that is there: of another study, or with --name the next one of the same. Also while it serves.

    Whoever is on its roster and enrolled in the home already takes part without a token.

    Example: epgfn-coordinator add --study study.toml --name second --home coordinator-home
    """
    from epgfn.study import Study
    from epgfn.study.exposure import exposure_of
    from epgfn.study.lacks import notes_of
    from epgfn_coordinator.initialise import add as add_round

    parsed = Study.load(study)
    called, made = add_round(Home(home), parsed, name)
    current = find(Home(home), called)
    store = Store(current.state)
    try:
        waits = made and Home(home).is_served() and not _is_taken_up(store)
        enrolled = {row["node_id"] for row in store.rows("SELECT node_id FROM nodes")}
    finally:
        store.close()
    invited = [node for node in parsed.named if node not in enrolled]
    if as_json:
        say(
            json.dumps(
                {
                    "name": called,
                    "study": parsed.name,
                    "study_digest": parsed.digest,
                    "made": made,
                    "taken_up": not waits,
                    "home": str(home),
                    "enrolled": sorted(enrolled),
                    "to_invite": invited,
                },
                indent=2,
            )
        )
        return
    say(f"round {called}  study {parsed.name}  digest {parsed.digest}")
    for note in filter(
        None,
        (
            parsed.notice,
            parsed.resemblance,
            exposure_of(parsed),
            parsed.disclosure,
            parsed.caution,
            parsed.one_way,
            *notes_of(parsed),
        ),
    ):
        say(f"note: {note}")
    if not made:
        say(f"{home} holds this round already; nothing is changed")
    if waits:
        say("note: the process that serves has not taken it up yet; its log says why")
    if enrolled:
        say(f"enrolled already, with the keys they have: {', '.join(sorted(enrolled))}")
        say(f"  each runs: epgfn-node join --round {called}")
    for node in invited:
        say(f"next: {NAME} token {node} {options(current)}")


def _is_taken_up(store: Store) -> bool:
    """Whether the process that serves begins to serve a round that was just added, within some seconds."""
    until = time.monotonic() + TAKEN_UP_WITHIN
    while store.fact(SERVED_FACT) is None:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@app.command("rounds")
def list_rounds(home: HomeOption = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the rounds of this home by the names that --study takes.

    Example: epgfn-coordinator rounds --home coordinator-home
    """
    from epgfn_coordinator.status import overview

    found = overview(Home(home))
    if as_json:
        say(json.dumps(found, indent=2))
        return
    width = max(len(each["name"]) for each in found)
    for each in found:
        sent = (
            "" if each["state"] is None else f"{each['state']}, {each['accepted']} of {each['roster']} models"
        )
        trouble = f"  {each['trouble']}" if each["trouble"] else ""
        if not trouble and each.get("waits_for"):
            trouble = f"  its turn comes after {each['waits_for']}"
        say(f"{each['name']:<{width}}  {sent}{trouble}")


@app.command()
def token(
    node: Annotated[str, typer.Argument(help="A node id of the study's roster.")],
    home: HomeOption = DEFAULT_HOME,
    study: StudyOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the invitation (default: NODE.invitation.json).")
    ] = None,
    days: Annotated[float, typer.Option(help="How many days it is good.")] = 14.0,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew", help="For an enrolled node whose certificate has ended: another, for the same keys."
        ),
    ] = False,
    note: Annotated[
        str | None,
        typer.Option(help="Whom you invite, for `status` alone: a place such as added-3 does not tell."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write an invitation with a one-time token, to be given to that node's operator over a trusted channel.

    Example: epgfn-coordinator token clinic-a --home coordinator-home --out clinic-a.invitation.json
    """
    from epgfn_coordinator.invitation import invitations as all_of
    from epgfn_coordinator.invitation import invite, note_fact

    path = out or Path(f"{node}.invitation.json")
    current = find(Home(home), study)
    store = Store(current.state)
    try:
        raw = invite(current, store, node, days, renew=renew)
        if note is not None:
            store.set_fact(note_fact(node), one_line(note)[:MOST_OF_A_NOTE])
        write_secret(path, raw)
        expires = next(each["expires"] for each in all_of(store) if each["node"] == node)
    finally:
        store.close()
    if as_json:
        shown = {
            key: json.loads(raw)[key] for key in ("node_id", "enroll_address", "address", "study_digest")
        }
        say(json.dumps({"invitation": str(path), **shown, "expires": expires}, indent=2))
        return
    say(
        f"{path}: invitation for {node}, good for another certificate for the keys it has, until {expires}; for epgfn-node renew --invite"
        if renew
        else f"{path}: invitation for {node}, good for one enrolment until {expires}; whoever holds it can enrol, so send it safely"
    )


@app.command()
def invitations(home: HomeOption = DEFAULT_HOME, study: StudyOption = None, as_json: AsJson = False) -> None:
    """List each node's last invitation: open, used, expired or revoked.

    Example: epgfn-coordinator invitations --home coordinator-home
    """
    from epgfn_coordinator.invitation import invitations as all_of

    current = find(Home(home), study)
    store = Store(current.state)
    try:
        found = all_of(store)
    finally:
        store.close()
    if as_json:
        say(json.dumps(found, indent=2))
        return
    width = max((len(each["node"]) for each in found), default=0)
    for each in found:
        until = f"until {each['expires']}" if each["state"] == "open" and each["expires"] else ""
        say(f"{each['node']:<{width}}  {each['state']:<7}  {until}".rstrip())
    if not found:
        say(f"nobody has been invited yet; run {NAME} token NODE {options(current)}")


app.command()(key_commands.passphrase)
app.command("rotate-key")(key_commands.rotate_key)


@app.command("revoke-invitation")
def revoke_invitation(
    node: Annotated[str, typer.Argument(help="Whose invitation; it must not have been used.")],
    home: HomeOption = DEFAULT_HOME,
    study: StudyOption = None,
    as_json: AsJson = False,
) -> None:
    """Void an invitation that was not used: lost on the way, or sent to the wrong person.

    Example: epgfn-coordinator revoke-invitation clinic-a --home coordinator-home
    """
    from epgfn_coordinator.invitation import revoke_invitation as void

    current = find(Home(home), study)
    store = Store(current.state)
    try:
        void(store, node)
    finally:
        store.close()
    said = f"the invitation for {node} is void; {NAME} token {node} {options(current)} makes another"
    say(json.dumps({"node": node, "state": "revoked"}, indent=2) if as_json else said)


@app.command()
def renew(
    home: HomeOption = DEFAULT_HOME,
    tls_name: Annotated[
        list[str] | None,
        typer.Option(help="A further name or IP address that nodes will use; may be given again."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            help="Another certificate of your institution's authority, for the same key, if init was given one."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Issue the server's certificate anew, for a year and for new names. Also while it serves; enrolled nodes notice nothing.

    Example: epgfn-coordinator renew --tls-name coordinator.example.org --home coordinator-home
    """
    from epgfn_coordinator.certificates import ends, names_of, renew_by_hand
    from epgfn_coordinator.clock import spelled

    Home(home).require()
    store = _store(home)
    try:
        names = names_of(renew_by_hand(Home(home), store, tls_name or [], ca))
        with contextlib.ExitStack() as opened:
            found = ends(Home(home), *_stores(home, opened))
    finally:
        store.close()
    until = {whose: spelled(end) for whose, end in found.items()}
    if as_json:
        say(json.dumps({"names": names, "certificates": until}, indent=2))
        return
    say(f"the server's certificate is good until {until['server']}, for {', '.join(names)}")


@app.command()
def revoke(
    node: Annotated[str, typer.Argument(help="Whose keys are lost or stolen.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Revoke a node's keys, in all rounds: its certificate is refused at once. With a new invitation it enrols again; models that were
    accepted stand.

    Example: epgfn-coordinator revoke clinic-a --home coordinator-home
    """
    store = _store(home)  # of the first round, whichever it is about
    try:
        if Home(home).is_served():
            said = _ask(home, store, "revocation_requests", "node_id", node)
        else:
            from epgfn_coordinator.main_loop import revoke as take_back

            log_to_stderr()
            said = take_back(Home(home), Journal(make_reporter("coordinator", events=False)), node)
    finally:
        store.close()
    if as_json:
        say(json.dumps({"node": node, "detail": said}, indent=2))
        return
    chosen = options(Home(home)) if len(all_rounds(Home(home))) == 1 else f"--home {home} --study NAME"
    say(f"{said}\nif it is to take part: {NAME} token {node} {chosen}, and a new --home on its side")


@app.command()
def serve(
    home: HomeOption = DEFAULT_HOME,
    events: Annotated[bool, typer.Option("--events", help="Report as JSON, one object per line.")] = False,
    log_json: Annotated[
        bool,
        typer.Option("--log-json", help="Write the log as JSON, one object per line, on standard error."),
    ] = False,
    device: Annotated[
        str, typer.Option(help="Where to train: cpu, cuda, or a particular GPU such as cuda:1.")
    ] = "cpu",
    clock_is_right: Annotated[
        bool,
        typer.Option(
            "--clock-is-right",
            help="You have checked this machine's clock; let it decide about the deadline.",
        ),
    ] = False,
    backup_is_newest: Annotated[
        bool,
        typer.Option(
            "--backup-is-newest",
            help="After restore: you know that the coordinator did nothing more after that backup was made.",
        ),
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Show metrics for Prometheus at http://127.0.0.1:PORT/metrics (0 picks a port; default: nowhere).",
        ),
    ] = None,
    until_fetched: Annotated[
        bool,
        typer.Option(
            "--until-fetched",
            help="End, with exit code 0, once every node whose model counts has fetched the global one.",
        ),
    ] = False,
) -> None:
    """Enrol nodes, take their models, train and publish the global one, of every round in the home. Stop with Ctrl-C; start again to go on.

    Example: epgfn-coordinator serve --home coordinator-home

    On several cores or GPUs: torchrun --nproc-per-node 2 -m epgfn_coordinator serve ...
    """
    from epgfn_coordinator.main_loop import serve as run
    from epgfn_coordinator.main_loop import still_at_work

    with contextlib.ExitStack() as stack, contextlib.ExitStack() as ends:
        trainer, together = None, _is_one_of_several()
        if together or device != "cpu":  # only then is torch needed before anything is answered
            from epgfn.gflownet.device import chosen
            from epgfn.gflownet.parallel import joined
            from epgfn_coordinator.together import Trainer, train_along

            where = chosen(device)
            if not stack.enter_context(joined(where)).is_first:
                train_along(where)
                return
            trainer = Trainer(where)
            ends.callback(trainer.end)
        log_to_stderr(Home(home).log, as_json=log_json)
        reporter = make_reporter("coordinator", events)
        ends.callback(reporter.close)
        run(
            Home(home),
            Journal(reporter, events),
            trainer=None if trainer is None else lambda: trainer,
            together=together,
            clock_is_right=clock_is_right,
            backup_is_newest=backup_is_newest,
            metrics_port=metrics_port,
            until_fetched=until_fetched,
        )
        ends.close()
        if still_at_work():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


def _is_one_of_several() -> bool:
    """Whether torchrun has started this process with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@app.command()
def receive(
    letter: Annotated[Path, typer.Argument(help="A letter that a node has written (--to-file).")],
    home: HomeOption = DEFAULT_HOME,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the reply (default: LETTER.reply).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Do what a letter asks that somebody has carried here, with all the checks of a call, and write the reply. Also while it serves.

    Example: epgfn-coordinator receive clinic-a.letter --home coordinator-home
    """
    from epgfn_coordinator.letters import hand_in

    reply = out or letter.with_name(letter.name + ".reply")
    store = _store(home)
    try:
        if Home(home).is_served():
            answered = hand_in(Home(home), store, letter, reply, LETTER_WITHIN)
        else:
            from epgfn_coordinator.main_loop import receive as take

            log_to_stderr()
            answered = take(Home(home), Journal(make_reporter("coordinator", events=False)), letter, reply)
    finally:
        store.close()
    if as_json:
        say(
            json.dumps(
                {
                    "node": answered.node_id,
                    "kind": answered.kind,
                    "refused": answered.reason or None,
                    "detail": answered.said,
                    "reply": str(reply),
                },
                indent=2,
            )
        )
    else:
        say(f"{answered.node_id}, {answered.kind}: {answered.said}")
        say(f"{reply}: the reply; carry it back to {answered.node_id}")
    if answered.reason:
        from epgfn.rpc import WAITING_REASONS

        raise typer.Exit(3 if answered.reason in WAITING_REASONS else 1)


@app.command()
def status(
    home: HomeOption = DEFAULT_HOME,
    study: StudyOption = None,
    as_json: AsJson = False,
) -> None:
    """Show where the round stands.

    Example: epgfn-coordinator status --home coordinator-home --json
    """
    from epgfn_coordinator.status import status as look

    found = look(find(Home(home), study))
    if as_json:
        say(json.dumps(found, indent=2))
        return
    width = max(map(len, found))
    for name, value in found.items():
        if isinstance(value, dict):
            value = [f"{whose} until {until}" for whose, until in value.items()]
        shown = ", ".join(value) or "none" if isinstance(value, list) else value
        missing = "unknown" if name.endswith("address") else "none"
        say(f"{name.replace('_', ' '):<{width}}  {missing if shown is None else shown}")


@app.command()
def close(home: HomeOption = DEFAULT_HOME, study: StudyOption = None, as_json: AsJson = False) -> None:
    """Close the round now, if a quorum of models is in; the serving process does it.

    Example: epgfn-coordinator close --home coordinator-home
    """
    store = Store(find(Home(home), study).state)
    try:
        if not Home(home).is_served():
            raise EpgfnError(f"no coordinator serves from {home}; start {NAME} serve --home {home} first")
        _tell_round(store, _ask(home, store, "requests", "deadline", None), as_json)
    finally:
        store.close()


@app.command()
def retry(home: HomeOption = DEFAULT_HOME, study: StudyOption = None, as_json: AsJson = False) -> None:
    """Have a round go on that has stopped because something failed, beside others that go on; `status` says what, under `trouble`.

    Example: epgfn-coordinator retry --study spring --home coordinator-home
    """
    current = find(Home(home), study)
    store = Store(current.state)
    try:
        trouble = store.text(TROUBLE_FACT)
        if not trouble:
            raise EpgfnError("nothing has stopped this round; epgfn-coordinator status says where it stands")
        if not Home(home).is_served():
            raise EpgfnError(
                f"no coordinator serves from {home}; {NAME} serve --home {home} has every round go on"
            )
        store.set_fact(RETRY_FACT, "")
    finally:
        store.close()
    said = f"it is tried again what failed: {trouble}"
    say(json.dumps({"state": "retrying", "detail": said}, indent=2) if as_json else said)


@app.command()
def extend(
    deadline: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="The new deadline with its time zone, such as 2030-01-31T12:00:00Z."
        ),
    ],
    home: HomeOption = DEFAULT_HOME,
    study: StudyOption = None,
    as_json: AsJson = False,
) -> None:
    """Extend the deadline. A round that waits for you because it passed without a quorum is open again. The ledger and the nodes are told.

    Example: epgfn-coordinator extend --deadline 2030-01-31T12:00:00Z --home coordinator-home
    """
    from epgfn_coordinator.main_loop import extend as put_off

    moment = _moment(deadline)
    current = find(Home(home), study)
    store = Store(current.state)
    try:
        if Home(home).is_served():
            said = _ask(home, store, "requests", "deadline", moment.isoformat())
        else:
            log_to_stderr()
            said = put_off(current, Journal(make_reporter("coordinator", events=False)), moment)
        _tell_round(store, said, as_json)
    finally:
        store.close()


def _tell_round(store: Store, said: str, as_json: bool) -> None:
    say(json.dumps({"state": store.text("state"), "detail": said}, indent=2) if as_json else said)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time; write it like 2030-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise UsageError(f"{text!r} has no time zone; write it like 2030-01-31T12:00:00Z")
    return moment.astimezone(UTC)


def _ask(home: Path, store: Store, table: str, column: str, asked: str | None) -> str:
    """Ask the serving process for something: in `requests` to close the round, or to extend its deadline, in `revocation_requests` to
    revoke a node's keys; its answer.

    Raises:
        WaitingError: it cannot close the round yet.
        EpgfnError: it says no, or nothing.
    """
    number = store.write(f"INSERT INTO {table} ({column}) VALUES (?)", asked)
    until = time.monotonic() + ANSWER_WITHIN
    while time.monotonic() < until:
        row = store.row(f"SELECT done, answer FROM {table} WHERE number = ?", number)
        if row is not None and row["done"] is not None:
            if not row["done"]:
                raise EpgfnError(row["answer"]) if asked else WaitingError("too-few", row["answer"])
            return str(row["answer"])
        time.sleep(0.1)
    store.write(f"DELETE FROM {table} WHERE number = ? AND done IS NULL", number)
    raise EpgfnError(f"the coordinator serving from {home} did not answer; look at its log, then try again")


@app.command()
def abandon(
    home: HomeOption = DEFAULT_HOME,
    study: StudyOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Really do it; there is no way back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give up a round that will have no result: destroy its key, so that no upload can ever be opened, and say so in the ledger.

    Example: epgfn-coordinator abandon --home coordinator-home --yes
    """
    from epgfn.study import Study
    from epgfn_coordinator.main_loop import abandon as give_up

    current = find(Home(home), study)
    if not yes:
        raise UsageError(
            f"abandoning the round in {current.root} ends it for good and destroys its key, unless the study keeps it; "
            "if that is what you want, add --yes"
        )
    log_to_stderr()
    state = give_up(current, Journal(make_reporter("coordinator", events=False)))
    kept = Study.load(current.study).transport.keep_round_key
    if as_json:
        say(json.dumps({"state": state, "round_key": "kept" if kept else "destroyed"}, indent=2))
        return
    key = "kept, as the study says" if kept else "destroyed"
    say(f"the round is {state}; its key is {key}")


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Run directory to write; must not exist, or be empty.")],
    home: HomeOption = DEFAULT_HOME,
    study: StudyOption = None,
    crate: Annotated[
        Path | None,
        typer.Option(help="Also pack it, audited, as a Five Safes RO-Crate: a ZIP file to write."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the run directory that an auditor checks offline with `epgfn audit`.

    Example: epgfn-coordinator export --home coordinator-home --out runs/first
    """
    from epgfn.study import Study
    from epgfn.study.lacks import notes_of
    from epgfn_coordinator.export import export as write

    current = find(Home(home), study)
    if crate is not None and crate.exists():
        raise UsageError(f"{crate} exists already; choose another name for the crate")
    state = write(current, out)
    if crate is not None:
        from epgfn.run.crate import pack

        pack(out, crate)
    agreed = Study.load(current.study)
    notes = [note for note in (agreed.disclosure, agreed.caution, agreed.one_way, *notes_of(agreed)) if note]
    if as_json:
        say(json.dumps({"run_dir": str(out), "state": state, "notes": notes}, indent=2))
        return
    for note in notes:
        say(f"note: {note}")
    state_note = "" if state == "published" else f" (the round is {state}: no global model in it yet)"
    say(f"{out}{state_note}")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write: one file, which must not exist yet.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Write state, models and keys into one file, as they are at one moment, whether a coordinator serves or not. Keep it secret.

    Example: epgfn-coordinator backup /srv/backups/monday.tar --home coordinator-home
    """
    from epgfn_coordinator.backup import back_up

    made = back_up(Home(home), file)
    if as_json:
        say(json.dumps({"backup": str(file), **made}, indent=2))
        return
    say(
        f"{file}: {made['bytes']} bytes, {made['entries']} ledger entries; it holds this coordinator's keys, so keep it secret"
    )
    if made["round_key"]:
        say(
            "note: the round's key is in it; delete this backup once the round is published, or destroying the key means nothing"
        )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `backup` has written.")],
    home: HomeOption = DEFAULT_HOME,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="A checkpoint of this ledger that somebody keeps (a node's last-checkpoint, an export's ledger/checkpoint); "
            "refuse an older backup. May be given again."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a coordinator's directory out of a backup. It enters nothing in its ledger before it is clear that nothing newer was seen.

    Example: epgfn-coordinator restore /srv/backups/monday.tar --home coordinator-home --checkpoint last-checkpoint
    """
    from epgfn_coordinator.backup import restore as put_back

    made = put_back(file, Home(home), checkpoint or [])
    if as_json:
        say(json.dumps({"home": str(home), **made}, indent=2))
        return
    say(f"{home}: restored the state of {made['made']}, with {made['entries']} ledger entries")
    say(
        "note: what was done after that is undone; keys and invitations that were revoked since are good again, so revoke them anew"
    )
    say(
        f"next: stop the old coordinator for good, then {NAME} serve --home {home}; it goes on once every node has shown what it has seen"
    )


@app.command()
def health(home: HomeOption = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Ask the serving process over TLS whether it serves; exit code 0 if so.

    Example: epgfn-coordinator health --home coordinator-home
    """
    from epgfn_coordinator.certificates import warnings
    from epgfn_coordinator.health import require_healthy

    address = require_healthy(Home(home))
    with contextlib.ExitStack() as opened:
        said = warnings(Home(home), *_stores(home, opened))
    if as_json:
        say(json.dumps({"serving": True, "address": address, "warnings": said}, indent=2))
        return
    say(f"serving at {address}")
    for sentence in said:
        say(f"warning: {sentence}")


def _authority(ca: Path | None, ca_key: Path | None) -> CertificateAuthority | None:
    """The institution's, if it is named."""
    if ca is None and ca_key is None:
        return None
    if ca is None or ca_key is None:
        raise UsageError("--ca and --ca-key belong together: the authority's certificate and its private key")
    from epgfn.base.passphrase import key_passphrase
    from epgfn.sealing.pki import CertificateAuthority

    return CertificateAuthority.adopt(ca, ca_key, key_passphrase(ca_key))


def _stores(home: Path, opened: contextlib.ExitStack) -> list[Store]:
    """Of all rounds, the first one's first."""
    return [opened.enter_context(contextlib.closing(Store(each.state))) for each in all_rounds(Home(home))]


def _store(home: Path) -> Store:
    Home(home).require()
    return Store(Home(home).state)
