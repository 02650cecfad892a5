"""`epgfn-node passphrase`: every private key under another one at once, what was before keeps working, and nothing else opens them."""

from __future__ import annotations

from pathlib import Path

import pytest

from epgfn.base.errors import UsageError
from epgfn.base.passphrase import changed_passphrase
from epgfn.base.private_keys import ENCRYPTED
from epgfn.ledger.cosignature import CosignerKey
from epgfn.privacy.spending.ledger_file import KEY, LINES
from epgfn.privacy.spending.spending import Budget, PrivacyLedger
from epgfn.sealing.round_key import RoundPrivateKey
from epgfn.sealing.round_key_file import read_private_key, write_private_key
from epgfn_node.cli import NAME, app
from epgfn_node.home import NodeHome
from parties import REFUSED, WRONG_USE, Node, in_process

OLD, NEW = "correct horse", "battery staple"


def test_all_keys_change_together_and_open_with_nothing_else(tmp_path: Path) -> None:
    node = Node(tmp_path / "north")
    node.ok("init", EPGFN_KEY_PASSPHRASE=OLD)
    home = NodeHome(node.home)
    # As a home of before would have them: neither was ever under a passphrase.
    CosignerKey.generate("w").save(home.witness_key)
    PrivacyLedger(home.privacy, Budget(8.0, 1e-5)).new_population("ward-b", "other people, of another ward")
    reply = RoundPrivateKey.generate("X25519")
    home.reply_key.parent.mkdir()
    write_private_key(home.reply_key, reply, OLD)
    before = CosignerKey.load(home.witness_key, OLD).public
    said = node.ok("passphrase", EPGFN_KEY_PASSPHRASE=OLD, EPGFN_NEW_KEY_PASSPHRASE=NEW)
    assert "5 private keys" in said and NEW not in said and OLD not in said
    for path in (home.tls_key, home.signing_key, home.witness_key, home.privacy / "privacy-ledger.key"):
        assert ENCRYPTED in path.read_bytes() and path.stat().st_mode & 0o777 == 0o600
    assert CosignerKey.load(home.witness_key, NEW).public == before
    assert read_private_key(home.reply_key, NEW, "key").to_bytes() == reply.to_bytes()
    opened = PrivacyLedger(home.privacy, Budget(8.0, 1e-5), passphrase=NEW)
    with pytest.raises(UsageError, match="there is a population ward-b already"):
        opened.new_population("ward-b", "other people, of another ward")
    for wrong in (OLD, "something else"):
        change = {"EPGFN_KEY_PASSPHRASE": wrong, "EPGFN_NEW_KEY_PASSPHRASE": "whatever it is"}
        assert "does not open" in node.fails(REFUSED, "passphrase", **change)
    kept = node.files()
    assert "fewer than 8" in node.fails(
        WRONG_USE, "passphrase", EPGFN_KEY_PASSPHRASE=NEW, EPGFN_NEW_KEY_PASSPHRASE="short"
    )
    assert {k: v for k, v in node.files().items() if k != ".lock"} == {
        k: v for k, v in kept.items() if k != ".lock"
    }
    node.ok("passphrase", "--remove", EPGFN_KEY_PASSPHRASE=NEW)
    assert not any(ENCRYPTED in raw for raw in node.files().values())
    node.ok("passphrase", EPGFN_NEW_KEY_PASSPHRASE=OLD)
    assert "needs its passphrase" in node.fails(REFUSED, "passphrase", "--remove")


def test_where_nobody_can_be_asked_it_says_how_to_give_one(tmp_path: Path) -> None:
    node = Node(tmp_path / "north")
    node.ok("init")
    said = node.fails(WRONG_USE, "passphrase")
    assert "EPGFN_NEW_KEY_PASSPHRASE_FILE" in said and "--remove" in said
    with pytest.raises(UsageError):
        changed_passphrase()


def test_a_spending_log_of_before_is_taken_over_with_its_passphrase_only(tmp_path: Path) -> None:
    """It lay in the home, under the home's passphrase; that of an account, which homes share, is under none."""
    node = Node(tmp_path / "north")
    node.ok("init", EPGFN_KEY_PASSPHRASE=OLD)
    PrivacyLedger(NodeHome(node.home).privacy, Budget(8.0, 1e-5), passphrase=OLD).new_population(
        "ward-b", "other people, of another ward"
    )
    command = ["privacy", "population", "new", "ward-b", "--because", "other people, of another ward"]
    command += ["--home", str(node.home)]
    done = in_process(app, NAME, command, node.account)
    assert "needs its passphrase" in done.stderr and not (node.spending / LINES).exists()
    done = in_process(app, NAME, command, {"EPGFN_KEY_PASSPHRASE": OLD, **node.account})
    assert "there is a population ward-b already" in done.stderr
    assert ENCRYPTED not in (node.spending / KEY).read_bytes()
