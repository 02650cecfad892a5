"""The names that a release keeps: exactly these, loaded when they are used, and the only ones that documents show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import epgfn
from small import SMALL_STUDY

ROOT = Path(__file__).parents[1]
PUBLIC = {
    "Model", "RunResult", "Samples", "Study", "__version__", "audit_run", "errors", "load_model", "load_records", "load_run", "load_study",
    "losses", "privacy", "spaces", "targets", "train_global", "train_local", "train_reward", "write_report",
}  # fmt: skip
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_exactly_these_names_are_shown() -> None:
    assert set(epgfn.__all__) == set(dir(epgfn)) == PUBLIC
    python(
        "from epgfn import *; assert issubclass(errors.UsageError, errors.EpgfnError) and callable(train_local)"
    )


def test_the_parts_are_enough_for_a_study(small_study: epgfn.Study, small_files: dict[str, Path]) -> None:
    """What README shows, with both nodes there."""
    study = epgfn.load_study(small_files["study"])
    assert study == small_study
    nodes = {
        node: epgfn.train_local(study, epgfn.load_records(small_files[node], study), seed=1).tensors
        for node in study.roster
    }
    model = epgfn.Model(study, epgfn.train_global(study, nodes, seed=1).tensors)
    found = model.marginals(2000, seed=1)
    assert (
        found["a->b"] + found["b->a"] > 0.9 and found["c->b"] + found["b->c"] > 0.9
    )  # the records are of a -> b <- c
    assert isinstance(model.sample(3, seed=1), epgfn.Samples)


@pytest.mark.parametrize("name", ["errors", "losses", "privacy", "spaces", "targets"])
def test_each_module_shows_names_that_exist(name: str) -> None:
    module = getattr(epgfn, name)
    assert module.__doc__
    for shown in getattr(module, "__all__", []):
        assert getattr(module, shown) is not None


def test_losses_are_functions_of_tensors() -> None:
    import torch

    log_pf, log_pb, log_reward = (
        torch.tensor([-1.0, -2.0]),
        torch.tensor([-0.5, 0.0]),
        torch.tensor([1.5, 0.0]),
    )
    assert float(epgfn.losses.trajectory_balance(torch.tensor(2.0), log_pf, log_pb, log_reward)) == 0


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod_model'"):
        epgfn.lod_model  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", epgfn.__version__)


def test_a_study_loads_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SMALL_STUDY)
    assert epgfn.load_study(str(path)) == epgfn.Study.load(path)
    with pytest.raises(epgfn.errors.UsageError):
        epgfn.load_study(tmp_path / "none.toml")


def test_python_m_epgfn_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "epgfn", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "audit" in done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_show_public_names_only(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.findall(r"^\s*(?:from epgfn\S* import .*|import epgfn\.\S*)$", text, re.MULTILINE)
    for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        assert set(re.findall(r"\bepgfn\.(\w+)", snippet)) <= PUBLIC
        assert not re.findall(r"(?<![.\w])(?:train_|load_|audit_run|write_report)\w*\(", snippet)
