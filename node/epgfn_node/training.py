"""Training the local model on the node's own records. Everything here stays on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from epgfn.base.canonical import canonical_json
from epgfn.base.console import Reporter
from epgfn.base.errors import RefusedError, UsageError
from epgfn.base.files import read_secret, remove, sha256_file, sha256_hex, write_secret
from epgfn.study import Study
from epgfn.study.lacks import of_node
from epgfn_node.check import PRIVATE, check, keep, loud, require_nothing_loud
from epgfn_node.home import NodeHome
from epgfn_node.privacy import Operator, Release, keep_claim, release, tell_notes

if TYPE_CHECKING:
    from epgfn.gflownet.training.loop import LocalResult, TrainingProgress
    from epgfn.privacy.of_study.releases import Released
    from epgfn.study.records.table import Table

LEAST: Final = 0.01
"""Less that a model lacks is not worth mentioning."""

Train = Callable[..., "LocalResult"]
"""A training that only wants to be told `progress` and `checkpoint`."""


def default_seed(study: Study, node_id: str) -> int:
    """The study's seed plus one plus the node's place in the roster: reproducible, and no two nodes alike."""
    return (study.seed + 1 + study.roster.index(node_id)) % (1 << 31)


def train(
    home: NodeHome,
    study: Study,
    node_id: str,
    data: Path,
    seed: int,
    report: Reporter,
    operator: Operator | None = None,
    device: str = "cpu",
    accept_warnings: bool = True,
) -> str:
    """Train on `data`, write local/model.safetensors and local/history.json, and return the model's SHA-256.

    Under differential privacy `operator` says what may be spent, and the training sees a release of the records with noise
    instead of the records. A training that was interrupted goes on, where study, records and seed are still the same. A model that
    was approved before is no longer approved. The records are looked at first, and what is odd is kept in local/check.json; with
    `accept_warnings` nothing of it stops the training. Under differential privacy nobody looks here.

    Raises:
        UsageError: the records do not fit the study.
        RefusedError: "warnings": the records look odd, and that is not accepted. "already-sent", "being-sent": the coordinator has
            accepted a model from this node, or may have. "budget-spent"
            and others of `privacy.release`.
        EpgfnError: a file cannot be written.
    """
    if home.receipt.exists():
        raise RefusedError(
            "already-sent",
            f"this node's model was accepted already (receipt: {home.receipt}); a round takes one model per node, so there "
            "is nothing to train for unless it is withdrawn (epgfn-node withdraw)",
        )
    if home.sending.exists():
        raise RefusedError(
            "being-sent",
            f"the model in {home.root} may have arrived already, only the receipt is missing; run epgfn-node submit to get it",
        )
    found: list[dict[str, Any]] = []

    def look(table: Table) -> None:
        found.append(check(table, data, study, node_id))
        for text in loud(found[0]):
            report.event("warning", f"WARNING: {text}")
        if not accept_warnings:
            require_nothing_loud(found[0])

    if operator is not None:
        report.event("unchecked", f"{PRIVATE} --home {home.root}")
    done = None if operator is None else release(study, node_id, data, operator, report)
    prepared = _on(device, _prepared(study, node_id, data, seed, done, report, look))
    result = _train_or_go_on(home, prepared, data.name, report)
    tell_notes(list(result.notes), data, report)
    from epgfn.sealing.model_file import write_model

    raw = write_model(result.tensors, {"study_digest": study.digest, "role": "local"})
    digest = sha256_hex(raw)
    # Approval goes first, and then the model of before: at no moment may either stand beside what was not said of it, such as which
    # records it was trained on.
    withdraw_approval(home)
    remove(home.model)
    write_secret(home.records_digest, sha256_file(data).encode("ascii"))
    keep(home, found[0] if found else None)
    write_secret(home.history, canonical_json(result.history) + b"\n")
    keep_claim(home, digest, done)
    write_secret(home.model, raw)
    forget_unfinished(home)
    said = "trained" if result.trust is None else f"trained, and {graded(result.trust, study)}"
    report.event("trained", f"{said}; the model is in {home.model} and stays there until you approve it")
    return digest


def graded(trust: Mapping[str, Any], study: Study) -> str:
    """How far the model may be believed, for the node's own people: the grade depends on the records and is sent to nobody."""
    grade = str(trust["verdict"])
    if grade == "good":
        return "graded good, for its samples fit what the records say"
    said, missing = f"graded {grade}", trust.get("missing_share", 0.0)
    if "exact_largest_error" in trust:
        said += f", for a probability of its samples is off by {trust['exact_largest_error']:.2f}"
    elif missing >= LEAST:
        said += f", for it lacks {missing:.0%} of what the records say"
    if study.space.kind == "dag-by-sinks":
        return f"{said} (the common result is put right by the scores that go with it)"
    return f"{said} (the common result can be no better: more training.steps in the study may help)"


