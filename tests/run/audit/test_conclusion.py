"""What an audit comes to, in ten lines; the ledger's story; a page of it all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from epgfn.ledger.entries import ExcludedEntry, KeyDestroyedEntry, RefusedEntry, StateEntry
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.conclusion import conclusion
from epgfn.run.audit.kept import Kept
from epgfn.run.audit.lines import as_json, as_lines
from epgfn.run.audit.timeline import timeline
from epgfn.run.report.audit_page import audit_page
from epgfn.study import Study
from made_claims import honest
from run_directory import ROUND_ID, STUDY_TEXT, RunDirectory, make_run, opened
from small import PRIVATE_STUDY

OLD_RUN = Path(__file__).parent / "before_the_move" / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_run(tmp_path_factory.mktemp("run") / "run")


def told(root: Path, **how: object) -> list[str]:
    return [str(line) for line in conclusion(audit_run(root, **how))]  # type: ignore[arg-type]


def test_ten_lines_say_what_is_proved_by_whose_keys_on_whose_word_and_what_is_unknown(
    run: RunDirectory,
) -> None:
    lines = told(run.root, coordinator_fingerprint=run.coordinator.public.fingerprint)
    assert len(lines) == 10
    assert [line.split(":")[0] for line in lines] == (
        4 * ["Proved"] + 2 * ["By the keys of"] + 2 * ["On the word of"] + 2 * ["Cannot be known"]
    )
    assert (
        "signed as one of the models of north and south, and of no other node; west took no part in it"
        in lines[0]
    )
    assert run.coordinator.public.fingerprint in lines[4] and "which is the one you gave" in lines[4]
    assert "hold their receipts against it: --receipts" in lines[9]


def test_a_key_that_nobody_compared_and_receipts_that_were_held_against_it_are_said(
    run: RunDirectory,
) -> None:
    lines = told(run.root, kept=[Kept("newest", run.tiles.note)])
    assert "NOBODY HAS COMPARED" in lines[4]
    assert "agrees with one receipt or checkpoint of others" in lines[3] and "--receipts" not in lines[9]


def test_a_failed_audit_proves_nothing(run: RunDirectory) -> None:
    report = audit_run(run.root, coordinator_fingerprint="0" * 64)
    lines = [str(line) for line in conclusion(report)]
    assert len(lines) == 2 and lines[0].startswith("NOT proved") and "coordinator-key" in lines[0]
    assert audit_run(run.root.parent / "nowhere").about is None


def test_an_old_run_is_told_what_it_does_not_bind() -> None:
    lines = told(OLD_RUN)
    assert len(lines) == 10
    assert lines[1].startswith("NOT proved:") and "the probabilities beside it" in lines[1]


def test_refused_uploads_kept_keys_and_noise_rest_on_somebodys_word(tmp_path: Path) -> None:
    text = STUDY_TEXT.replace("[training]", "[transport]\nkeep_round_key = true\n[training]")
    kept = opened(tmp_path / "kept", Study.from_bytes(text.encode()))
    digests = {"sealed_sha256": "0" * 64, "bundle_sha256": "0" * 64}
    kept.log(RefusedEntry(round_id=ROUND_ID, node_id="west", reason="malformed", **digests))
    kept.send("north")
    kept.send("south")
    kept.close()
    lines = told(kept.finish())
    assert "although it keeps the round key, why uploads of west were refused" in lines[6]
    private = opened(tmp_path / "private", Study.from_bytes(PRIVATE_STUDY.encode()))
    for node in private.study.roster:
        private.send(node, privacy=honest())
    private.close()
    lines = told(private.finish())
    assert (
        "on its own records, and drew the noise that it claims" in lines[7] and "up to the noise" in lines[8]
    )


def test_a_round_without_a_result_has_ten_lines_too(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    run.send("north")
    run.log(StateEntry(round_id=ROUND_ID, state="failed"))
    run.log(KeyDestroyedEntry(round_id=ROUND_ID, round_key_id=run.round_key.key_id))
    lines = told(run.finish())
    assert len(lines) == 10
    assert "the round ended as failed; whatever is shown as its result is not" in lines[0]


def test_the_timeline_tells_each_entry_in_its_order(run: RunDirectory) -> None:
    report = audit_run(run.root)
    assert report.about is not None
    story = timeline(report.about.entries)
    assert len(story) == len(run.entries)
    assert re.fullmatch(r" 6  a model of north is accepted: [0-9a-f]{16}…, \d+ bytes", story[6])
    assert not set(story) & set(as_lines(report))
    assert set(story) < set(as_lines(report, with_timeline=True))
    assert as_json(report)["timeline"] == story
    excluded = ExcludedEntry(
        round_id=ROUND_ID, node_id="west", sealed_sha256="0" * 64, reason="model-not-combined"
    )
    assert timeline([excluded]) == ["0  the model of west is excluded: model-not-combined"]


def test_the_page_holds_it_all_and_escapes_what_is_not_ours(tmp_path: Path) -> None:
    text = STUDY_TEXT.replace('name = "small"', 'name = "<script>alert(1)</script>"')
    run = opened(tmp_path / "run", Study.from_bytes(text.encode()))
    run.send("north")
    run.send("south")
    run.close()
    report = audit_run(run.finish())
    page = audit_page(report, run.root)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert "All " in page and "checks passed" in page
    for line in conclusion(report):
        assert line.kind in page
    assert page.count("is accepted:") == 2


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (16, "only the first 16 of the 64 digits"),
        (63, "only the first 63 of the 64 digits"),
        (0, "only the first 0 of the 64 digits"),
        ("sha256", "is no fingerprint"),
        ("0" * 64, "not the one you gave"),
        ("0" * 65, "is no fingerprint"),
    ],
)
def test_a_truncated_fingerprint_is_told_as_that(run: RunDirectory, given: int | str, why: str) -> None:
    whole = run.coordinator.public.fingerprint
    pin = whole[:given] if isinstance(given, int) else given
    report = audit_run(run.root, coordinator_fingerprint=pin)
    assert report.findings[0].check == "coordinator-key" and why in report.findings[0].message
    assert not report.ok
    spaced = ":".join(whole[k : k + 2] for k in range(0, 64, 2)).upper()
    assert audit_run(run.root, coordinator_fingerprint=spaced).findings[0].ok
