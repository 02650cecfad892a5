"""The report: whoever opens it sees what was found and how far to trust it, and nothing it holds can act on their browser."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.run.comparison.graphs import Comparison
from epgfn.run.report import figures, write_report
from epgfn.run.report.run import read_run
from epgfn.run.report.text import escape, number, plain, signed
from epgfn.run.report.verdict import verdict
from epgfn.study import Study
from report_run import make_comparison, make_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip
ATTACK = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&{{$x"


class Page(HTMLParser):
    """Collects tags with their attributes, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _assert_complete_in_itself(html: str) -> None:
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "data", "background", "poster"):
            if name in attributes:
                assert (attributes[name] or "").startswith("data:image/png;base64,"), (tag, name)
        if tag == "img":
            assert len(attributes["alt"] or "") > 20
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL) + [
        a.get("style") or "" for _, a in page.tags
    ]
    assert not re.search(r"url\(|@import|expression", " ".join(styles))


@pytest.fixture
def comparison(small_study: Study) -> Comparison:
    return make_comparison(small_study)


@pytest.fixture
def run_dir(tmp_path: Path, small_study: Study, comparison: Comparison) -> Path:
    """A simulated run: the truth is known."""
    return make_run(tmp_path / "run", small_study, comparison, local=True)


def test_a_simulated_run_says_first_how_far_from_exact_it_is(
    run_dir: Path, comparison: Comparison, small_study: Study
) -> None:
    report = write_report(run_dir, comparison=comparison)
    assert report == run_dir / "global" / "report.html"
    html = report.read_text("utf-8")
    _assert_complete_in_itself(html)
    text = Page(html).text
    head = text[: text.index("Which edges are probable")]
    assert "close to the exact posterior" in head and "More probably adjacent than not: " in head
    assert "Records cannot always tell which way an edge goes" in text[len(head) :]
    assert number(comparison.global_edge_mae, 4) in head and number(comparison.null_edge_mae, 4) in head
    assert number(comparison.global_edge_max_error) in head
    assert html.count("<img ") == 3
    for words in ("no differential privacy", "does not show", "epgfn audit", small_study.digest):
        assert words in text


def test_the_figures_lie_beside_the_page_and_inside_it(run_dir: Path, tmp_path: Path) -> None:
    report = write_report(run_dir, out=tmp_path / "elsewhere" / "page.html")
    assert report == tmp_path / "elsewhere" / "page.html"
    names = sorted(path.name for path in report.parent.iterdir())
    assert names == ["edge_marginals.png", "page.html", "pooled_score.png", "training.png"]
    for name in names:
        if name.endswith(".png"):
            assert _png_size((report.parent / name).read_bytes())[0] > 600


def test_who_sent_what_is_what_the_ledger_says(run_dir: Path, small_study: Study) -> None:
    run = read_run(run_dir)
    text = Page(write_report(run_dir).read_text("utf-8")).text
    for upload in run.uploads:
        assert upload.receipt == "valid" and upload.ledger_index is not None
        assert run.ledger.entries[upload.ledger_index].sealed_sha256 == upload.sealed_sha256  # type: ignore[union-attr]
        for shown in (upload.sealed_sha256, upload.fingerprint):
            assert shown is not None and shown in text
    assert run.ledger.view is not None and run.ledger.view.note.decode().splitlines()[2] in text
    assert "Refused, entry 2: an upload of north (bad-signature)" in text


def test_a_real_federated_run_says_what_it_cannot_know(tmp_path: Path, small_study: Study) -> None:
    run_dir = make_run(tmp_path, small_study, absent=("south",))
    html = write_report(run_dir).read_text("utf-8")
    _assert_complete_in_itself(html)
    text = Page(html).text
    assert "is not known here" in text and "1 of 2 nodes" in text and "sent nothing" in text
    assert "The records of south" in text
    assert "Exact" not in text and "AUROC" not in text and "close to" not in text
    assert html.count("<img ") == 2
    assert not (run_dir / "global" / "pooled_score.png").exists()


def test_a_changed_upload_is_not_found_in_the_ledger(run_dir: Path) -> None:
    with (run_dir / "uploads" / "north" / "model.sealed").open("ab") as file:
        file.write(b"x")
    text = Page(write_report(run_dir).read_text("utf-8")).text
    assert "not found" in text and "invalid" in text


