"""A node whose model aggregation excluded gets the result, and reads in the ledger why its own is not in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator_client import InProcess, make_home
from epgfn.learn.aggregate import UnusableModels, train_global
from epgfn.study import Study
from epgfn_coordinator import together
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.store import Store
from parties import REFUSED, Node


@pytest.mark.slow
def test_an_excluded_node_is_told_by_the_ledger(
    tmp_path: Path, small_study: Study, small_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_south(study: Study, models: Any, **named: Any) -> Any:
        if "south" in models:
            raise UnusableModels({"south": "model-not-combined"}, "the model of south gives no number")
        return train_global(study, models, **named)

    monkeypatch.setattr(together, "train_global", without_south)
    study = small_study.with_changes({"aggregation": {"quorum": 1, "close_when": "all"}})
    home = make_home(tmp_path / "coordinator", study)
    with InProcess(home) as server:
        nodes = {}
        for name in study.roster:
            store = Store(home.state)
            invitation = tmp_path / f"{name}.invitation.json"
            invitation.write_bytes(invite(home, store, name))
            invitation.chmod(0o600)
            store.close()
            node = nodes[name] = Node(tmp_path / name)
            node.ok("init")
            node.ok("enroll", "--invite", str(invitation))
            node.train(small_files[name], study)
            node.ok("approve")
            node.ok("submit")
        server.events.wait_for("published")
        nodes["north"].ok("fetch")
        said = nodes["south"].ok("fetch")
        assert "not in the result" in said and "model-not-combined" in said

        # Without the entry it is what it always was: a coordinator that drops a model it has accepted.
        store = Store(home.state)
        store.write("DELETE FROM exclusions")
        store.close()
        (tmp_path / "south/global/model.safetensors").unlink()
        assert "your receipt proves it" in nodes["south"].fails(REFUSED, "fetch")
