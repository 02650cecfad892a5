"""Differential privacy from the records to the audit: what leaves is a release with noise and a claim that anyone can recompute."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from epgfn.base.canonical import canonical_json
from epgfn.base.errors import RefusedError, UsageError
from epgfn.base.files import sha256_file, write_secret
from epgfn.learn.scores import score_table
from epgfn.privacy.spending.spending import account_folder
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.model_file import read_model
from epgfn.sealing.statement import UploadPredicate, parse_statement, predicate_of
from epgfn.study import Study
from epgfn.study.records.tables import load_records
from epgfn_node.cli import app
from epgfn_node.home import NodeHome
from epgfn_node.privacy import Operator, kept_claim, operator_of, release
from epgfn_node.settings import NodeSettings
from parties import REFUSED, WRONG_USE, CoordinatorProcess, Node
from seeded import seed_noise
from small import PRIVATE_STUDY

RECORDS = 1237
STUDY = Study.from_bytes(PRIVATE_STUDY.encode())
SPENDING = ("privacy-ledger.jsonl", "privacy-ledger.key", "privacy-ledger.head")


class Sentences:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def event(self, phase: str, message: str = "", **fields: Any) -> None:
        self.said.append(f"{phase} {message} {fields}")

    def close(self) -> None: ...


def write(path: Path, rows: np.ndarray) -> Path:
    np.savetxt(path, rows, delimiter=",", header="a,b,c", comments="", fmt="%.17g")
    return path


def draw(seed: int, n: int = RECORDS) -> np.ndarray:
    """Records of a -> b <- c."""
    a, e, c = np.random.default_rng(seed).normal(size=(3, n))
    return np.column_stack([a, 0.9 * a - 0.8 * c + 0.5 * e, c])


@dataclass(frozen=True)
class Finished:
    """What is left after a private study of two nodes, with what each printed."""

    run: Path
    nodes: dict[str, Node]
    data: dict[str, Path]
    printed: dict[str, str]
    again: dict[str, str]
    refusals: list[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Both nodes go the whole way, and the run directory is exported."""
    folder = tmp_path_factory.mktemp("private")
    with pytest.MonkeyPatch.context() as patch:  # four given bytes turn up in a random file once in a while
        seed_noise(patch)
        return _finished(folder)


def _finished(folder: Path) -> Finished:
    (folder / "study.toml").write_bytes(STUDY.raw)
    nodes, data, printed, again, refusals = {}, {}, {}, {}, []
    with CoordinatorProcess(folder / "coordinator", folder / "study.toml") as coordinator:
        for seed, name in enumerate(STUDY.roster):
            data[name] = write(folder / f"{name}.csv", draw(seed))
            node = nodes[name] = Node(folder / name).join(coordinator, name)
            options = ["--data", str(data[name]), "--accept-study", STUDY.digest]
            refusals.append(node.fails(WRONG_USE, "train", *options))
            refusals.append(node.fails(REFUSED, "train", *options, "--privacy-budget", "3"))
            node.set(privacy_budget_epsilon=4.0)
            printed[name] = node.ok("train", *options, "--events") + node.ok("inspect")
            trained = (node.home / "local" / "model.safetensors").read_bytes()
            again[name] = node.ok("train", *options)
            assert (node.home / "local" / "model.safetensors").read_bytes() == trained
            printed[name] += node.ok("inspect", "--json") + node.ok("approve") + node.ok("submit", "--events")
        for name, node in nodes.items():
            printed[name] += node.ok("fetch", "--wait", "300")
        coordinator.command("export", "--out", str(folder / "run"))
    return Finished(folder / "run", nodes, data, printed, again, refusals)


def statement(node: Node) -> UploadPredicate:
    """What the node signed."""
    key = VerifyKey.from_pem((node.home / "keys" / "signing.pem").read_bytes())
    bundle = (node.home / "outbox" / "upload.sigstore.json").read_bytes()
    return predicate_of(parse_statement(verify_bundle(bundle, key)), UploadPredicate)


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield float(value)


def test_a_private_study_runs_to_publication_and_its_audit_names_epsilon(finished: Finished) -> None:
    report = audit_run(finished.run)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    for name in STUDY.roster:
        (finding,) = (f.message for f in report.findings if f.check == f"upload {name}")
        assert "epsilon 4 at delta 1e-05 per record (statistic, add-remove)" in finding
        claim = statement(finished.nodes[name]).privacy
        assert 3.9 < claim["epsilon"] <= 4.0 and claim["randomness"] == "operating system"


def test_inspect_says_in_plain_words_what_is_promised_and_spent(finished: Finished) -> None:
    for words in (
        "epsilon 4",
        "unit record",
        "adjacency add-remove",
        "recognises at most 54.6 of 100",
        "epsilon 4 of 4",
    ):
        assert words in finished.printed["north"]


