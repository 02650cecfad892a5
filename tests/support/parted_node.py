"""A node on a host of its own, slow enough to be cut off in the middle of its upload: python parted_node.py NODE INVITATION STUDY FOLDER.

What it does goes to standard output, a JSON object a line: "uploading" with the bytes sent, in the end "accepted" with what it was told.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from bad_line import bring
from coordinator_client import FakeNode, Upload
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.study import Study
from epgfn_node import submit

PIECE: Final = 1 << 10
PATIENCE: Final = 240.0  # seconds


class Slowly:
    """A reporter that takes its time over each piece."""

    def __init__(self, pause: float) -> None:
        self._pause = pause

    def event(self, phase: str, message: str = "", **fields: Any) -> None:
        """Say it."""
        print(json.dumps({"phase": phase, "message": message, **fields}), flush=True)
        if phase == "uploading":
            time.sleep(self._pause)

    def close(self) -> None:
        """Nothing is open."""


def _receipt(node: FakeNode, upload: Upload) -> Any:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return node.send(upload)
        except RefusedError as error:
            if error.reason != "checking" or time.monotonic() > until:
                raise
        except EpgfnError:
            if time.monotonic() > until:
                raise
        time.sleep(0.5)


def main() -> None:
    """Enrol, send a model, and say what the receipt is."""
    name, invitation, study_file, folder = sys.argv[1:]
    submit.PIECE = PIECE  # type: ignore[misc]
    study, report = Study.load(Path(study_file)), Slowly(0.1)
    node = FakeNode(name, json.loads(Path(invitation).read_bytes()))
    node.round_id = node.invitation.get("round_id", "")
    node.enroll()
    seen = [bytes(node.checkpoint().checkpoint)]
    upload = node.make_upload(study, seed=study.roster.index(name))
    bring(node, upload, node.invitation["address"], Path(folder), PATIENCE, report)
    answer = _receipt(node, upload)
    said = {
        "certificate": node.certificate,
        "sealed": upload.sealed,
        "receipt": answer.receipt,
        "entry": answer.entry,
    }
    report.event("accepted", seen=seen[0].hex(), **{key: bytes(value).hex() for key, value in said.items()})


if __name__ == "__main__":
    main()
