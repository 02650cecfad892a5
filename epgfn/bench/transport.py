"""`epgfn bench transport`: the way of models to a coordinator, with real processes, certificates and sockets on this machine.

    crowd     many nodes submit a model at once; the coordinator's peak memory over what it takes when idle
    stream    one node's large upload, in turns with the same stream to a bare gRPC server over the same mTLS, which keeps nothing
    restart   from SIGKILL to the first answer, with many accepted models, each of which still has its receipt
    masked    many nodes whose sums are masked, beside as many that send their statistic with a model (`masked.py`)

Models of the crowd are real policies of a study, sealed and signed by each node, and verified before they count. The large upload is
bytes of chance: no study makes a model of that size, so after the whole of it has arrived the coordinator reads it, finds its digest
right, and refuses to open it.
"""

from __future__ import annotations

import hashlib
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import tomli_w
import torch

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.bench.masked import masked as beside_plain
from epgfn.bench.transport_parties import (
    BareServer,
    CoordinatorProcess,
    Node,
    begin,
    commit,
    cpu_seconds,
    pieces,
    resident,
    upload,
)
from epgfn.learn.policy import initial_policy
from epgfn.sealing.envelope import sealed_size
from epgfn.sealing.model_file import write_model
from epgfn.sealing.model_header import FORMAT
from epgfn.study import Study
from epgfn.study.objects import space_of

MIB: Final = 1 << 20
_BLOCK: Final = 16 * MIB  # of bytes of chance, sent again and again
_ENROLLING: Final = 8  # at once
_STUDY: Final = {
    "seed": 0,
    "space": {"kind": "dag-by-sinks", "max_parents": 2},
    "training": {"steps": 1},
    "aggregation": {"steps": 1, "close_when": "all"},
    "variables": [{"name": name, "centre": 0.0, "scale": 1.0} for name in "xyz"],
}


class Setting(NamedTuple):
    """How much of each: `nodes` at once with a policy of width `hidden` (1,024: 4 MiB), MiB of the large upload and its turns, accepted
    models at the restart and how often it is killed, nodes of a masked sum. 0 leaves a part out."""

    nodes: int = 100
    hidden: int = 1024
    stream_mib: int = 1024
    turns: int = 3
    artifacts: int = 1000
    kills: int = 3
    masked: int = 20


