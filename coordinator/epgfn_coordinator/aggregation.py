"""An aggregate: opens accepted artifacts in memory, trains on their product, and writes the result's files."""

from __future__ import annotations

import json
import platform
import threading
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import read_bytes, sha256_hex, sync_directory, write_atomic
from epgfn.gflownet.training.loop import Progress
from epgfn.learn.aggregate import GlobalResult, UnusableModels
from epgfn.learn.masked import TOTAL as SUM
from epgfn.learn.masked import length, numbers_in, tensors_of
from epgfn.learn.model import Model
from epgfn.learn.trust import Basis, More, basis_of_samples, edge_matrix
from epgfn.run.lacking import summarised
from epgfn.run.layout import MODEL, SAMPLES, SUMMARY, TOTAL
from epgfn.run.relations import RELATIONS, relations_of
from epgfn.run.summary import COMPELLED, MARGINAL_SAMPLES, SAMPLES_FROM, TOP
from epgfn.sealing.model_file import write_model
from epgfn.sealing.model_header import FORMAT
from epgfn.study import Study
from epgfn_coordinator.home import Home
from epgfn_coordinator.keys import read_round_key
from epgfn_coordinator.known_keys import signer_of
from epgfn_coordinator.masked_sum import MaskedSum
from epgfn_coordinator.round import Interrupted
from epgfn_coordinator.store import Store
from epgfn_coordinator.together import Trainer
from epgfn_coordinator.verify import Verifier

SOFTWARE = ("epgfn", "torch", "numpy", "safetensors", "cryptography", "grpcio", "protobuf")


def software() -> dict[str, str]:
    """Name and version of what computes here."""
    return {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}}


def open_artifacts(
    home: Home, store: Store, verifier: Verifier, nodes: Collection[str]
) -> dict[str, dict[str, Tensor]]:
    """The accepted policies of `nodes` by node id, every check made once more. They are never written to disk.

    Raises:
        UnusableModels: some are no policy of the study, although they passed when they arrived.
        EpgfnError: a file in artifacts/ is missing or no longer the one that was accepted.
    """
    key = read_round_key(home)
    models: dict[str, dict[str, Tensor]] = {}
    unusable: dict[str, str] = {}
    for row in store.rows("SELECT node_id, sealed_sha256, bundle FROM artifacts ORDER BY node_id"):
        if row["node_id"] not in nodes:
            continue
        path = home.artifact(row["sealed_sha256"])
        sealed = read_bytes(path, "accepted artifact")
        if sha256_hex(sealed) != row["sealed_sha256"]:
            raise EpgfnError(
                f"{path} is not the artifact that was accepted; the disk or someone changed it, restore it from a backup"
            )
        node_id, bundle = row["node_id"], bytes(row["bundle"])
        signer = signer_of(store, node_id, bundle)
        raw = verifier.opened(
            sealed, node_id, signer.fingerprint, key
        )  # where it does not, the trouble is ours
        try:
            models[node_id] = verifier.policy(raw, node_id, signer, bundle)
        except RefusedError as error:
            unusable[node_id] = error.reason
    if unusable:
        raise UnusableModels(
            unusable, f"the models of {', '.join(unusable)} passed when they arrived and do not pass any more"
        )
    return models


def open_total(
    home: Home, store: Store, verifier: Verifier, masked: MaskedSum, study: Study, nodes: Collection[str]
) -> dict[str, dict[str, Tensor]]:
    """The total of a masked sum under the name that `train_global` takes it by: all that can be read of what the nodes sent.

    Raises:
        EpgfnError: an upload cannot be read, or the masks do not come off.
    """
    sent = open_artifacts(home, store, verifier, nodes)
    vectors = {node: numbers_in(tensors) for node, tensors in sent.items()}
    return {SUM: tensors_of(masked.total(length(study), vectors))}


def write_total(directory: Path, study: Study, models: Mapping[str, Mapping[str, Tensor]]) -> None:
    """total.safetensors, which is published beside the model that is made of it."""
    raw = write_model(models[SUM], {"study_digest": study.digest, "role": "total"})
    write_atomic(directory / TOTAL, raw)


