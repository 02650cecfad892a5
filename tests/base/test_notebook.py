"""In a notebook training shows a bar; elsewhere nothing is loaded for it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from epgfn.base.notebook import notebook_bar
from epgfn.gflownet.training.loop import TrainingProgress


class Bar:
    """What tqdm's would be told."""

    made: Bar

    def __init__(self, **said: Any) -> None:
        Bar.made = self
        self.said, self.n, self.total, self.loss = said, 0, 0, ""

    def set_postfix(self, loss: str, refresh: bool) -> None:
        self.loss = loss

    def update(self, steps: int) -> None:
        self.n += steps

    def refresh(self) -> None: ...


@pytest.fixture
def tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tqdm.auto")
    module.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)


def test_elsewhere_there_is_no_bar(tqdm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert notebook_bar("training") is None


def test_without_tqdm_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert notebook_bar("training") is None


def test_in_a_notebook_it_follows_the_steps(tqdm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    tell = notebook_bar("training")
    assert tell is not None
    for step, steps in ((1, 10), (2, 10), (3, 20)):
        tell(TrainingProgress(step, steps, 1.25, 0.5, 0.9))
    assert (Bar.made.n, Bar.made.total, Bar.made.loss) == (3, 20, "1.25")
