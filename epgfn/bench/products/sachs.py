"""The bundled Sachs data, 11 variables, split over four nodes: judged by the exact edge marginals of the product."""

from __future__ import annotations

import numpy as np

from epgfn.bench.products.dags import dealt, modular_federation
from epgfn.bench.products.federation import Federation
from epgfn.demo.demo import example_dir
from epgfn.learn.scores import score_table
from epgfn.study import Study
from epgfn.study.records.tables import load_records
from epgfn.study.study import STUDY_NAME

SPLIT_SEED = 1
STEPS = 900


def sachs_11(nodes: int = 4, split: str = "even") -> Federation:
    """1,755 records. `skewed`: node n has the n-th part of all records as sorted by the first variable."""
    source = example_dir()
    study = Study.load(source / STUDY_NAME).with_changes(
        {"training": {"steps": STEPS, "temperature": 2.0}, "aggregation": {"steps": STEPS}}
    )
    records = load_records(source / "sachs.csv", study)
    records = dealt(records[np.random.default_rng(SPLIT_SEED).permutation(len(records))], split)
    tables = [score_table(study, part, n_parties=nodes) for part in np.array_split(records, nodes)]
    return modular_federation(study, tables)