def write_result(
    directory: Path,
    study: Study,
    round_id: str,
    models: dict[str, dict[str, Tensor]],
    progress: Progress,
    stop: threading.Event,
    *,
    trainer: Trainer,
    nodes: Collection[str] | None = None,
    samples: bool = True,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Train a model of the product of `models`, or of what they are the total of, whose `nodes` are named then. Write model.safetensors,
    samples.parquet (unless not `samples`) and summary.json, which also holds what is in `more`, into `directory`.

    Raises:
        Interrupted: `stop` was set.
        EpgfnError: training or writing failed.
    """
    try:
        result = trainer.train(study, models, progress, stop)
    except EpgfnError:
        if stop.is_set():
            raise Interrupted("stopped while aggregating; start serve again and it begins anew") from None
        raise
    model_file = write_model(
        result.tensors, {"format": FORMAT, "study_digest": study.digest, "role": "global"}
    )
    write_atomic(directory / MODEL, model_file)
    model = Model(study, result.tensors)
    basis = basis_of_samples(study, result.judged.trust["verdict"], result.judged.basis)
    beside: dict[str, Any] = {}
    if samples:
        beside = {SAMPLES_FROM: basis, **_write_samples(directory / SAMPLES, model, study, basis)}
    summary = _summary(
        study, round_id, sorted(models if nodes is None else nodes), result, model, sha256_hex(model_file)
    )
    summary.update({**beside, **(more or {})})
    write_atomic(directory / SUMMARY, (json.dumps(summary, indent=2, default=_plain) + "\n").encode("utf-8"))


def _write_samples(path: Path, model: Model, study: Study, basis: Basis) -> dict[str, Any]:
    """Draw them; what the summary says of them, if they are graphs."""
    frame = model.sample(study.aggregation.samples, study.seed, basis).rows()
    temporary = path.with_name(f".{path.name}.tmp")
    frame.to_parquet(temporary, index=False)
    write_atomic(path, temporary.read_bytes())
    temporary.unlink()
    sync_directory(path.parent)
    if not study.kind.has_edges:
        return {}
    counts = {str(text): int(count) for text, count in frame[study.kind.column].value_counts().items()}
    return {RELATIONS: relations_of(counts, study)}


def _summary(
    study: Study, round_id: str, nodes: list[str], result: GlobalResult, model: Model, model_sha256: str
) -> dict[str, Any]:
    return {
        "study": study.name,
        "study_digest": study.digest,
        "round_id": round_id,
        "model_sha256": model_sha256,
        "privacy": study.privacy.model_dump(mode="json"),
        "aggregated": nodes,
        "absent": sorted(set(study.roster) - set(nodes)),
        "absent_prior_share": 1 - len(nodes) / len(study.roster),
        "seed": study.seed,
        "samples": study.aggregation.samples,
        "variables": study.variable_names,
        "noun": study.kind.noun,
        **summarised(study, nodes),
        **_probabilities(study, result, model),
        "diagnostics": result.diagnostics,
        "history": result.history,
        "software": software(),
    }


def _probabilities(study: Study, result: GlobalResult, model: Model) -> dict[str, Any]:
    """Of graphs a matrix of their edges' probabilities, of other objects the probability of each question about them; and where they
    come from."""
    judged = result.judged
    found = judged.probabilities
    if judged.basis == "samples":  # of which it takes fewer to judge a model than to say what it says
        found = model.marginals(MARGINAL_SAMPLES, seed=study.seed, weighted=False)
    return {**_named(study, found, result.more), "probabilities_from": judged.basis}


def _named(study: Study, found: Mapping[str, float], more: More) -> dict[str, Any]:
    """Probabilities, and what goes with them: of graphs that an edge is there and compelled, of objects that were all listed the most
    probable ones."""
    if study.kind.has_edges:
        edges = edge_matrix(study, found)
        known = more.compelled
        compelled = (
            {} if known is None else {COMPELLED: (torch.tensor(edges, dtype=torch.float64) * known).tolist()}
        )
        return {"edge_probabilities": edges, **compelled}
    top = [{"object": text, "probability": p} for text, p in more.top or []]
    return {"marginals": found, **({TOP: top} if top else {})}


def _plain(value: Any) -> Any:
    """JSON form of what numpy and torch give."""
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return value.tolist()
    raise TypeError(type(value).__name__)
