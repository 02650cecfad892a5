"""Whether a kind of study keeps what epgfn asks of it: each of its examples goes from a study file to a report, with privacy and planning.

    check_kind(KINDS["multiset"], tmp_path)
    check_kind(SUBSET, tmp_path, package="epgfn-subset==1.0")      # a kind of your own, installed

Records are made up, and training is a few steps long: what is checked is that everything fits together, not that a posterior is good.
"""

from __future__ import annotations

import io
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import tomli_w
import torch
from torch import Tensor

from epgfn.gflownet.sampling.random_walk import finished_at_random
from epgfn.learn.aggregate import train_global
from epgfn.learn.likelihoods import likelihood_of
from epgfn.learn.local import train_local
from epgfn.learn.model import Model
from epgfn.privacy.of_study.agreement import require_claim
from epgfn.privacy.of_study.planning import plan
from epgfn.privacy.of_study.question import Question
from epgfn.privacy.of_study.releases import maker_of
from epgfn.run.audit.contents import draw, require_sampled, require_samples
from epgfn.run.report import report_of
from epgfn.run.report.found import read_found
from epgfn.run.report.run import Ledger, Run, Upload
from epgfn.study import Study
from epgfn.study.kinds import Kind
from epgfn.study.objects import marginals, questions, space_of, written
from epgfn.study.records.scale import off_scale
from epgfn.study.records.tables import load_bounded_records, load_records

NODES = ("north", "south")
RECORDS, STEPS, SAMPLES = 60, 20, 64
_PRIVACY = {
    "statistic": {"epsilon": 8.0, "delta": 1e-5},
    "answers": {"epsilon": 8.0, "delta": 1e-5},
    "gradient": {"epsilon": 8.0, "delta": 1e-5, "rate": 0.5, "clip": 10.0},
}


def check_kind(kind: Kind, folder: Path, package: str | None = None) -> None:
    """Run each example of `kind` in the empty `folder`; `package`, of a kind that is not epgfn's own, as a study names it.

    Raises:
        AssertionError: something does not fit; the text says what.
        EpgfnError: as the step that failed says.
    """
    assert kind.example, f"kind '{kind.name}' has no example to run"
    for number, text in enumerate(kind.example):
        place = folder / str(number)
        place.mkdir(parents=True)
        study = example_study(kind, text, package)
        _check_study(study, kind)
        paths = {
            node: write_records(study, made_up_records(study, seed), place / node)
            for seed, node in enumerate(NODES)
        }
        model = _check_training(study, paths)
        _check_objects(study, model)
        _check_privacy(study, paths[NODES[0]])
        _check_report(study, model)


def example_study(kind: Kind, text: str, package: str | None = None) -> Study:
    """The study file around `text`, one of the kind's examples, that trains in no time."""
    values = tomllib.loads(text)
    if package is not None:
        values["space"]["package"] = package
    quick = {"steps": STEPS, "batch": 16}
    head = {"name": kind.name, "roster": list(NODES), "seed": 1, "policy": {"hidden": 8}}
    tables = {"training": quick, "aggregation": {**quick, "samples": SAMPLES}}
    return Study.from_bytes(tomli_w.dumps({**head, **values, **tables}).encode())


def made_up_records(study: Study, seed: int, n: int = RECORDS) -> Tensor:
    """(n, ...) records as `load_records` gives them: drawn from one random object where the target is a sum over records; else any."""
    generator = torch.Generator().manual_seed(seed)
    if study.target_kind.likelihood is not None:
        space = space_of(study)
        return likelihood_of(study, space).draw(finished_at_random(space, 1, generator), n, generator)
    if study.columns.alignment:
        bases = torch.randint(4, (n, len(study.variables)), generator=generator)
        return (1 << bases).to(torch.uint8)
    columns = [
        torch.randn(n, generator=generator, dtype=torch.float64)
        if variable.is_number
        else torch.randint(len(variable.categories or ()), (n,), generator=generator)
        for variable in study.variables
    ]
    return torch.stack(columns, 1)


def write_records(study: Study, records: Tensor, path: Path) -> Path:
    """Write `records` as a node has them: CSV, or FASTA where the study reads an alignment; returns the file's path."""
    rows = records.numpy() if records.dim() > 1 else records.numpy()[:, None]
    if study.columns.alignment:
        letter = {1 << place: base for place, base in enumerate("ACGT")}
        lines = [
            f">{name}\n{''.join(letter[int(code)] for code in row)}\n"
            for name, row in zip(study.variable_names, rows.T, strict=True)
        ]
        path = path.with_suffix(".fasta")
        path.write_text("".join(lines), encoding="utf-8")
        return path
    table = {
        v.name: off_scale(column, v) if v.categories is None else [v.categories[int(i)] for i in column]
        for v, column in zip(study.variables, rows.T, strict=True)
    }
    path = path.with_suffix(".csv")
    pd.DataFrame(table).to_csv(path, index=False)
    return path


