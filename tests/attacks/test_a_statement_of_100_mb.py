"""Promise: nothing that is a statement, a letter or a study by its name takes the memory that its size claims, nor the time.

Each file here has 100 MB that are there, not a hole. Every reader is given it, in a process of its own whose memory is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from run_directory import RunDirectory

SIZE = 100_000_000
READ_EACH = """
import json, os, resource, sys
from pathlib import Path
from epgfn.base.errors import EpgfnError
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.kept import gather
from epgfn.run.heads import read_head, read_key
from epgfn.run.inspection import inspect_file
from epgfn.sealing.letter import read_letter
from epgfn.study import Study
from epgfn_node.settings import NodeSettings
from epgfn_node.trust import Invitation

root, names, huge = Path(sys.argv[1]), sys.argv[2].split(), sys.argv[3:]
said = {"": [f.message for f in audit_run(root).findings if not f.ok]}
settled = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
readers = [Study.load, Invitation.load, NodeSettings.load, read_letter, read_head, read_key, inspect_file, lambda p: gather(p.parent)]
for path in map(Path, huge):
    said[path.name] = []
    for read in readers:
        try:
            read(path)
        except EpgfnError as error:
            said[path.name].append(str(error))
    for name in names:
        os.rename(root / name, root.parent / "aside")
        os.link(path, root / name)
        said[f"{path.name} as {name}"] = [f.message for f in audit_run(root).findings if not f.ok]
        os.unlink(root / name)
        os.rename(root.parent / "aside", root / name)
print(json.dumps([said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - settled) << 10]))
"""
FILES = ("study.toml", "study.sigstore.json", "round.sigstore.json", "keys/coordinator.pem", "ledger/checkpoint",
         "global/model.sigstore.json", "uploads/north/upload.sigstore.json", "uploads/north/receipt.tlog-proof")  # fmt: skip


def test_no_reader_takes_more_memory_than_a_true_file_needs(
    run: RunDirectory, copy: Path, tmp_path: Path
) -> None:
    bundle = (run.root / "study.sigstore.json").read_bytes()
    at = bundle.index(b'"payload":"') + len(b'"payload":"')
    kinds = {
        "statement": bundle[:at] + b"A" * (SIZE - len(bundle)) + bundle[at:],
        "letter": b"epgfn-letter/v1\n" + b"{" * SIZE,
        "study": b'name = "' + b"a" * SIZE + b'"\n',
        "note": b"test/ledger\n1\n" + b"A" * SIZE + b"\n",
        "key": b"-----BEGIN PUBLIC KEY-----\n" + b"A" * SIZE,
    }
    folder = tmp_path / "huge"
    folder.mkdir()
    for name, raw in kinds.items():
        path = folder / name
        path.write_bytes(raw)
        path.chmod(0o600)
    paths = [str(folder / name) for name in kinds]
    done = subprocess.run(
        [sys.executable, "-c", READ_EACH, str(copy), " ".join(FILES), *paths],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said, grown = json.loads(done.stdout)
    assert said.pop("") == []
    for name in kinds:
        assert len(said.pop(name)) >= 7  # a folder of receipts may pass over what is none
    for name, found in said.items():
        assert found and "is larger than" in found[0], (name, found)
    assert grown < 32 << 20, grown
