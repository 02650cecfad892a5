"""What `epgfn bench aggregate --baselines` compares with: one file each, one line in `BASELINES`.

A baseline gets the same federation and the same trained local models, and gives its answer and the CPU-seconds it took; None
where it makes no sense for the instance.
"""

from __future__ import annotations

from epgfn.bench.baselines.base import Baseline, Case, Found
from epgfn.bench.baselines.categorical import parallel_categorical
from epgfn.bench.baselines.centralised import centralised
from epgfn.bench.baselines.chains import structure_chains
from epgfn.bench.baselines.fedavg import averaged_parameters
from epgfn.bench.baselines.pooled import pooled_samples

BASELINES: dict[str, Baseline] = {
    "centralised": centralised,
    "pcvi": parallel_categorical,
    "fedavg": averaged_parameters,
    "pooled-samples": pooled_samples,
    "mcmc": structure_chains,
}

__all__ = ["BASELINES", "Baseline", "Case", "Found"]