def _check_study(study: Study, kind: Kind) -> None:
    assert study.kind == kind, f"a study of space '{kind.name}' is not of the kind that is checked"
    assert study.number_of_objects >= 1, "there is no object"
    again = Study.from_bytes(study.raw)
    assert again == study and again.digest == study.digest, "a study read twice is two studies"
    assert kind.in_words(study) and study.target_kind.words, "the report needs words for space and target"
    assert set(study.target_kind.planned) <= set(study.target_kind.settings.model_fields), (
        "a planned setting is none"
    )


def _check_training(study: Study, paths: dict[str, Path]) -> Model:
    models = {}
    for seed, (node, path) in enumerate(paths.items()):
        found = load_records(path, study)
        drawn = made_up_records(study, seed).numpy()
        assert found.shape == drawn.shape, "records are read in another shape than they are drawn in"
        assert np.allclose(found, drawn), "records that are written and read again are others"
        models[node] = train_local(study, found, seed=seed).tensors
    return Model(study, train_global(study, models, seed=1).tensors)


def _check_objects(study: Study, model: Model) -> None:
    samples = model.sample(SAMPLES, seed=1)
    space, state = space_of(study), samples.state
    assert bool(space.is_terminating(state).all()), "a sampled object is not finished"
    keys = [tuple(row) for row in space.key(state).tolist()]
    assert len(set(zip(keys, samples.objects, strict=True))) == len(set(keys)) == len(set(samples.objects)), (
        "texts and keys do not tell the same objects apart"
    )
    assert written(study, state) == samples.objects, "an object is written in two ways"
    names, answers = questions(study, state)
    assert answers.dtype == torch.bool and answers.shape == (SAMPLES, len(names)), (
        "answers are not one yes or no an object and question"
    )
    assert len(set(names)) == len(names) > 0, "a question is listed twice, or there is none"
    shares = marginals(study, state)
    assert list(shares) == names and all(0 <= share <= 1 for share in shares.values()), (
        "a marginal is no probability"
    )
    for prefix in study.kind.panels(study) or {}:
        assert any(name.startswith(prefix) for name in names), (
            f"panel {prefix!r} of the report has no question"
        )


def _check_privacy(study: Study, path: Path) -> None:
    for mode in study.target_kind.mechanisms:
        private = study.with_changes({"privacy": {"mode": mode, **_PRIVACY[mode]}})
        records = load_bounded_records(path, private)
        maker = maker_of(private, NODES[0])
        maker.check(records)
        done = maker.finish(maker.observe(records))
        assert done.claim.epsilon <= maker.planned_claim.epsilon * (1 + 1e-9), (
            f"mode {mode} costs more than it planned"
        )
        assert require_claim(private, done.claim.to_json()) == done.claim, f"mode {mode} makes no sound claim"
        assert done.claim.unit == private.unit, "the unit of the claim is not the study's"
    if not study.target_kind.mechanisms:
        return
    private = study.with_changes({"privacy": {}})
    planned = plan(Question(private, (RECORDS,), (8.0,), worlds=2))
    assert all(np.isfinite(row.error) for row in planned.rows), "planning has no figure"
    assert planned.settings["space"] == study.kind.name, "planning says another space"


def _check_report(study: Study, model: Model) -> None:
    table = io.BytesIO()
    model.sample(study.aggregation.samples, seed=2).rows().to_parquet(table, index=False)
    counts, shares = require_samples(table.getvalue(), study, "samples.parquet")
    require_sampled(draw(model, model.policy.tensors()), counts, shares, None, "samples.parquet")
    found = read_found(study, {"marginals": model.marginals(SAMPLES)}, counts, None)
    run = Run(
        study=study,
        edges=model.edge_probabilities(SAMPLES) if study.kind.has_edges else None,
        summary={},
        uploads=[Upload(node, aggregated=True) for node in NODES],
        ledger=Ledger(None, [], None, "", "there is none"),
        coordinator_fingerprint=None,
        comparison=None,
        history=[],
        found=found,
    )
    text, _ = report_of(run)
    for words in (study.kind.noun, study.kind.asked(study), study.kind.components):
        assert words in text, f"the report does not say {words!r}"
