"""The report: whoever opens it sees what was found and how far to trust it, and nothing it holds can act on their browser."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import sha256_hex
from epgfn.run.audit.audit import audit_run
from epgfn.run.comparison.graphs import Comparison
from epgfn.run.report import figures, report_of, write_report
from epgfn.run.report.run import read_run
from epgfn.run.report.text import escape, number, plain, signed
from epgfn.run.report.verdict import compared
from epgfn.run.summary import probabilities_of, read_summary
from epgfn.sealing.predicates import COMPARISON
from epgfn.sealing.statement import make_statement
from epgfn.study import Study
from report_run import made_model, make_comparison, make_run
from run_directory import ROUND_ID, RunDirectory, contents

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
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    led_to = {(a["href"] or "")[1:] for tag, a in page.tags if tag == "a"} | {
        a["for"] for tag, a in page.tags if tag == "label"
    }
    assert led_to | {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a} <= set(names)
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "data", "background", "poster"):
            if name in attributes:
                inside = "#" if tag == "a" else "data:image/png;base64,"
                assert (attributes[name] or "").startswith(inside), (tag, name)
        if tag == "img":
            assert len(attributes["alt"] or "") > 20
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL) + [
        a.get("style") or "" for _, a in page.tags
    ]
    assert not re.search(r"url\(|@import|expression", " ".join(styles))


@pytest.fixture
def comparison(small_study: Study) -> Comparison:
    made = make_comparison(small_study)
    published = np.array(contents(small_study.raw, made_model(small_study))[0]["edge_probabilities"])
    off = np.full_like(published, 0.004)
    off[0, 1] = 0.03
    exact = np.where(published > 0.5, published - off, published + off) * ~np.eye(len(published), dtype=bool)
    return replace(made, exact_edges=exact, weighted=True)


@pytest.fixture
def run(tmp_path: Path, small_study: Study) -> RunDirectory:
    return RunDirectory(tmp_path / "run", small_study)


@pytest.fixture
def run_dir(run: RunDirectory, small_study: Study, comparison: Comparison) -> Path:
    """A simulated run: the truth is known."""
    return make_run(run.root, small_study, comparison, local=True, coordinator=run.coordinator)


def test_a_simulated_run_says_first_what_was_found_and_then_how_far_from_exact_it_is(
    run_dir: Path, comparison: Comparison, small_study: Study
) -> None:
    report = write_report(run_dir)
    assert report == run_dir / "global" / "report.html"
    html = report.read_text("utf-8")
    _assert_complete_in_itself(html)
    text = Page(html).text
    order = ("More probably adjacent than not: ", "How sure", "Which way", "Do the nodes agree", "Records cannot always tell which way",
             "Which graphs are probable as a whole", "This run is a simulation", "close to the exact posterior", "no differential privacy",
             "of epgfn audit passed", "Who sent what", "Ledger and keys")  # fmt: skip
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert "known here only because this is a simulation" in text[: text.index("Which edges are probable")]
    # What is published comes first; of what every other figure is, it says.
    said = compared(read_run(run_dir))
    assert said is not None and said.detail in text
    published, samples = said.detail.split("Those of 20,000 samples of the global model")
    mean, largest = (5 * 0.004 + 0.03) / 6, 0.03
    assert (
        f"published edge probabilities differ from the exact ones by {number(mean, 4)} on average"
        in published
    )
    assert f"largest error is {number(largest)}, at a → b" in published
    assert samples.startswith(", weighted towards the scores it carries, differ by ")
    assert f"{number(comparison.global_edge_mae, 4)} on average" in samples
    assert f"{number(comparison.global_edge_max_error)} at most" in samples
    assert html.count("<img ") == 3
    for words in ("no differential privacy", "does not show", "epgfn audit", small_study.digest):
        assert words in text


@pytest.mark.parametrize("missing", ["complete-rows", "impute"])
def test_what_blanks_cost_is_in_no_exact_figure_and_the_page_says_so(
    small_study: Study, tmp_path: Path, missing: str
) -> None:
    study = small_study.with_changes({"data": {"missing": missing}})
    text = Page(write_report(make_run(tmp_path / "run", study)).read_text("utf-8")).text
    assert "blanks" in text and "What blanks cost: what is exact is so of" in text


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
    assert "Refused, entry 5: an upload of north (bad-signature)" in text


def test_a_real_federated_run_says_what_it_cannot_know(tmp_path: Path, small_study: Study) -> None:
    study = small_study.with_changes({"aggregation": {"quorum": 1}})
    run_dir = make_run(tmp_path / "run", study, absent=("south",))
    html = write_report(run_dir).read_text("utf-8")
    _assert_complete_in_itself(html)
    text = Page(html).text
    assert "is not known here" in text and "1 of 2 nodes" in text and "sent nothing" in text
    assert "The records of south" in text
    assert "Exact" not in text and "AUROC" not in text and "close to" not in text
    assert html.count("<img ") == 1
    assert not (run_dir / "global" / "pooled_score.png").exists()


def test_a_changed_upload_is_named_and_none_of_its_figures_is_shown(run_dir: Path) -> None:
    path = run_dir / "uploads" / "north" / "model.sealed"
    digest = sha256_hex(path.read_bytes())
    with path.open("ab") as file:
        file.write(b"x")
    text = Page(write_report(run_dir).read_text("utf-8")).text
    assert text.index("This run does not verify") < text.index("Do not rely on this run")
    assert "does not verify: uploads/north/model.sealed is not the file" in text
    assert digest not in text and sha256_hex(path.read_bytes()) not in text


def test_a_receipt_for_another_entry_is_named(run_dir: Path) -> None:
    receipts = [run_dir / "uploads" / node / "receipt.tlog-proof" for node in ("north", "south")]
    receipts[0].write_bytes(receipts[1].read_bytes())
    north, south = read_run(run_dir).uploads
    assert north.problem and north.receipt == "none" and south.receipt == "valid"


def test_a_damaged_ledger_is_named_at_the_top_and_nothing_rests_on_it(run_dir: Path) -> None:
    path = next(path for path in (run_dir / "ledger" / "tile" / "entries").rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes().replace(b"north", b"nort2"))
    text = Page(write_report(run_dir).read_text("utf-8")).text
    assert text.index("The ledger does not verify") < text.index("none of its results is shown")
    assert "Which edges are probable" not in text and "close to" not in text


def test_no_text_of_a_study_becomes_markup(tmp_path: Path, small_study: Study) -> None:
    variables = [{"name": name} for name in (ATTACK[:60], "$\\frac$ _x^2", "evil&name")]
    study = small_study.with_changes({"name": ATTACK, "description": ATTACK, "variables": variables})
    html = write_report(make_run(tmp_path / "run", study, make_comparison(study), local=True)).read_text(
        "utf-8"
    )
    _assert_complete_in_itself(html)
    assert "<script" not in html and "onerror=alert(1)>" not in html and "\u202e" not in html
    assert ATTACK in Page(html).text  # shown as it was written


def test_no_text_of_a_summary_becomes_markup(tmp_path: Path, small_study: Study) -> None:
    told = {
        "software": {ATTACK: ATTACK},
        "diagnostics": {ATTACK: ATTACK, "list": [ATTACK], "nodes": {ATTACK: {ATTACK: 1.0}}},
    }
    run = read_run(make_run(tmp_path / "run", small_study, make_comparison(small_study), summary=told))
    assert not run.failures
    html, _ = report_of(replace(run, local_histories={ATTACK: run.history}))
    _assert_complete_in_itself(html)
    assert html.count("&lt;script&gt;") > 3


@given(st.text(max_size=40))
def test_escaped_text_cannot_leave_an_attribute_or_open_a_tag(text: str) -> None:
    assert not set("<>\"'\n\r\u202e\x00") & set(escape(text))
    page = Page(f'<p title="{escape(text)}">{escape(text)}</p>')
    assert [tag for tag, _ in page.tags] == ["p"]
    assert page.tags[0][1] == {"title": plain(text)} and page.text == plain(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"edge_probabilities": [[0]]},
        {"edge_probabilities": "a"},
        {"edge_probabilities": [[0, float("nan"), 0], [0, 0, 0], [0, 0, 0]]},
        {"edge_probabilities": [[0, 1.5, 0], [0, 0, 0], [0, 0, 0]]},
        {"aggregated": ["north"]},
        {"aggregated": 3},
        {"model_sha256": "0" * 64},
        {"round_id": "round-0"},
        {"noun": "trees"},
        {"variables": ["b", "a", "c"]},
        {"probabilities_from": "an oracle"},
    ],
)
def test_a_summary_of_another_form_or_model_is_named_and_not_shown(
    tmp_path: Path, small_study: Study, wrong: dict[str, object]
) -> None:
    """Although the coordinator signed it."""
    run_dir = make_run(tmp_path / "run", small_study, summary=wrong)
    text = Page(write_report(run_dir).read_text("utf-8")).text
    assert "none of its results is shown" in text and "global/summary.json" in text
    assert "Which edges are probable" not in text and "0.310" not in text


def test_a_comparison_that_nobody_signed_is_left_out_and_that_is_said(run_dir: Path) -> None:
    path = run_dir / "global" / "comparison.json"
    raw = path.read_bytes()
    for broken in (b"{", b"", raw.replace(b"0.", b"1.", 1), raw + b" "):
        path.write_bytes(broken)
        text = Page(write_report(run_dir).read_text("utf-8")).text
        assert "A comparison with the exact posterior: global/comparison.json is not the file" in text
        assert "close to" not in text and "Exact" not in text and "Which edges are probable" in text


def signed_comparison(run: RunDirectory, raw: bytes, **changes: str) -> None:
    """`raw` in place of the comparison in `run`, signed with its coordinator's key."""
    said = {
        "study_digest": run.study.digest,
        "round_id": ROUND_ID,
        "model_sha256": sha256_hex((run.root / "global" / "model.safetensors").read_bytes()),
    }
    statement = make_statement({"comparison.json": sha256_hex(raw)}, COMPARISON, {**said, **changes})
    (run.root / "global" / "comparison.json").write_bytes(raw)
    (run.root / "global" / "comparison.sigstore.json").write_bytes(run.sign(statement))