def test_a_receipt_for_another_entry_is_called_invalid(run_dir: Path) -> None:
    receipts = [run_dir / "uploads" / node / "receipt.tlog-proof" for node in ("north", "south")]
    receipts[0].write_bytes(receipts[1].read_bytes())
    assert [upload.receipt for upload in read_run(run_dir).uploads] == ["invalid", "valid"]


def test_a_damaged_ledger_is_named_at_the_top(run_dir: Path) -> None:
    path = next(path for path in (run_dir / "ledger" / "tile" / "entries").rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes().replace(b"north", b"nort2"))
    text = Page(write_report(run_dir).read_text("utf-8")).text
    assert text.index("The ledger does not verify") < text.index("Which edges are probable")


def test_no_text_of_a_study_becomes_markup(tmp_path: Path, small_study: Study) -> None:
    variables = [{"name": name} for name in (ATTACK[:60], "$\\frac$ _x^2", "evil&name")]
    study = small_study.with_changes({"name": ATTACK, "description": ATTACK, "variables": variables})
    html = write_report(make_run(tmp_path, study, make_comparison(study), local=True)).read_text("utf-8")
    _assert_complete_in_itself(html)
    assert "<script" not in html and "onerror=alert(1)>" not in html and "\u202e" not in html
    assert ATTACK in Page(html).text  # shown as it was written


def test_no_text_of_a_summary_becomes_markup(run_dir: Path) -> None:
    path = run_dir / "global" / "summary.json"
    summary = json.loads(path.read_bytes())
    summary["software"] = {ATTACK: ATTACK}
    summary["round_id"] = ATTACK
    summary["diagnostics"] = {ATTACK: ATTACK, "list": [ATTACK], "nodes": {ATTACK: {ATTACK: 1.0}}}
    summary["local_histories"] = {ATTACK: summary["history"]}
    path.write_text(json.dumps(summary))
    _assert_complete_in_itself(write_report(run_dir).read_text("utf-8"))


@given(st.text(max_size=40))
def test_escaped_text_cannot_leave_an_attribute_or_open_a_tag(text: str) -> None:
    assert not set("<>\"'\n\r\u202e\x00") & set(escape(text))
    page = Page(f'<p title="{escape(text)}">{escape(text)}</p>')
    assert [tag for tag, _ in page.tags] == ["p"]
    assert page.tags[0][1] == {"title": plain(text)} and page.text == plain(text)


@pytest.mark.parametrize(
    "broken",
    [
        b"{", b"[]", b"{}", b'{"edge_probabilities": [[0]], "aggregated": []}', b'{"edge_probabilities": "a", "aggregated": 3}',
        b'{"edge_probabilities": [[NaN,0,0],[0,0,0],[0,0,0]], "aggregated": []}',
        b'{"edge_probabilities": [[0,0,0],[0,0,0],[0,0,0]], "aggregated": [], "comparison": {"variables": []}}',
    ],
)  # fmt: skip
def test_a_summary_of_another_form_is_refused_in_one_sentence(run_dir: Path, broken: bytes) -> None:
    (run_dir / "global" / "summary.json").write_bytes(broken)
    with pytest.raises(
        UsageError, match=r"summary\.json is not the summary of a run of this study"
    ) as caught:
        write_report(run_dir)
    assert "\n" not in str(caught.value)
    assert not (run_dir / "global" / "report.html").exists()


def test_a_folder_that_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"study\.toml"):
        write_report(tmp_path)


def test_a_report_that_cannot_be_written_says_where(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EpgfnError, match="cannot write"):
        write_report(run_dir, out=tmp_path / "file" / "report.html")


@pytest.mark.parametrize(("error", "tone"), [(0.0, "good"), (0.12, "fair"), (2.0, "poor")])
def test_the_headline_follows_from_the_figures(
    tmp_path: Path, small_study: Study, error: float, tone: str
) -> None:
    study = small_study.with_changes({"variables": [{"name": f"v{i}"} for i in range(8)]})
    comparison = make_comparison(study, error=error)
    assert verdict(read_run(make_run(tmp_path, study, comparison))).tone == tone


def test_a_model_as_bad_as_the_empty_graph_is_told_so(tmp_path: Path, small_study: Study) -> None:
    comparison = make_comparison(small_study)
    comparison.global_edges[:] = 0.0
    assert "no more" in verdict(read_run(make_run(tmp_path, small_study, comparison))).headline


