"""Promise: an auditor's machine is safe from what it audits. Any file may claim to be 4 GiB, in a hole that takes no room on a disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from run_directory import RunDirectory

AUDIT_EACH = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3_000_000 << 10, 3_000_000 << 10))  # as `ulimit -v 3000000`
from pathlib import Path
from epgfn.run.audit.audit import audit_run
root, names = Path(sys.argv[1]), sys.argv[2:]
before = audit_run(root)
found = {"": [f.message for f in before.findings if not f.ok]}
settled = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in names:
    path = root / name
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(4 << 30)
    found[name] = [f.message for f in audit_run(root).findings if not f.ok]
    with path.open("r+b") as file:
        file.truncate(size)
print(json.dumps([found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - settled]))
"""


def test_an_honest_run_passes_in_little_memory_and_no_file_of_4_gib_takes_more(
    run: RunDirectory, copy: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AUDIT_EACH, str(copy), *run.files], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found, grown_kib = json.loads(done.stdout)
    assert found.pop("") == []
    assert sorted(found) == run.files
    for name, said in found.items():
        # A sentence that names the file and its bound, not a crash that was caught.
        assert said and name in said[0] and "is larger than" in said[0], (name, said)
    assert grown_kib < 128 << 10
