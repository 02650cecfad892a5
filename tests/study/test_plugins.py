"""A kind of somebody else's is used where a study names its package with its exact version, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.learn.model import Model, terminating_distribution
from epgfn.learn.target import target_of
from epgfn.study import Study
from epgfn.study.kinds.plugins import foreign_kind
from epgfn.testing import check_kind, made_up_records

PLUGIN = Path(__file__).parents[2] / "examples" / "plugin"
PACKAGE = "epgfn-subset==1.0"
TEXT = (PLUGIN / "bag.toml").read_text()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example package, as an installation leaves it."""
    place = tmp_path / "site"
    info = place / "epgfn_subset-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: epgfn-subset\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[epgfn.kinds]\nsubset = epgfn_subset:SUBSET\nother = epgfn_subset:PI\n"
    )
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.syspath_prepend(str(PLUGIN))
    foreign_kind.cache_clear()
    yield
    foreign_kind.cache_clear()


@pytest.mark.usefixtures("installed", "seeded_noise")
def test_the_example_goes_from_file_to_report_with_privacy_and_planning(tmp_path: Path) -> None:
    study = Study.from_bytes(TEXT.encode())
    check_kind(study.kind, tmp_path / "run", package=PACKAGE)
    assert "epgfn-subset, version 1.0" in study.foreign


@pytest.mark.usefixtures("installed")
def test_its_models_are_the_exact_posteriors() -> None:
    study = Study.from_bytes(TEXT.encode())
    records = {node: made_up_records(study, seed, 30) for seed, node in enumerate(study.roster)}
    models = {node: train_local(study, found.numpy(), seed=1).tensors for node, found in records.items()}
    state, mass = terminating_distribution(Model(study, train_global(study, models, seed=2).tensors))
    total = torch.stack([target_of(study, found).log_reward(state) for found in records.values()]).sum(0)
    assert len(mass) == study.number_of_objects == 16
    assert l1(mass, exact_distribution(total)) < 0.1


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (f'package = "{PACKAGE}"\n', "", "name the package that has it with its exact version"),
        ("==1.0", "", "NAME|with its exact version"),
        ("==1.0", ">=1.0", "with its exact version"),
        ("==1.0", "==1.1", "install exactly epgfn-subset==1.1"),
        ("epgfn-subset==", "epgfn-nobody==", "which is not installed here"),
        ('kind = "subset"', 'kind = "ring"', "has no kind 'ring'"),
        ('kind = "subset"', 'kind = "other"', "cannot be loaded"),
        ('kind = "subset"', 'kind = "multiset"\nsize = 2', "which is part of epgfn"),
        ('kind = "shown"', 'kind = "bge"', "does not go with space 'subset'"),
        ("signal = 0.8", "sigma = 0.8", "target.sigma has no meaning for target 'shown'"),
    ],
)
def test_anything_else_is_refused_with_what_to_do(old: str, new: str, names: str) -> None:
    with pytest.raises(UsageError, match=names):
        Study.from_bytes(TEXT.replace(old, new, 1).encode())


def test_without_the_package_nothing_of_it_is_imported() -> None:
    with pytest.raises(UsageError, match=r"install exactly epgfn-subset==1\.0"):
        Study.from_bytes(TEXT.encode())
    assert Study.from_bytes((PLUGIN.parent / "multiset" / "study.toml").read_bytes()).foreign == ""
    assert "epgfn.kinds" not in sys.modules