def test_without_a_budget_or_beyond_it_nothing_is_trained_and_the_way_out_is_named(
    finished: Finished,
) -> None:
    missing, spent = finished.refusals[:2]
    assert "privacy_budget_epsilon = 4" in missing and "--privacy-budget 4" in missing
    assert "more than the operator's whole budget of 3" in spent and "larger budget" in spent


def test_training_again_uses_the_release_again_and_gives_the_same_model(finished: Finished) -> None:
    """With the same seed; the claim that left is that of the one release."""
    for name, node in finished.nodes.items():
        assert "used again and costs nothing" in finished.again[name]
        assert len((node.spending / "privacy-ledger.jsonl").read_bytes().splitlines()) == 2


def test_a_ledger_that_was_lost_is_not_a_fresh_budget_to_inspect(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.nodes["south"].home, tmp_path / "copy")
    shown = Node(tmp_path / "copy").ok("inspect")  # under an account that knows of nothing
    assert "restore it from a backup" in shown and "epsilon 0 of" not in shown


def test_a_home_whose_release_the_log_does_not_know_makes_no_other(
    finished: Finished, tmp_path: Path, own_account: Path
) -> None:
    """Under another XDG_DATA_HOME, by sudo, on another machine: the budget would look unspent."""
    shutil.copytree(finished.nodes["south"].home, tmp_path / "copy")
    home = NodeHome(tmp_path / "copy")
    for root in (home, NodeHome(home.root / "rounds" / "another")):
        meant = operator_of(root, NodeSettings(privacy_budget_epsilon=4.0), STUDY)
        assert meant.ledger.is_relative_to(own_account)
        with pytest.raises(RefusedError, match="would take the budget for unspent") as refused:
            release(STUDY, "south", finished.data["north"], meant, Sentences())
        assert refused.value.reason == "ledger-damaged"
    right = NodeSettings(privacy_budget_epsilon=4.0, privacy_ledger=finished.nodes["south"].spending)
    release(STUDY, "south", finished.data["south"], operator_of(home, right, STUDY), Sentences())


def test_the_number_of_records_is_in_nothing_that_leaves(finished: Finished) -> None:
    """Neither as text nor as a number in any usual form: statement, model file and its metadata, and all that was printed."""
    forms = [str(RECORDS).encode()] + [
        struct.pack(order + kind, RECORDS) for kind in "ifqd" for order in "<>"
    ]
    for name, node in finished.nodes.items():
        said = statement(node).model_dump(mode="json")
        raw = (node.home / "local" / "model.safetensors").read_bytes()
        tensors, metadata = read_model(raw, None)
        assert set(metadata) == {"study_digest", "role", "format"}
        assert RECORDS not in set(numbers(said))
        assert not any((tensor.double() == RECORDS).any() for tensor in tensors.values())
        for form in forms:
            assert form not in raw and form not in json.dumps(said).encode()
        for shown in (json.dumps(said), finished.printed[name]):
            assert not re.search(rf"(?<![0-9a-f.]){RECORDS}(?![0-9a-f])", shown)
        for path in (node.home / "local/privacy-claim.json", *(node.spending / name for name in SPENDING)):
            assert path.stat().st_mode & 0o077 == 0


def test_no_event_holds_more_than_the_release_gives(finished: Finished) -> None:
    events = [json.loads(line) for line in finished.printed["north"].splitlines() if line.startswith('{"')]
    assert {key for event in events for key in event} <= {
        "party", "phase", "message", "step", "steps", "loss", "digest", "again", "sealed_sha256", "time"
    }  # fmt: skip


def test_the_model_is_of_the_release_and_not_of_the_records(finished: Finished) -> None:
    exact = score_table(STUDY, load_records(finished.data["north"], STUDY), n_parties=2)
    table = read_model((finished.nodes["north"].home / "local" / "model.safetensors").read_bytes(), None)[0][
        "score_table"
    ]
    finite = exact.isfinite()
    assert not torch.allclose(table[finite].double(), exact[finite], atol=1e-3)


def test_a_changed_or_foreign_claim_is_not_sent(finished: Finished, tmp_path: Path) -> None:
    home = NodeHome(tmp_path / "copy")
    shutil.copytree(finished.nodes["north"].home, home.root)
    digest = sha256_file(home.model)
    assert kept_claim(home, STUDY, digest) is not None
    note = json.loads(home.privacy_claim.read_bytes())
    note["claim"]["epsilon"] = 0.5
    write_secret(home.privacy_claim, canonical_json(note))
    with pytest.raises(RefusedError, match=r"epsilon 0\.5, but its clip bounds and noise give 4"):
        kept_claim(home, STUDY, digest)
    with pytest.raises(RefusedError, match="train again"):
        kept_claim(home, STUDY, "0" * 64)
    home.privacy_claim.unlink()
    with pytest.raises(RefusedError, match="train again"):
        kept_claim(home, STUDY, digest)


