"""The commands of `epgfn-coordinator` about its own private keys."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from epgfn.base.console import say
from epgfn_coordinator.command_options import DEFAULT_HOME, AsJson, HomeOption, MlDsa
from epgfn_coordinator.home import Home


def passphrase(
    home: HomeOption = DEFAULT_HOME,
    remove: Annotated[
        bool, typer.Option("--remove", help="Put the private keys under no passphrase.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put all private keys under another passphrase, under one for the first time, or under none. Stop `serve` before.

    The passphrase of now is found as ever; the new one is asked for, or in EPGFN_NEW_KEY_PASSPHRASE_FILE.

    Example: epgfn-coordinator passphrase --home coordinator-home
    """
    from epgfn.base.passphrase import changed_passphrase
    from epgfn_coordinator.protection import change_passphrase

    current = Home(home)
    current.require()
    files = change_passphrase(current, None if remove else changed_passphrase())
    if as_json:
        said = {"home": str(home), "keys": [str(path) for path in files], "protected": not remove}
        say(json.dumps(said, indent=2))
        return
    say(
        f"{len(files)} private keys in {home} are under {'no passphrase' if remove else 'the new passphrase'} now; copies of them "
        "elsewhere, as in backups, are as they were"
    )


def rotate_key(
    home: HomeOption = DEFAULT_HOME,
    reason: Annotated[
        str, typer.Option(help="Why, in a few words; everybody can read it.")
    ] = "regular change",
    ml_dsa: MlDsa = False,
    as_json: AsJson = False,
) -> None:
    """Put another signing key in the place of the present one, for rounds that are opened from now on. Stop `serve` before.

    Both keys sign that; nodes follow when they join such a round, and its ledger says so. Rounds that are open keep their key.

    Example: epgfn-coordinator rotate-key --reason "a key a year" --home coordinator-home
    """
    from epgfn_coordinator.signing import replaced_keys, rotate

    made = rotate(Home(home), reason, double=ml_dsa)
    said = made.said
    if as_json:
        shown = {
            "old_fingerprint": said.old_fingerprint,
            "new_fingerprint": said.new_fingerprint,
            "time": said.time,
        }
        say(json.dumps({"home": str(home), **shown, "reason": said.reason}, indent=2))
        return
    say(f"the signing key of rounds from now on is {said.new_fingerprint}; tell auditors, who compare it")
    kept = replaced_keys(Home(home))[-1]
    say(
        f"rounds that are there keep {said.old_fingerprint}, whose private key stays in {kept}; delete it once they have nothing to sign"
    )
