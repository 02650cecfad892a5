"""The commands of `epgfn-node` about its own private keys."""

from __future__ import annotations

from typing import Annotated

import typer

from epgfn_node.command_options import DEFAULT_HOME, Events, Home, MlDsa, ToFile
from epgfn_node.home import NodeHome
from epgfn_node.sessions import connect, session


def passphrase(
    home: Home = DEFAULT_HOME,
    remove: Annotated[
        bool, typer.Option("--remove", help="Put the private keys under no passphrase.")
    ] = False,
    events: Events = False,
) -> None:
    """Put all of this node's private keys under another passphrase, under one for the first time, or under none.

    The passphrase of now is found as ever; the new one is asked for, or in EPGFN_NEW_KEY_PASSPHRASE_FILE.
    """
    from contextlib import ExitStack

    from epgfn.base.passphrase import changed_passphrase
    from epgfn_node.join import joined
    from epgfn_node.protection import change_passphrase

    with session(NodeHome(home).base, events) as (node_home, report), ExitStack() as held:
        node_home.require_initialised()
        for each in joined(node_home):
            held.enter_context(each.locked())
        files = change_passphrase(node_home, None if remove else changed_passphrase())
        report.event(
            "protected",
            f"{len(files)} private keys in {node_home.root} are under {'no passphrase' if remove else 'the new passphrase'} now; copies of "
            "them elsewhere, as in backups, are as they were",
        )


def rotate_key(
    home: Home = DEFAULT_HOME,
    reason: Annotated[
        str, typer.Option("--reason", help="Why, in a few words; everybody can read it.")
    ] = "regular change",
    resend: Annotated[
        bool,
        typer.Option(
            "--resend",
            help="Change nothing; tell a coordinator that was restored from a backup of the changes so far.",
        ),
    ] = False,
    ml_dsa: MlDsa = False,
    to_file: ToFile = None,
    events: Events = False,
) -> None:
    """Put another signing key in the place of this node's, in all of its rounds. Both keys sign that, and the ledger says so.

    What was accepted stands under the old key. It does not help against stolen keys: have those revoked.
    """
    from contextlib import ExitStack

    from epgfn_node.join import joined
    from epgfn_node.letters import write_rotation
    from epgfn_node.rotation import is_untold, last_change, require_taken, said_of, tell
    from epgfn_node.rotation import rotate_key as replace_key
    from epgfn_node.study import load_agreement

    with session(NodeHome(home).base, events) as (node_home, report), ExitStack() as held:
        node_home.require_enrolled()
        rounds = [node_home, *joined(node_home)]
        for each in rounds[1:]:
            held.enter_context(each.locked())
        connection = connect(node_home, report)
        begun = is_untold(
            node_home
        )  # by this command, which was interrupted: it ends that, and begins no other
        if to_file is not None:
            agreement = load_agreement(node_home, connection.trust)
            if not (resend or begun):
                replace_key(node_home, rounds, connection.node_id, reason, double=ml_dsa)
                connection = connect(node_home)
            write_rotation(connection, agreement, to_file, report)
            return
        with connection.open(report) as coordinator:
            require_taken(coordinator)
            if not (resend or begun):
                replace_key(node_home, rounds, connection.node_id, reason, double=ml_dsa)
            tell(node_home, coordinator)
        made = last_change(node_home)
        if made is None:
            report.event("key-replaced", "this node has never changed its signing key")
        else:
            report.event(
                "key-replaced",
                said_of(made),
                fingerprint=made.said.new_fingerprint,
            )