@pytest.mark.parametrize(
    "broken",
    [b"{", b"[]", b"{}", b'{"comparison": {"variables": []}, "local_histories": {}}', b"{" * 9000],
)  # fmt: skip
def test_a_comparison_of_another_form_is_left_out_though_signed(
    run_dir: Path, run: RunDirectory, broken: bytes
) -> None:
    signed_comparison(run, broken)
    text = Page(write_report(run_dir).read_text("utf-8")).text
    assert "comparison.json is not a comparison of a run of this study" in text and "close to" not in text


@pytest.mark.parametrize("wrong", ["model_sha256", "study_digest"])
def test_a_comparison_of_another_model_or_study_is_left_out(
    run_dir: Path, run: RunDirectory, wrong: str
) -> None:
    raw = (run_dir / "global" / "comparison.json").read_bytes()
    signed_comparison(run, raw)
    assert audit_run(run_dir).ok
    signed_comparison(run, raw, **{wrong: "0" * 64})
    text = Page(write_report(run_dir).read_text("utf-8")).text
    assert "comparison.sigstore.json does not fit this run" in text and "close to" not in text


def test_a_study_that_nobody_signed_is_not_shown(run_dir: Path) -> None:
    path = run_dir / "study.toml"
    path.write_text(path.read_text().replace('"small"', '"other"'))
    with pytest.raises(RefusedError, match="does not verify"):
        write_report(run_dir)
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
    run = read_run(make_run(tmp_path / "run", study, comparison))
    found = compared(replace(run, edges=comparison.global_edges))
    assert found is not None and found.tone == tone