@pytest.mark.parametrize("variables", [2, 14, 15, 64])
def test_heatmaps_can_be_drawn_for_any_size_of_study(variables: int) -> None:
    names = [f"variable number {i}" for i in range(variables)]
    png = figures.edge_marginals(names, np.full((variables, variables), 0.5), None, {})
    assert _png_size(png)[0] > 600


def test_the_same_run_gives_the_same_bytes(run_dir: Path, tmp_path: Path) -> None:
    first, second = (write_report(run_dir, out=tmp_path / n / "r.html").read_bytes() for n in ("1", "2"))
    assert first == second


def test_numbers_are_written_for_people() -> None:
    shown = [number(x) for x in (0.1234, 0.0001, 0.0, None, float("nan"), -2.5)]
    assert shown == ["0.123", "<0.001", "0.000", "–", "–", "−2.500"]
    assert [signed(x) for x in (0.01, -0.01, 0.0001, -0.0001)] == ["+0.010", "−0.010", "0.000", "0.000"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; install it to open the report")
def test_a_browser_shows_the_page_whole(run_dir: Path, tmp_path: Path, small_study: Study) -> None:
    report = write_report(run_dir)
    done = subprocess.run(
        [str(CHROMIUM), *BROWSER_OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", report.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    _assert_complete_in_itself(done.stdout)
    page = Page(done.stdout)
    assert [tag for tag, _ in page.tags].count("img") == 3
    assert "Which edges are probable" in page.text and small_study.digest in page.text


def _png_size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


INFLUENCE = {
    "samples": 10_000,
    "sampling_noise": 0.003,
    "nodes": {
        "north": {"mean": 0.0123, "largest": 0.25, "edge": ["a", ATTACK]},
        "south": {"mean": 0.0042, "largest": 0.125, "edge": ["b", "c"]},
    },
}


def with_summary(run_dir: Path, **changes: object) -> Path:
    path = run_dir / "global" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return run_dir


def test_how_far_each_node_moves_the_result_is_told_as_influence_only(run_dir: Path) -> None:
    html = write_report(with_summary(run_dir, leave_one_out=INFLUENCE)).read_text()
    _assert_complete_in_itself(html)
    text = Page(html).text
    for shown in ("0.0123", "0.250", "b → c", "Leaving out north", "not a proof", "10,000"):
        assert shown in text
    assert (run_dir / "global" / "influence.png").read_bytes().startswith(b"\x89PNG")
    skipped = write_report(with_summary(run_dir, leave_one_out={"skipped": "only one model"})).read_text()
    assert "only one model" in skipped and "Leaving out" not in skipped


@pytest.mark.parametrize(
    "wrong",
    [
        "text",
        {},
        {**INFLUENCE, "nodes": {}},
        {**INFLUENCE, "samples": float("inf")},
        {**INFLUENCE, "nodes": {"north": {"mean": "x", "largest": 0.1, "edge": ["a", "b"]}}},
        {**INFLUENCE, "nodes": {"north": {"mean": 0.1, "largest": 0.1, "edge": ["a"]}}},
    ],
)
def test_a_damaged_account_of_influence_is_one_sentence(run_dir: Path, wrong: object) -> None:
    with pytest.raises(UsageError, match="not the summary"):
        write_report(with_summary(run_dir, leave_one_out=wrong))


def test_diagnostics_are_called_what_they_are(run_dir: Path) -> None:
    node = {
        "spread_nats": 0.2,
        "alpha": 0.3,
        "beta": 0.4,
        "divergence_bound_nats": 0.693,
        "disagreement_nats": 4.0,
    }
    found = {
        "effective_samples": 80.0,
        "divergence_bound_nats": 1.386,
        "nodes": {"north": node, "south": node},
    }
    text = Page(write_report(with_summary(run_dir, diagnostics=found)).read_text()).text
    assert "not a proof of honest training" in text and "estimate from samples" in text
    assert text.index("spread (nats)") < text.index("disagreement (nats)")
    assert "0.693" in text and "1.386" in text


def test_who_is_absent_and_what_became_of_their_share_of_the_prior_is_said(
    tmp_path: Path, small_study: Study
) -> None:
    text = Page(write_report(make_run(tmp_path / "run", small_study, absent=("south",))).read_text()).text
    assert "south is not in the product" in text and "missing 1/2" in text
