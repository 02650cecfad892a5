"""Masked sums between real processes: the posterior of all records of which the coordinator has read the total alone, whoever is killed and
whoever drops out; what everybody is told; and what a coordinator gets that lies."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from epgfn.base.files import read_secret
from epgfn.learn.exact import exact_of_table
from epgfn.learn.scores import score_table
from epgfn.ledger.entries import SumListEntry, encode, parse
from epgfn.masking.masks import KEY_BYTES
from epgfn.masking.party import Party
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.conclusion import conclusion
from epgfn.run.report import write_report
from epgfn.study import Study
from epgfn_coordinator.store import Store
from forks import COORDINATOR, NODE, Fork
from parties import REFUSED, WAITING, WRONG_USE, CoordinatorProcess, Node
from small import SMALL_STUDY

SHARED = '[target]\nkind = "bge"\nparameters = "shared"\n\n[policy]'
NAMES = ("ahus", "bergen", "copenhagen", "dublin", "espoo", "faro", "gdansk")


def study_of(nodes: int, quorum: int) -> Study:
    roster = json.dumps(NAMES[:nodes])
    text = SMALL_STUDY.replace('["north", "south"]', roster).replace("[policy]", SHARED, 1)
    return Study.from_bytes(
        text.replace("[aggregation]", f'[aggregation]\nsums = "masked"\nquorum = {quorum}', 1).encode()
    )


class Hospitals:
    """A coordinator, and nodes that have approved the numbers of their records."""

    def __init__(self, folder: Path, study: Study) -> None:
        self.folder, self.study = folder, study
        (folder / "study.toml").write_bytes(study.raw)
        self.coordinator = CoordinatorProcess(folder / "home", folder / "study.toml")
        self.records: dict[str, np.ndarray] = {}
        self.nodes: dict[str, Node] = {}

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        with self.coordinator:
            yield

    def join(self, node_id: str) -> Node:
        rng = np.random.default_rng(len(self.nodes))
        mix = np.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.3], [0.0, 0.0, 1.0]])
        x = (rng.normal(size=(40 + 10 * len(self.nodes), 3)) @ mix).round(6)
        path = self.folder / f"{node_id}.csv"
        path.write_text("a,b,c\n" + "\n".join(",".join(map(str, row)) for row in x) + "\n")
        node = Node(self.folder / node_id).join(self.coordinator, node_id)
        node.set(accept_statistic=True)
        node.train(path, self.study)
        self.records[node_id], self.nodes[node_id] = x, node
        return node

    def join_all(self) -> None:
        for node_id in self.study.roster:
            self.join(node_id).ok("approve")

    def each(self, verb: str, code: int, of: Sequence[str] | None = None) -> None:
        """Have each of them run a command, which ends with that code."""
        for node_id in self.study.roster if of is None else of:
            done = self.nodes[node_id].command(verb)
            assert done.returncode == code, (node_id, done.returncode, done.stdout, done.stderr)

    def kill_at(self, step: str, node: Node, verb: str = "submit") -> None:
        """A node is killed in this command when it has come to that step."""
        fork = Fork(NODE, [verb, "--home", str(node.home)], self.folder / "fork", f"kill:1:{step}")
        fork.end()
        assert fork.died, fork.said

    def require_posterior_of(self, of: Sequence[str]) -> Path:
        """The result is the posterior of exactly their records; the run directory, which an auditor believes."""
        run = self.folder / "run"
        self.coordinator.command("export", "--out", str(run))
        report = audit_run(run)
        assert report.ok, [finding for finding in report.findings if not finding.ok]
        summary = json.loads((run / "global" / "summary.json").read_text())
        assert summary["aggregated"] == sorted(of)
        x = torch.from_numpy(np.concatenate([self.records[node_id] for node_id in of]))
        wanted = exact_of_table(self.study, score_table(self.study, x, n_parties=1))
        assert wanted is not None
        edges = [
            p for i, row in enumerate(summary["edge_probabilities"]) for j, p in enumerate(row) if i != j
        ]
        assert edges == pytest.approx(list(wanted.probabilities.values()), abs=1e-6)
        assert summary["diagnostics"]["parameters"]["records"] == len(x)
        return run


def test_the_posterior_of_all_records_whoever_is_killed(tmp_path: Path) -> None:
    all_of_them = Hospitals(tmp_path, study_of(4, 3))
    a, b, c, d = all_of_them.study.roster
    with all_of_them.served():
        first = all_of_them.join(a)
        first.set(accept_statistic=False)
        assert "under masks" in first.fails(WAITING, "approve") and not (first.home / "outbox").exists()
        first.ok("approve", "--accept-statistic")
        for node_id in (b, c, d):
            all_of_them.join(node_id).ok("approve")
        shown = " ".join(first.ok("inspect").split())
        assert "the coordinator reads the total alone" in shown and "these numbers, under masks" in shown
        assert "fewer than 3 nodes side with a coordinator that keeps to the protocol" in shown
        assert "the coordinator, who can read it" not in shown
        assert json.loads(first.ok("inspect", "--json"))["status"] == "approved"
        first.ok("inspect", "--dossier", str(tmp_path / "dossier"))
        dossier = json.loads((tmp_path / "dossier" / "dossier.json").read_text())
        assert dossier["disclosure"]["readable_by"][0] == "this node's numbers without masks: nobody"
        assert "by letter" in first.fails(WRONG_USE, "submit", "--to-file", str(tmp_path / "x.letter"))

        # A node is killed just after it has made its secrets, and goes on with the same.
        all_of_them.kill_at("renamed local/masked-sum.json", first)
        kept = Party.parse(read_secret(first.home / "local" / "masked-sum.json"))
        assert (first.home / "local" / "masked-sum.json").stat().st_mode & 0o777 == 0o600
        assert f"waits for {b}, {c}, {d}" in first.fails(WAITING, "submit")
        assert Party.parse(read_secret(first.home / "local" / "masked-sum.json")).public == kept.public
        all_of_them.each("submit", WAITING, [b, c])

        # The coordinator is killed when the last keys, and with them their list, have just been entered.
        all_of_them.coordinator.kill()
        serve = ["serve", "--home", str(all_of_them.coordinator.home), "--events"]
        server = Fork(COORDINATOR, serve, tmp_path / "fork", "kill:1:committed masked_sum.MaskedSum.send")
        assert server.wait_for("serving") is not None
        assert all_of_them.nodes[d].command("submit").returncode == REFUSED
        server.end()
        assert server.died
        all_of_them.coordinator.start()
        all_of_them.each("submit", WAITING, [a, b, c])  # shares
        all_of_them.each("submit", 0, [d])
        # A node is killed between masking and sending: it sends the very same numbers, sealed anew.
        all_of_them.kill_at("renamed outbox/model.sealed", all_of_them.nodes[b])
        all_of_them.each("submit", 0, [a, b, c])
        all_of_them.coordinator.kill()  # before anything takes masks off
        all_of_them.coordinator.start()
        # A node is killed when it has decided whose total it signs, and when it has decided what takes masks off; it says both afterwards.
        all_of_them.kill_at("renamed local/masked-sum.json", first, "fetch")
        decided = Party.parse(read_secret(first.home / "local" / "masked-sum.json"))
        assert decided.signed == tuple(sorted(all_of_them.study.roster)) and decided.said is None
        for node_id in (a, b, c):
            all_of_them.nodes[node_id].command("fetch")
        all_of_them.kill_at("renamed local/masked-sum.json", first, "fetch")
        assert Party.parse(read_secret(first.home / "local" / "masked-sum.json")).said is not None
        for node_id in (a, b):
            all_of_them.nodes[node_id].command("fetch")
        for node in all_of_them.nodes.values():
            node.ok("fetch", "--wait", "300")
        over = Party.parse(read_secret(first.home / "local" / "masked-sum.json"))
        assert over.masking_secret == over.seed == bytes(KEY_BYTES) and over.held is None
    run = all_of_them.require_posterior_of(all_of_them.study.roster)
    words = " ".join(str(line) for line in conclusion(audit_run(run)))
    assert (
        "that the total, from which the scores were computed here again, is that of the sealed uploads"
        in words
    )
    page = write_report(run, out=tmp_path / "report.html").read_text()
    assert "the coordinator read the total alone" in page and "can read that node" not in page
    _require_an_auditor_sees_changes(run)


def _require_an_auditor_sees_changes(run: Path) -> None:
    """A total that is not the signed one, a signature that is missing."""
    total = run / "global" / "total.safetensors"
    raw = total.read_bytes()
    total.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert not audit_run(run).ok
    total.write_bytes(raw)
    assert audit_run(run).ok
    signed = sorted((run / "sums").iterdir())
    assert len(signed) == 3
    whole = signed[0].read_bytes()
    signed[0].write_bytes(signed[1].read_bytes())
    assert any(finding.check == "masked-sum" and not finding.ok for finding in audit_run(run).findings)
    signed[0].write_bytes(whole)


def test_one_that_drops_out_at_each_step_is_survived(tmp_path: Path) -> None:
    """Seven, of whom four are needed: one is gone after its keys, one after its shares, one after its upload."""
    some = Hospitals(tmp_path, study_of(7, 4))
    *five, no_upload, no_shares = some.study.roster
    with some.served():
        some.join_all()
        *four, gone = five
        some.each("submit", WAITING, [no_shares, no_upload, *five])  # keys, and the last one's shares
        some.each("submit", WAITING, [no_upload, *four])  # shares
        some.coordinator.command("close")
        assert "goes on without" in some.nodes[no_shares].fails(REFUSED, "submit")
        some.each("submit", 0, [gone, *four])
        some.coordinator.command("close")  # the round, now
        assert "takes no more" in some.nodes[no_upload].fails(REFUSED, "submit")
        for node_id in (*four, *four):  # sign, and then unmask; the fifth is gone
            some.nodes[node_id].command("fetch")
        for node_id in four:
            some.nodes[node_id].ok("fetch", "--wait", "300")
        some.nodes[no_shares].ok("fetch")  # it may know the result as well
        some.require_posterior_of(five)


def test_a_coordinator_that_shows_another_list_gets_no_second_total(tmp_path: Path) -> None:
    some = Hospitals(tmp_path, study_of(4, 3))
    a, b, c, d = some.study.roster
    with some.served():
        some.join_all()
        some.each("submit", WAITING, [a, b, c])
        some.each("submit", WAITING, [d, a, b])
        some.each("submit", 0, [c, d, b, a])
        some.each("fetch", WAITING, [a, b])  # have signed whose total it is
        some.coordinator.kill()
        store = Store(some.coordinator.home / "state.sqlite")
        position = int(store.rows("SELECT position FROM sum_lists WHERE step = 'uploads'")[0]["position"])
        honest = parse(store.entry(position))
        assert isinstance(honest, SumListEntry)
        fewer = {node: said for node, said in honest.statements.items() if node != d}
        with store.transaction():
            lie = store.append_entry(encode(honest.model_copy(update={"statements": fewer})))
            store.write("UPDATE sum_lists SET position = ? WHERE step = 'uploads'", lie)
            store.write("DELETE FROM sum_parts WHERE step = 'signing'")
        store.close()
        some.coordinator.start()
        for node_id in (a, b):
            said = some.nodes[node_id].fails(REFUSED, "fetch")
            assert "another list of uploads" in said and "more than one total" in said
        # One that it is to be without, although it has a receipt, helps no more than those.
        assert "is to be without this node" in some.nodes[d].fails(REFUSED, "fetch")
        # Whoever has signed nothing yet can be lied to, and is too few for any total.
        some.each("fetch", WAITING, [c, c])
        store = Store(some.coordinator.home / "state.sqlite")
        assert store.count("sum_parts WHERE step = 'unmasking'") == 0
        store.close()