def test_a_model_as_bad_as_the_empty_graph_is_told_so(tmp_path: Path, small_study: Study) -> None:
    comparison = make_comparison(small_study)
    run = read_run(make_run(tmp_path / "run", small_study, comparison))
    found = compared(replace(run, edges=np.zeros((3, 3))))
    assert found is not None and "no more" in found.headline


@pytest.mark.parametrize("variables", [2, 14, 15, 64])
def test_heatmaps_can_be_drawn_for_any_size_of_study(variables: int) -> None:
    names = [f"variable number {i}" for i in range(variables)]
    png = figures.edge_marginals(names, np.full((variables, variables), 0.5), None, {})
    assert _png_size(png)[0] > 600


def test_the_same_run_gives_the_same_bytes(run_dir: Path, tmp_path: Path) -> None:
    first, second = (write_report(run_dir, out=tmp_path / n / "r.html").read_bytes() for n in ("1", "2"))
    assert first == second


def test_the_users_own_settings_of_matplotlib_change_nothing(run_dir: Path) -> None:
    import matplotlib

    run = read_run(run_dir)
    _, plain_ = report_of(run)
    theirs = {
        "font.size": 30,
        "axes.facecolor": "red",
        "figure.dpi": 20,
        "axes.grid": True,
        "lines.linewidth": 9,
    }
    with matplotlib.rc_context(theirs):
        _, pictures = report_of(run)
        assert matplotlib.rcParams["font.size"] == 30  # and theirs stay
    assert pictures == plain_