# Without a coordinator: the release itself ----------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "records.csv", draw(7))


def operator(folder: Path, epsilon: float = 4.0) -> Operator:
    return Operator(epsilon, 1e-5, folder)


def test_a_second_training_uses_the_release_again_and_says_so(data: Path, tmp_path: Path) -> None:
    report = Sentences()
    first, again = (release(STUDY, "north", data, operator(tmp_path / "l"), report) for _ in range(2))
    assert torch.equal(first.done.release.scatter, again.done.release.scatter) and first.raw == again.raw
    assert "training sees nothing else" in report.said[0] and "costs nothing" in report.said[1]
    assert len((tmp_path / "l" / "privacy-ledger.jsonl").read_bytes().splitlines()) == 2


def test_the_same_people_in_another_order_or_study_are_the_same_data_set(data: Path, tmp_path: Path) -> None:
    first = release(STUDY, "north", data, operator(tmp_path / "l"), Sentences())
    shuffled = write(tmp_path / "shuffled.csv", np.random.default_rng(0).permutation(draw(7)))
    again = release(STUDY, "south", shuffled, operator(tmp_path / "l"), Sentences())
    assert again.dataset == first.dataset and again.raw == first.raw
    rescaled = Study.from_bytes(STUDY.raw.replace(b"scale = 1.0", b"scale = 2.0", 1))
    with pytest.raises(RefusedError) as refused:
        release(rescaled, "north", data, operator(tmp_path / "l"), Sentences())
    assert refused.value.reason == "budget-spent"
    assert "larger budget" in str(refused.value)


