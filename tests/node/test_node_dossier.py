"""The disclosure dossier, made before and after approval by the commands of a node: its form, what was measured, and that it stays here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epgfn.privacy.of_study.membership import all_but_one, population
from epgfn.study import Study
from parties import CoordinatorProcess, Node
from small import PRIVATE_STUDY, SMALL_STUDY

SCHEMA = Path(__file__).parents[2] / "docs" / "formats" / "disclosure-dossier.schema.json"
MORE = "".join(f'\n[[variables]]\nname = "{name}"\ncentre = 0.0\nscale = 1.0\n' for name in "de")
ADA = "Ada Lovelace, data manager"


def require_form(record: dict[str, Any]) -> None:
    """By the library where it is there; its top level in any case."""
    schema = json.loads(SCHEMA.read_text())
    assert set(record) == set(schema["required"])
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(record, schema, cls=jsonschema.Draft202012Validator)


def written(path: Path, columns: str, n: int) -> Path:
    draw, v = np.random.default_rng(4), len(columns.split(","))
    rows = draw.normal(size=(n, v)) @ (np.tril(draw.normal(size=(v, v)), -1) + np.eye(v)).T
    np.savetxt(path, np.clip(rows, -4.9, 4.9), delimiter=",", header=columns, comments="", fmt="%.9f")
    return path


def test_before_and_after_approval(tmp_path: Path) -> None:
    study = Study.from_bytes((SMALL_STUDY + MORE).encode())
    (tmp_path / "study.toml").write_bytes(study.raw)
    data = written(tmp_path / "records.csv", "a,b,c,d,e", 120)
    with CoordinatorProcess(tmp_path / "coordinator", tmp_path / "study.toml") as coordinator:
        node = Node(tmp_path / "north").join(coordinator, "north").train(data, study)
        folder = tmp_path / "dossier"
        node.ok("inspect", "--dossier", str(folder))
        record = json.loads((folder / "dossier.json").read_text())
        reconstruction, known, _ = record["attacks"]
        assert (
            reconstruction["result"]["records"] == 120
            and "there are 120 of them" in reconstruction["in_words"]
        )
        assert "add --data FILE" in known["why_not"]
        assert record["decision"] == {"status": "trained", "approvals_needed": 1, "approved_by": []}
        require_form(record)

        node.ok("approve", "--as", ADA)
        node.ok("inspect", "--dossier", str(folder), "--data", str(data))
        record = json.loads((folder / "dossier.json").read_text())
        _, known, shadows = record["attacks"]
        assert known["result"] == {
            "auc": 1.0,
            "true_positive_rate_at_1_percent": 1.0,
            "members": 20,
            "others": 20,
        }
        assert 0.5 < shadows["result"]["auc"] < 0.8
        assert record["decision"]["approved_by"] == [ADA] and record["decision"]["status"] == "approved"
        assert record["output"]["sealed"]["sha256"]
        page = (folder / "dossier.html").read_text()
        assert ADA in page and "for this institution alone" in page and "<script" not in page
        assert [
            path.stat().st_mode & 0o777 for path in (folder, folder / "dossier.json", folder / "dossier.html")
        ] == [0o700, 0o600, 0o600]
        assert "records_check" not in (node.home / "outbox" / "upload.sigstore.json").read_text()
        require_form(record)


def test_under_privacy_the_claim_bounds_and_nobody_looks(tmp_path: Path) -> None:
    study = Study.from_bytes(PRIVATE_STUDY.encode())
    (tmp_path / "study.toml").write_bytes(study.raw)
    data = written(tmp_path / "records.csv", "a,b,c", 200)
    with CoordinatorProcess(tmp_path / "coordinator", tmp_path / "study.toml") as coordinator:
        node = Node(tmp_path / "north").join(coordinator, "north")
        node.ok("train", "--data", str(data), "--accept-study", study.digest, "--privacy-budget", "4")
        node.ok("inspect", "--dossier", str(tmp_path / "dossier"), "--data", str(data))
        record = json.loads((tmp_path / "dossier" / "dossier.json").read_text())
        (attack,) = record["attacks"]
        assert attack["result"]["bound"] and attack["result"][
            "true_positive_rate_at_1_percent"
        ] == pytest.approx(0.081, abs=0.01)
        assert record["records_check"]["records"] is None and record["records_check"]["unchecked"]
        require_form(record)


def test_members_of_few_records_show_and_those_of_many_do_not() -> None:
    study = Study.from_bytes(SMALL_STUDY.encode())
    draw = np.random.default_rng(0)
    few, many = (population(study, draw.normal(size=(n, 3)), seed=1) for n in (48, 4_000))
    assert few is not None and many is not None
    assert few.auc > 0.6 > 0.53 > many.auc > 0.49
    assert population(study, draw.normal(size=(20, 3)), seed=1) is None


def test_who_knows_all_others_is_not_right_about_another_table() -> None:
    """A table that the records did not make tells nothing of them."""
    study = Study.from_bytes(SMALL_STUDY.encode())
    draw = np.random.default_rng(0)
    found = all_but_one(study, draw.normal(size=(3, 7)), draw.normal(size=(60, 3)), seed=1)
    assert 0.2 < found.auc < 0.8
