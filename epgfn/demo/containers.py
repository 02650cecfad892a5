"""What the containers of docker-compose.yml's profile `demo` do; docs/compose.md.

    python -m epgfn.demo.containers coordinator   # keys and invitations, serve until every node has the result, export, report, audit
    python -m epgfn.demo.containers clinic-a      # its part of the example's records, then `epgfn-node run`

Nothing has to be prepared: the records are the example's, which every image holds, and each party makes its own passphrase. That is for
a demonstration only. Killed or stopped at any moment, a party goes on where it was when its container is started again.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from epgfn.base.console import INTERRUPTED_CODE, STOPPING
from epgfn.base.errors import EpgfnError
from epgfn.base.files import write_atomic, write_secret
from epgfn.base.passphrase import PASSPHRASE_FILE
from epgfn.demo.simulation import COORDINATOR
from epgfn.study import Study

NODES: Final = 3
SEED: Final = 1
OWN: Final = Path("/var/lib/epgfn")
"""The party's own volume: its home, keys, passphrase and, of a node, records."""
INVITATIONS: Final = Path("/invitations")
OUT: Final = Path("/out")
ON_THE_HOST: Final = "deploy/out"
QUICK: Final = "EPGFN_DEMO_QUICK"
"""Set to anything: the models are trained briefly, which shows the procedure and not how good it gets."""


class Steps:
    """Programs one after the other. A signal to stop is passed on to the one that runs, and then no other begins."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False
        for number in STOPPING:
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        if self._child is not None:
            self._child.terminate()

    def run(self, *command: str) -> None:
        """To its end; a failure ends this process with the same exit code, a signal with that of an interruption."""
        if not self._stopped:
            self._child = subprocess.Popen(command)
            if self._stopped:  # the signal came before there was a child to pass it on to
                self._child.terminate()
            code = self._child.wait()
            self._child = None
            if code and not self._stopped:
                sys.exit(code if code > 0 else 128 - code)
        if self._stopped:
            sys.exit(INTERRUPTED_CODE)


def coordinator(study: Study, own: Path = OWN, invitations: Path = INVITATIONS, out: Path = OUT) -> None:
    """From nothing, or from wherever it was, to a run directory in `out`."""
    steps, home, done, run = Steps(), own / "coordinator-home", own / "run-directory", out / "run"
    if done.exists():
        print(
            f"this demo is over; its result is {done.read_text()}, and `down --volumes` forgets it for another"
        )
        return
    if not os.access(out, os.W_OK):
        raise EpgfnError(f"cannot write to {ON_THE_HOST}; run on the host: chmod 777 {ON_THE_HOST}")
    _make_passphrase()
    write_atomic(own / "study.toml", study.raw)
    named = [
        "--address",
        "coordinator:7443",
        "--enroll-address",
        "coordinator:7444",
        "--tls-name",
        COORDINATOR,
    ]
    steps.run("epgfn-coordinator", "init", "--home", str(home), "--study", str(own / "study.toml"), *named)
    for node in study.roster:
        if not (invitation := invitations / f"{node}.json").exists():
            steps.run("epgfn-coordinator", "token", node, "--home", str(home), "--out", str(invitation))
    steps.run("epgfn-coordinator", "serve", "--home", str(home), "--until-fetched")
    number = 1
    while run.exists():  # of a demo before
        number += 1
        run = out / f"run-{number}"
    steps.run("epgfn-coordinator", "export", "--home", str(home), "--out", str(run))
    steps.run("epgfn", "report", str(run))
    steps.run("epgfn", "audit", str(run))
    seen = f"{ON_THE_HOST}/{run.name}"
    write_atomic(done, seen.encode())
    print(f"the report is {seen}/global/report.html; anybody can check the run: epgfn audit {seen}")


def node(
    name: str, study: Study, records: bytes, own: Path = OWN, invitations: Path = INVITATIONS
) -> NoReturn:
    """Becomes `epgfn-node run`, so that signals reach that and its exit code is the container's."""
    _make_passphrase()
    write_atomic(own / "records.csv", records)
    given = [f"--home={own / name}", f"--invite={invitations / name}.json", f"--data={own / 'records.csv'}"]
    # Accepting the study and approving the model are the operator's acts; here one person is all operators at once.
    agreed = [f"--accept-study={study.digest}", "--approve-automatically"]
    os.execvp("epgfn-node", ["epgfn-node", "run", *given, *agreed])


def _make_passphrase() -> None:
    path = Path(os.environ[PASSPHRASE_FILE])
    if not path.exists():
        write_secret(path, secrets.token_urlsafe(32).encode())


def main(party: str) -> None:
    """Entry point."""
    from epgfn.demo.demo import demo_records, demo_study

    study = demo_study(NODES, SEED, quick=bool(os.environ.get(QUICK)))
    try:
        if party == COORDINATOR:
            coordinator(study)
        else:
            node(party, study, demo_records(NODES, SEED)[party])
    except EpgfnError as error:
        sys.exit(f"{party}: {error}")


if __name__ == "__main__":
    main(sys.argv[1])