def test_a_person_with_several_records_is_one_person(tmp_path: Path) -> None:
    """The records that are used are others each time they are chosen; what was released once is used again all the same."""
    text = PRIVATE_STUDY.replace(
        "delta = 1e-5", 'delta = 1e-5\nunit = "person"\nperson = "patient"\nrows_per_person = 2'
    )
    study = Study.from_bytes(text.encode())
    rows = np.column_stack([draw(7, 400), np.arange(400) // 4])
    path = tmp_path / "visits.csv"
    np.savetxt(path, rows, delimiter=",", header="a,b,c,patient", comments="", fmt="%.17g")
    first, again = (release(study, "north", path, operator(tmp_path / "l"), Sentences()) for _ in range(2))
    assert first.raw == again.raw and first.claim.unit == "person" and first.claim.rows == 2
    assert 150 < first.done.release.records < 250  # 200 of 400, with noise
    plain = write(tmp_path / "plain.csv", draw(7, 400))
    with pytest.raises(UsageError, match="patient"):
        release(study, "north", plain, operator(tmp_path / "l"), Sentences())


def test_whose_the_records_are_is_part_of_what_a_release_is_of(tmp_path: Path) -> None:
    """A column that said every record is of another person gave a release that protects records: put right, it is used again by nobody."""
    text = PRIVATE_STUDY.replace("delta = 1e-5", 'delta = 1e-5\nunit = "person"\nperson = "patient"')
    study, path = Study.from_bytes(text.encode()), tmp_path / "visits.csv"

    def released(persons: np.ndarray, order: np.ndarray, epsilon: float = 9.0) -> bytes:
        rows = np.column_stack([np.round(draw(7, 400), 1), persons])[order]
        np.savetxt(path, rows, delimiter=",", header="a,b,c,patient", comments="", fmt="%.17g")
        return release(study, "north", path, operator(tmp_path / "l", epsilon), Sentences()).raw

    places = np.arange(400)
    wrong = released(places, places)
    right = released(places // 4, places)
    assert right != wrong
    rng = np.random.default_rng(0)
    again = released(rng.permutation(400)[places // 4], rng.permutation(400))  # other names, another order
    assert again == right
    with pytest.raises(RefusedError, match="budget"):
        released(places // 2, places, 4.0)


def test_a_spent_budget_is_refused_before_any_noise_is_drawn(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        release(STUDY, "north", data, operator(tmp_path / "l", epsilon=3.0), Sentences())
    assert refused.value.reason == "budget-spent"
    assert not (tmp_path / "l" / "privacy-ledger.jsonl").exists()
    assert not list((tmp_path / "l").glob("release-*"))


def test_two_nodes_with_the_same_records_and_seed_differ_in_the_noise(data: Path, tmp_path: Path) -> None:
    releases = [release(STUDY, "north", data, operator(tmp_path / str(i)), Sentences()) for i in range(2)]
    assert not torch.equal(*(one.done.release.scatter for one in releases))
    assert releases[0].done.release.n != releases[1].done.release.n


def test_what_records_say_decides_neither_whether_nor_how_a_release_is_made(tmp_path: Path) -> None:
    """A constant column, fewer records than variables and a number far outside the bounds are no errors: each would tell."""
    odd = draw(3, n=50)
    odd[:, 1] = 0.5
    odd[0, 0] = 1e200
    few = draw(4, n=2)
    for i, rows in enumerate((odd, few)):
        done = release(
            STUDY, "north", write(tmp_path / f"{i}.csv", rows), operator(tmp_path / f"l{i}"), Sentences()
        )
        assert np.linalg.eigvalsh(done.done.release.second_moments).min() > 0


def test_records_of_another_scale_are_refused_without_a_number(tmp_path: Path) -> None:
    far = write(tmp_path / "far.csv", 40 * draw(3))
    with pytest.raises(RefusedError) as refused:
        release(STUDY, "north", far, operator(tmp_path / "l"), Sentences())
    assert refused.value.reason == "bounds-clip-most" and not re.search(r"\d", str(refused.value))


def test_replace_one_has_a_public_number_of_records(data: Path, tmp_path: Path) -> None:
    text = PRIVATE_STUDY.replace(
        "delta = 1e-5", f'delta = 1e-5\nadjacency = "replace-one"\nrecords = {{north = {RECORDS}, south = 9}}'
    )
    study = Study.from_bytes(text.encode())
    done = release(study, "north", data, operator(tmp_path / "l"), Sentences())
    assert 0 < done.done.release.n <= RECORDS and done.claim.adjacency == "replace-one"
    assert all(part.kind != "records" for stage in done.claim.stages for part in stage.noise)
    with pytest.raises(RefusedError) as refused:
        release(study, "south", data, operator(tmp_path / "l"), Sentences())
    assert refused.value.reason == "wrong-number"


def test_without_a_budget_nothing_is_read(tmp_path: Path) -> None:
    home = NodeHome(tmp_path)
    with pytest.raises(UsageError, match="privacy_budget_epsilon = 4"):
        operator_of(home, NodeSettings(), STUDY)
    assert operator_of(home, NodeSettings(), STUDY, 2.0).budget_epsilon == 2.0
    assert operator_of(home, NodeSettings(privacy_budget_epsilon=9.0), STUDY).ledger == account_folder()


def test_what_a_home_spent_before_counts_in_a_folder_that_is_named_since(tmp_path: Path) -> None:
    home, account = NodeHome(tmp_path / "home"), tmp_path / "elsewhere"
    release(STUDY, "north", write(tmp_path / "a.csv", draw(1)), operator(home.privacy), Sentences())
    meant = operator_of(home, NodeSettings(privacy_budget_epsilon=4.0, privacy_ledger=account), STUDY)
    with pytest.raises(RefusedError, match="budget"):
        release(STUDY, "north", write(tmp_path / "b.csv", draw(2)), meant, Sentences())
    same = operator_of(home, NodeSettings(privacy_budget_epsilon=4.0, privacy_ledger=home.privacy), STUDY)
    assert len(same.open_ledger().entries()) == 2


def test_the_operator_says_that_others_are_meant_and_is_asked_why(tmp_path: Path, own_account: Path) -> None:
    home = NodeHome(tmp_path / "home")
    runner = CliRunner()
    assert runner.invoke(app, ["init", "--home", str(home.root), "--no-passphrase"]).exit_code == 0
    command = ["privacy", "population", "new", "ward-b", "--home", str(home.root)]
    told = runner.invoke(app, [*command, "--because", "admitted from 2027 on, as ward a was closed"])
    assert told.exit_code == 0 and 'privacy_population = "ward-b"' in told.output + told.stderr
    text = home.settings.read_text() + 'privacy_budget_epsilon = 4.0\nprivacy_population = "ward-b"\n'
    home.settings.write_text(text)
    meant = operator_of(home, NodeSettings.of(home), STUDY)
    assert meant.population == "ward-b"
    data = write(tmp_path / "north.csv", draw(1))
    release(STUDY, "north", data, operator(meant.ledger), Sentences())  # of everybody
    release(STUDY, "north", write(tmp_path / "b.csv", draw(2)), meant, Sentences())
    listed = runner.invoke(app, ["privacy", "population", "list", "--home", str(home.root)])
    assert listed.exit_code == 0 and str(meant.ledger) in listed.output
    assert "all people whom nobody has told apart: epsilon 4 at delta 1e-05, releases: 1" in listed.output
    assert "population ward-b: epsilon 4 at delta 1e-05, releases: 1" in listed.output
    with pytest.raises(RefusedError, match="population ward-b beyond"):
        release(STUDY, "north", write(tmp_path / "c.csv", draw(3)), meant, Sentences())
