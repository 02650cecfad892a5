"""Files of a run's result as the coordinator signed them: each is read only if it still is that file. Whose key signed, and all else, only
`epgfn audit` tells."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from epgfn.base.errors import RefusedError, UsageError
from epgfn.base.files import read_bytes, sha256_hex
from epgfn.run import layout
from epgfn.run.layout import RunLayout
from epgfn.run.summary import MAX_SUMMARY_BYTES, read_summary
from epgfn.sealing.bundle import MAX_BYTES as MAX_BUNDLE_BYTES
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.statement import parse_statement

_OF_A_SIGNED_RUN: Final = (
    layout.STUDY_BUNDLE,
    layout.ROUND_BUNDLE,
    layout.KEYS,
    layout.LEDGER,
    layout.UPLOADS,
)
"""Any of these in a directory says that a coordinator has signed what is in it."""
NO_SUMMARY: Final = "{} is not a summary that a coordinator writes; epgfn audit says more"


def signed(run_dir: Path) -> dict[str, str] | None:
    """SHA-256 of the files that the coordinator signed with its global model, by name; None where nobody has signed anything: a folder that
    somebody made by hand, or a round without a result.

    Raises:
        RefusedError: the signature is not by the key in the run directory, or was taken out of it.
    """
    run = RunLayout(run_dir)
    bundle = run.model.with_name(layout.MODEL_BUNDLE)
    missing = next((path for path in (bundle, run.coordinator_key) if not path.is_file()), None)
    if missing is not None:
        if any((run_dir / name).exists() for name in _OF_A_SIGNED_RUN) and _has_result(run):
            raise RefusedError(
                "not-verified",
                f"{missing} is missing, or no plain file, though this is the directory of a signed run: nobody vouches for its result; ask "
                "for an undamaged copy",
            )
        return None
    key = VerifyKey.from_pem(read_bytes(run.coordinator_key, "coordinator's key", MAX_BUNDLE_BYTES))
    return parse_statement(verify_bundle(read_bytes(bundle, "signature", MAX_BUNDLE_BYTES), key)).subjects


def _has_result(run: RunLayout) -> bool:
    return any(os.path.lexists(path) for path in (run.model, run.summary, run.samples))


def read_signed(path: Path, what: str, limit: int, digests: dict[str, str] | None) -> bytes:
    """The file at `path`, `what` it is being a word for people, at most `limit` bytes and one; where there are `digests`, only if it is
    the signed one.

    Raises:
        UsageError: it is not there. RefusedError: it is another one.
    """
    raw = read_bytes(path, what, limit)
    if digests is not None and digests.get(path.name) != sha256_hex(raw):
        raise RefusedError(
            "not-verified",
            f"{path} is not the file that the coordinator signed, so nobody knows what it is; epgfn audit says more",
        )
    return raw


def signed_summary(run_dir: Path) -> dict[str, Any] | None:
    """What a run's signed summary says; None where there is none, or an earlier version did not sign it.

    Raises:
        UsageError: the file is no summary, or missing though it was signed. RefusedError: it is not the one that the coordinator signed
            with this model.
    """
    path, digests = RunLayout(run_dir).summary, signed(run_dir)
    if not path.exists() if digests is None else layout.SUMMARY not in digests:
        return None
    try:
        return read_summary(read_signed(path, "summary", MAX_SUMMARY_BYTES, digests))
    except ValueError:
        raise UsageError(NO_SUMMARY.format(path)) from None
