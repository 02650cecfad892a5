"""docs/studies.md: every study it shows is one, and the records below it are read as that study's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from epgfn.base.errors import UsageError
from epgfn.learn.policy import policy_spec
from epgfn.study import Study
from epgfn.study.kinds import KINDS
from epgfn.study.records.tables import load_records

PAGE = (Path(__file__).parents[2] / "docs" / "studies.md").read_text("utf-8")
SHOWN = re.findall(r"```toml\n(.*?)```\n+```(csv|fasta)\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/study*.toml"))


def test_every_kind_of_study_is_shown() -> None:
    studies = [Study.from_bytes(text.encode()) for text, *_ in SHOWN]
    assert len(SHOWN) == PAGE.count("```toml") == 7
    assert {study.space.kind for study in studies} | {"dag-by-edges"} == set(KINDS)
    assert {study.target.kind for study in studies} == {kind.targets[0].name for kind in KINDS.values()} | {
        "bdeu",
        "conditional-gaussian",
    }


@pytest.mark.parametrize(("text", "form", "records"), SHOWN)
def test_the_records_below_a_study_are_its_records(
    text: str, form: str, records: str, tmp_path: Path
) -> None:
    study, path = Study.from_bytes(text.encode()), tmp_path / f"north.{form}"
    path.write_text(records)
    found = load_records(path, study)
    assert len(found) == (len(records.split()[1]) if form == "fasta" else records.count("\n") - 1)
    path.write_text(records.replace("C", "!") if form == "fasta" else records.replace(",", ";") + ",,\n")
    with pytest.raises(UsageError):
        load_records(path, study)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_example_is_a_study_whose_data_are_read(path: Path) -> None:
    study = Study.load(path)
    assert policy_spec(study)
    for node in study.roster:
        for file in path.parent.glob(f"{node}.*"):
            assert len(load_records(file, study, node)) >= 30
            assert file.stat().st_size < 100_000
