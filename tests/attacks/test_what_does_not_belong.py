"""Promise: what lies in a run directory that passes is vouched for, or named as not. Somebody adds files, folders, links, pictures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attacks import refusals
from epgfn.run.audit.audit import audit_run


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        ".hidden",
        "keys/nodes/east.pem",
        "uploads/north/extra",
        "uploads/x",
        "global/x.svg",
        "global/x.png",
        "global/report.html.png",
        "global/marginals.png",
        "global/influence.png",
        "global/pooled_score.png",
        "edge_marginals.png",
        "withdrawals/3.sigstore.json",
        "aggregates/2/model.safetensors",
        "ledger/x",
        "ledger/tile/0/x000/000",
    ],
)
def test_a_surplus_file_is_refused_by_name(copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes(b"surplus")
    found = " ".join(refusals(copy).values())
    assert name.removeprefix("ledger/") in found


@pytest.mark.parametrize("name", ["extra", "global/more", "ledger/tile/9", "keys/nodes/east", "uploads/west"])
def test_a_folder_that_holds_nothing_is_refused_by_name(copy: Path, name: str) -> None:
    (copy / name).mkdir()
    assert f"the folder {name!r} does not belong in a run directory" in refusals(copy)["files"]


def test_links_and_pipes_are_not_followed(copy: Path) -> None:
    sealed = copy / "uploads/north/model.sealed"
    real = sealed.rename(copy.parent / "elsewhere")
    sealed.symlink_to(real)
    assert refusals(copy)["upload north"] == "uploads/north/model.sealed is not a plain file"
    sealed.unlink()
    os.mkfifo(sealed)
    assert refusals(copy)["upload north"] == "uploads/north/model.sealed is not a plain file"


def test_the_page_and_its_own_pictures_are_named_as_not_signed(copy: Path) -> None:
    for name in ("report.html", "edge_marginals.png", "training.png"):
        (copy / "global" / name).write_bytes(b"anything")
    report = audit_run(copy)
    assert report.ok
    assert "pictures are not signed" in next(f.message for f in report.findings if f.check == "not-signed")