def _prepared(
    study: Study,
    node_id: str,
    data: Path,
    seed: int,
    done: Release | None,
    report: Reporter,
    look: Callable[[Table], None],
) -> Train:
    """The training of this study on the release, or on the records themselves where no privacy is asked for."""
    # Loaded here, because no other command needs it and all others start faster without.
    from epgfn.gflownet.parallel import number_from_first
    from epgfn.learn.local import train_local
    from epgfn.study.records.tables import load_table, records_of, with_lacked

    if done is None:
        held = of_node(study, node_id)
        table = load_table(data, held)
        tell_notes(table.notes, data, report)
        records = with_lacked(records_of(table, data, held), study, node_id)
        look(table)
        number_from_first(seed)  # the other processes, if there are any, wait in `train_along`
        number_from_first(study.roster.index(node_id))
        return partial(train_local, study, records, seed=seed)
    number_from_first(seed)
    number_from_first(study.roster.index(node_id))
    _shared(done.raw)
    return _on_release(study, done.done, seed)


def _on_release(study: Study, done: Released, seed: int) -> Train:
    """The training on what was released; with DP-SGD the release is the trained model, and nothing is left to do."""
    from epgfn.gflownet.training.loop import LocalResult
    from epgfn.learn.local import train_on_target

    if done.target is not None:
        return partial(train_on_target, study, done.target, seed=seed)
    finished = LocalResult(done.tensors or {}, [])
    return lambda **told: finished


def _on(device: str, train: Train) -> Train:
    """The same training, computed on `device`."""
    from epgfn.gflownet.device import chosen, computing_on

    def there(**told: Any) -> LocalResult:
        with computing_on(chosen(device)):
            return train(**told)

    return there


def _shared(raw: bytes) -> bytes:
    """The first process's release, in all of them: only that process has read records."""
    import torch

    from epgfn.gflownet.parallel import from_first, number_from_first

    size = number_from_first(len(raw))
    held = torch.frombuffer(bytearray(raw or bytes(size)), dtype=torch.uint8)
    held = held.to(torch.get_default_device())  # where messages can be sent from
    return bytes(from_first(held).cpu().numpy().tobytes())


def _train_or_go_on(home: NodeHome, train: Train, name: str, report: Reporter) -> LocalResult:
    """The trained model. An unfinished training of something else is thrown away: what is asked for now counts."""
    unfinished = home.training_state.exists()

    def progress(state: TrainingProgress) -> None:
        report.event(
            "training", f"loss {state.loss:.3f}", step=state.step, steps=state.steps, loss=state.loss
        )

    report.event("training", f"going on with the training on {name}" if unfinished else f"training on {name}")
    try:
        return train(progress=progress, checkpoint=home.training_state)
    except RefusedError as error:
        if not unfinished or error.reason not in ("other-run", "damaged-checkpoint"):
            raise
    report.event(
        "training", f"the unfinished training is of other records, seed or study; training anew on {name}"
    )
    forget_unfinished(home)
    return train(progress=progress, checkpoint=home.training_state)


def train_along(home: NodeHome, data: Path | None, device: str = "cpu") -> None:
    """What the other processes of a `torchrun` do: wait until the first one begins, and train along. They write nothing, and under
    differential privacy they read no records.

    Raises:
        UsageError: the study or the records cannot be read, or no records are named.
    """
    from epgfn.gflownet.parallel import number_from_first
    from epgfn.learn.local import train_local
    from epgfn.privacy.of_study.releases import maker_of
    from epgfn.study.records.tables import load_records

    study = Study.load(home.study)
    if data is None and not study.privacy.is_private:
        raise UsageError(f"no records are named; add --data FILE, or set data in {home.settings}")
    seed = number_from_first(0)
    node_id = study.roster[number_from_first(0)]
    if data is None or study.privacy.is_private:
        done = maker_of(study, node_id).finish(_shared(b""))
        _on(device, _on_release(study, done, seed))()
        return
    records = load_records(data, study, node_id)
    _on(device, partial(train_local, study, records, seed=seed))()


def forget_unfinished(home: NodeHome) -> None:
    """Delete what an interrupted training left: weights that were trained on the records."""
    remove(home.training_state)


def require_same_records(home: NodeHome, data: Path) -> None:
    """Check that the model at hand was trained on `data`: a `run` that is given another file must not send the old model.

    Raises:
        RefusedError: "other-records".
        EpgfnError: a file cannot be read.
    """
    known = read_secret(home.records_digest) if home.records_digest.exists() else b""
    if sha256_file(data).encode("ascii") != known:
        raise RefusedError(
            "other-records",
            f"the model in {home.model} was not trained on {data} as it is now; run epgfn-node train --home {home.root} "
            "--data FILE to train anew, or name the file it was trained on",
        )


def withdraw_approval(home: NodeHome) -> None:
    """Forget an approval and what was sealed under it."""
    for path in (home.approved, home.approvals, home.upload_bundle, home.sealed):
        remove(path)
