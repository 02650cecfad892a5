"""Promise: of 10,000 altered artifacts and run directories none is accepted, none crashes its reader, and none takes it above 512 MiB.

ALTERED= says how many; SOAK_SEED= plays the same again. A fifth are single artifacts as a coordinator opens them, the others whole
directories as an auditor gets them: bits, tokens and pieces of any file changed, files cut, swapped, dropped, doubled, or taken from
another round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from soaking import SEED

ALTERED = int(os.environ.get("ALTERED", "10000"))
LIMIT_MIB = 512
ALL = """
import json, random, resource, shutil, sys, tempfile
from pathlib import Path
from altered import accepted, alter, artifact
from run_directory import make_run

count, seed = int(sys.argv[1]), sys.argv[2]
folder = Path(tempfile.mkdtemp(prefix="epgfn-altered-"))
run, other = make_run(folder / "run"), make_run(folder / "other")
assert accepted(run.root) is None
took, crashed = [], []
for number in range(count):
    chance = random.Random(f"{seed} {number}")
    try:
        what = artifact(run, chance) if number % 5 == 0 else alter(run.root, other.root, chance, folder / "copy")
        if what:
            took.append([number, what])
    except Exception as error:
        crashed.append([number, repr(error)[:300]])
shutil.rmtree(folder)
print(json.dumps({"accepted": took, "crashed": crashed, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def soak_nothing_that_was_altered_is_accepted() -> None:
    print(f"\naltered artifacts and directories: {ALTERED}, SOAK_SEED={SEED}", flush=True)
    path = os.pathsep.join(["tests/support", os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", ALL, str(ALTERED), str(SEED)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    print(
        f"{len(said['accepted'])} accepted, {len(said['crashed'])} crashed, {said['peak_mib']:.0f} MiB at most",
        flush=True,
    )
    assert said["accepted"] == [] and said["crashed"] == []
    assert said["peak_mib"] < LIMIT_MIB
