"""The passphrase of a node's private keys: another one, one where there was none, or none. All keys at once."""

from __future__ import annotations

from pathlib import Path

from epgfn.base.passphrase import key_passphrase
from epgfn.base.replacing import replace_together
from epgfn.ledger.cosignature import CosignerKey
from epgfn.privacy.spending.ledger_file import KEY, key_bytes, read_key
from epgfn.sealing.keys import reencrypted
from epgfn.sealing.round_key_file import private_key_bytes, read_private_key
from epgfn_node.home import NodeHome
from epgfn_node.join import joined


def change_passphrase(home: NodeHome, new: str | None) -> list[Path]:
    """Encrypt every private key of the node with `new`, or with nothing; which files these are. Hold the locks of all of its rounds.

    Those of before that lie elsewhere, in backups, keep what they had. A spending log in a folder that node.toml names, which other nodes
    may share, keeps its key as it is.

    Raises:
        EpgfnError: a key does not open with the passphrase of now, or a file cannot be written; nothing is changed then.
    """
    node = NodeHome(home.base)
    old = key_passphrase(node.signing_key)
    files = {path: reencrypted(path, old, new) for path in (node.tls_key, node.signing_key)}
    spending = node.privacy / KEY
    if spending.exists():
        files[spending] = key_bytes(read_key(spending, old), new)
    for each in (node, *joined(node)):
        if each.witness_key.exists():
            files[each.witness_key] = CosignerKey.load(each.witness_key, old).private_bytes(new)
        if each.reply_key.exists():
            files[each.reply_key] = private_key_bytes(
                read_private_key(each.reply_key, old, "key of the reply"), new
            )
    replace_together(node.root, files)
    return list(files)