def transport(
    setting: Setting = Setting(), on_row: Callable[[dict[str, Any]], None] = lambda row: None
) -> list[dict[str, Any]]:
    """One row a part, each given to `on_row` as it is there.

    Raises:
        EpgfnError: a party did not do what it should; there is no figure then.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="epgfn-bench-") as folder:
        for wanted, part in (
            (setting.nodes, crowd),
            (setting.stream_mib, stream),
            (setting.artifacts, restart),
            (setting.masked, masked),
        ):
            if not wanted:
                continue
            place = Path(folder) / part.__name__
            place.mkdir()
            rows.append({"part": part.__name__, **part(place, setting)})
            on_row(rows[-1])
    return rows


def shown(row: dict[str, Any]) -> str:
    """A row for people."""

    def mib(name: str) -> str:
        return "unknown" if row[name] is None else f"{row[name]:.0f} MiB"

    if row["part"] == "crowd":
        return (
            f"crowd    {row['complete']} of {row['nodes']} nodes, {row['model_bytes'] / MIB:.1f} MiB each: {row['seconds']:.1f} s to the "
            f"last receipt, {row['mib_per_s']:.0f} MiB/s; coordinator {mib('idle_mib')} idle, {mib('over_idle_mib')} more at its peak"
        )
    if row["part"] == "stream":
        known = row["cpu_s"] is not None
        cpu = f"{row['cpu_s']:.1f} s beside {row['bare_cpu_s']:.1f}" if known else "an unknown amount"
        return (
            f"stream   {row['bytes'] / MIB:.0f} MiB: {row['mib_per_s']:.0f} MiB/s, a bare stream {row['bare_mib_per_s']:.0f}: ratio "
            f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f}); {cpu} of CPU time; over idle "
            f"{mib('streaming_over_idle_mib')} while it arrives, {mib('checking_over_idle_mib')} while it is read, which takes "
            f"{row['checked_s']:.1f} s ({row['refused']})"
        )
    if row["part"] == "masked":
        known = row["cpu_s"] is not None
        cpu = f"{row['cpu_s']:.0f} s beside {row['plain_cpu_s']:.0f}" if known else "an unknown amount"
        return (
            f"masked   {row['nodes']} nodes, from approved to fetched: {row['seconds']:.1f} s, without masks {row['plain_seconds']:.1f}: "
            f"ratio {row['ratio']:.2f}; {cpu} of CPU time of all parties"
        )
    computed = "unknown" if row["back_cpu_s"] is None else f"{row['back_cpu_s']:.1f} s"
    return (
        f"restart  {row['artifacts']} models, {row['kills']} kills: answers after {row['back_s']:.2f} s ({row['back_s_max']:.2f} at most; "
        f"CPU time {computed}), {row['receipts_lost']} receipts lost"
    )


def masked(folder: Path, setting: Setting) -> dict[str, Any]:
    """`setting.masked` nodes take part in a masked sum, and as many in one that is not."""
    return beside_plain(folder, setting.masked)


def crowd(folder: Path, setting: Setting) -> dict[str, Any]:
    """`setting.nodes` submit at once."""
    names = _names(setting.nodes)
    study = _study([*names, "absent"], setting.hidden, 64)  # one who never sends: the round stays open
    model = _model(study)
    with CoordinatorProcess(folder, study) as coordinator:
        nodes = _enrolled(coordinator, names)
        pid = coordinator.process.pid
        idle = resident(pid)
        begun = time.monotonic()
        with ThreadPoolExecutor(len(nodes)) as pool:
            receipts = list(pool.map(lambda node: node.submit(study, model), nodes))
        seconds = time.monotonic() - begun
        peak = resident(pid, "VmHWM")
    if len(set(receipts)) != len(nodes):
        raise EpgfnError("not every node of the benchmark has a receipt of its own")
    return {
        "nodes": len(nodes),
        "model_bytes": len(model),
        "complete": len(receipts),
        "seconds": seconds,
        "mib_per_s": len(nodes) * len(model) / MIB / seconds,
        "idle_mib": idle,
        "peak_mib": peak,
        "over_idle_mib": None if idle is None or peak is None else peak - idle,
    }


def stream(folder: Path, setting: Setting) -> dict[str, Any]:
    """One large upload, in turns with the same stream to a bare server."""
    block = os.urandom(min(_BLOCK, setting.stream_mib * MIB))
    study = _study(["large", "absent"], 8, setting.stream_mib + 2)
    ours: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    with CoordinatorProcess(folder, study) as coordinator, BareServer(coordinator) as counter:
        (node,) = _enrolled(coordinator, ["large"])
        idle = resident(coordinator.process.pid)
        with node.channel() as channel, node.channel(counter.address) as other:
            manifest = node.manifest(channel)
            size = sealed_size(manifest.suite, setting.stream_mib * MIB)
            digest = hashlib.sha256()
            for piece in pieces(block, size):
                digest.update(piece)
            upload(other, "", block, MIB)  # connected, and has begun once
            for turn in range(setting.turns):
                # Another digest each turn but the last, so that another upload begins.
                last = turn == setting.turns - 1
                named = digest.hexdigest() if last else hashlib.sha256(bytes([turn])).hexdigest()
                bundle = node.statement(channel, study, manifest, named, setting.stream_mib * MIB)
                upload_id = begin(channel, bundle)
                bare.append(_timed(partial(upload, other, "", block, size), size, counter.pid))
                ours.append(
                    _timed(partial(upload, channel, upload_id, block, size), size, coordinator.process.pid)
                )
            streaming = resident(coordinator.process.pid, "VmHWM")
            begun = time.monotonic()
            reason = ""
            try:
                commit(channel, upload_id)
            except RefusedError as error:
                reason = error.reason
            checked = time.monotonic() - begun
            peak = resident(coordinator.process.pid, "VmHWM")
    if reason in ("", "digest-mismatch"):
        raise EpgfnError("the coordinator of the benchmark has not read what it was sent")
    speeds, bare_speeds = ([size / MIB / seconds for seconds, _ in found] for found in (ours, bare))
    cpu, bare_cpu = (statistics.median(each for _, each in found) for found in (ours, bare))
    return {
        "bytes": size,
        "turns": setting.turns,
        "mib_per_s": statistics.median(speeds),
        "bare_mib_per_s": statistics.median(bare_speeds),
        "ratio": statistics.median(mine / its for mine, its in zip(speeds, bare_speeds, strict=True)),
        "ratio_min": min(mine / its for mine, its in zip(speeds, bare_speeds, strict=True)),
        "ratio_max": max(mine / its for mine, its in zip(speeds, bare_speeds, strict=True)),
        "cpu_s": None if math.isnan(cpu) else cpu,
        "bare_cpu_s": None if math.isnan(bare_cpu) else bare_cpu,
        "checked_s": checked,
        "refused": reason,
        "streaming_over_idle_mib": None if idle is None or streaming is None else streaming - idle,
        "checking_over_idle_mib": None if idle is None or peak is None else peak - idle,
    }


def restart(folder: Path, setting: Setting) -> dict[str, Any]:
    """Killed with `setting.artifacts` accepted models, and back."""
    names = _names(setting.artifacts)
    study = _study([*names, "absent"], 8, 1)
    model = _model(study)
    back: list[float] = []
    cpu: list[float | None] = []
    with CoordinatorProcess(folder, study) as coordinator:
        nodes = _enrolled(coordinator, names)
        with ThreadPoolExecutor(_ENROLLING) as pool:
            receipts = list(pool.map(lambda node: node.submit(study, model), nodes))
        for _ in range(setting.kills):
            coordinator.kill()
            begun = time.monotonic()
            coordinator.start()
            with nodes[0].channel() as channel:
                nodes[0].manifest(channel)
            back.append(time.monotonic() - begun)
            cpu.append(cpu_seconds(coordinator.process.pid))
        lost = sum(
            node.receipt(upload_id) != receipt
            for node, (upload_id, receipt) in zip(nodes, receipts, strict=True)
        )
    if lost:
        raise EpgfnError(f"{lost} receipts of the benchmark are not as they were")
    return {
        "artifacts": len(receipts),
        "kills": setting.kills,
        "back_s": statistics.median(back),
        "back_s_max": max(back),
        "back_cpu_s": max((each for each in cpu if each is not None), default=None),
        "receipts_lost": lost,
    }


def _names(count: int) -> list[str]:
    return [f"node-{number:04d}" for number in range(count)]


def _study(roster: list[str], hidden: int, most_mib: int) -> Study:
    """Three variables; a policy of width `hidden`; uploads of up to `most_mib`."""
    values = {**_STUDY, "name": "transport", "roster": roster, "policy": {"hidden": hidden}}
    values["transport"] = {"max_upload_bytes": most_mib * MIB}
    return Study.from_bytes(tomli_w.dumps(values).encode("utf-8"))


def _model(study: Study) -> bytes:
    """A model file with a policy that nobody trained."""
    generator = torch.Generator().manual_seed(0)
    space = space_of(study)
    shape = (space.n_variables, space.n_sets)
    scores = torch.randn(shape, generator=generator, dtype=torch.float64)
    metadata = {"format": FORMAT, "study_digest": study.digest, "role": "local"}
    return write_model(initial_policy(study, scores, generator), metadata)


def _enrolled(coordinator: CoordinatorProcess, names: list[str]) -> list[Node]:
    nodes = coordinator.invite(names)
    with ThreadPoolExecutor(_ENROLLING) as pool:
        list(pool.map(Node.enroll, nodes))
    return nodes


def _timed(work: Callable[[], int], size: int, server: int) -> tuple[float, float]:
    """Seconds that `work` takes, which has to bring `size` bytes over; CPU-seconds of both ends, or NaN."""
    begun, computed, served = time.monotonic(), time.process_time(), cpu_seconds(server)
    if work() != size:
        raise EpgfnError("not all bytes of the benchmark have arrived")
    seconds, there = time.monotonic() - begun, cpu_seconds(server)
    if served is None or there is None:
        return seconds, math.nan
    return seconds, time.process_time() - computed + there - served