def test_numbers_are_written_for_people() -> None:
    shown = [number(x) for x in (0.1234, 0.0001, 0.0, None, float("nan"), -2.5)]
    assert shown == ["0.123", "<0.001", "0.000", "–", "–", "−2.500"]
    assert [signed(x) for x in (0.01, -0.01, 0.0001, -0.0001)] == ["+0.010", "−0.010", "0.000", "0.000"]


def _png_size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_how_far_each_node_moves_the_result_is_told_as_influence_only(
    tmp_path: Path, small_study: Study
) -> None:
    study = small_study.with_changes({"aggregation": {"leave_one_out": True}})
    run_dir = make_run(tmp_path / "run", study)
    html = write_report(run_dir).read_text()
    _assert_complete_in_itself(html)
    text = Page(html).text
    influence = read_run(run_dir).influence
    assert influence is not None and set(influence.nodes) == {"north", "south"}
    whole, without = (
        probabilities_of(read_summary((run_dir / place / "summary.json").read_bytes()))
        for place in ("global", "leave-one-out/south")
    )
    changes = {edge: abs(p - without[edge]) for edge, p in whole.items()}
    assert influence.nodes["south"].mean == pytest.approx(np.mean(list(changes.values())))
    largest = max(changes, key=lambda edge: changes[edge])
    assert influence.nodes["south"].at == " → ".join(largest) and " → ".join(largest) in text
    for node, change in influence.nodes.items():
        assert number(change.mean, 4) in text and number(change.largest) in text and node in text
    for shown in ("Leaving out", "not a proof", "10,000"):
        assert shown in text
    assert (run_dir / "global" / "influence.png").read_bytes().startswith(b"\x89PNG")


def test_with_one_node_there_is_no_influence(tmp_path: Path, small_study: Study) -> None:
    study = small_study.with_changes({"aggregation": {"leave_one_out": True, "quorum": 1}})
    run = read_run(make_run(tmp_path / "run", study, absent=("south",)))
    assert run.influence is not None and "only one node" in run.influence.skipped


def test_diagnostics_are_called_what_they_are(tmp_path: Path, small_study: Study) -> None:
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
    run_dir = make_run(tmp_path / "run", small_study, summary={"diagnostics": found})
    text = Page(write_report(run_dir).read_text()).text
    assert "not a proof of honest training" in text and "estimate from samples" in text
    assert text.index("spread (nats)") < text.index("disagreement (nats)")
    assert "0.693" in text and "1.386" in text


def test_who_is_absent_and_what_became_of_their_share_of_the_prior_is_said(
    tmp_path: Path, small_study: Study
) -> None:
    study = small_study.with_changes({"aggregation": {"quorum": 1}})
    text = Page(write_report(make_run(tmp_path / "run", study, absent=("south",))).read_text()).text
    assert "south is not in the product" in text and "missing 1/2" in text
