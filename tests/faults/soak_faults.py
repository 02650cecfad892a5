"""Every step at which node or coordinator change something on disk, killed SOAK_KILLS (20) times, and SOAK_ACCIDENTS (1,000) accidents of
the network: no receipt lost, nothing counted twice, the same models and the same global model of them."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from bad_line import KINDS, STALL, BadLine, Manners, at_random, transfer
from coordinator_client import FakeNode, OwnProcess, make_home, tiny_study
from epgfn.study import Study
from faulty_letters import FaultyLetters
from faulty_node import kill_a_node, steps_of_a_node
from faulty_round import FaultyRound, Sweep, steps_of_a_round
from namespaces import why_not
from parted import COORDINATOR, STUDY, PartedRound
from promises import History
from round_machine import RoundMachine
from small import PRIVATE_STUDY
from soaking import SEED
from upload_machine import UploadMachine

KILLS = int(os.environ.get("SOAK_KILLS", "20"))
ACCIDENTS = int(os.environ.get("SOAK_ACCIDENTS", "1000"))
EXAMPLES = 50 * KILLS
REFUSABLE = ("write ", "commit ", "append ")


def soak_a_coordinator_killed_at_every_step(tmp_path: Path) -> None:
    study = tiny_study(leave_one_out="true")
    steps = steps_of_a_round(tmp_path / "steps", study)
    results: set[bytes] = set()
    for number, chance in _each_time(f"coordinator: {len(steps)} steps"):
        sweep = Sweep(tmp_path / str(number), study)
        sweep.over(steps, chance)
        results |= sweep.results
        assert set(sweep.kills) == set(steps) and len(results) == 1
        shutil.rmtree(tmp_path / str(number))


def soak_a_coordinator_without_room_at_every_step(tmp_path: Path) -> None:
    study = tiny_study()
    steps = [step for step in steps_of_a_round(tmp_path / "steps", study) if step.startswith(REFUSABLE)]
    begun = steps.index("commit initialise._open_round")
    for mode in ("full", "readonly"):
        for number, step in enumerate(steps):
            current = FaultyRound(tmp_path / mode / str(number), study)
            made = current.init(f"{mode}:1:{step}")
            assert made.code in (0, 1) and (number > begun or made.code == 1)
            assert current.init().code == 0
            assert current.serve(f"{mode}:1:{step}").code in (0, 1)
            while not current.is_over:
                assert current.serve().code == 0
            current.require()
        print(f"  {mode}: {len(steps)} steps", flush=True)


@pytest.mark.parametrize("machine", [RoundMachine, UploadMachine])
def soak_anything_in_any_order(machine: type[RuleBasedStateMachine]) -> None:
    """Other choices each time; what hypothesis prints of a failure plays it again."""
    print(f"\n{machine.__name__}: {EXAMPLES} sequences", flush=True)
    many = settings(
        max_examples=EXAMPLES,
        stateful_step_count=50,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=many)


def soak_partitions(tmp_path: Path) -> None:
    """Short ones, which TCP sits out, and some longer than gRPC's keepalive, after which the node connects anew."""
    if reason := why_not():
        pytest.skip(reason)
    for number, chance in _each_time("partitions"):
        with PartedRound(tmp_path / str(number)) as current:
            for share in sorted(chance.uniform(0, 0.9) for _ in range(chance.randint(1, 3))):
                current.sent(chance.choice(STUDY.roster), share)
                current.part(
                    chance.choice([COORDINATOR, *STUDY.roster]), chance.choice([0.2, 2.0, 5.0, 45.0])
                )
            current.require()
        shutil.rmtree(tmp_path / str(number))


def soak_a_node_killed_at_every_step(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    _kill_nodes(small_study, small_files["north"], tmp_path, "")


def soak_a_node_killed_at_every_step_of_a_release(small_files: dict[str, Path], tmp_path: Path) -> None:
    _kill_nodes(Study.from_bytes(PRIVATE_STUDY.encode()), small_files["north"], tmp_path, "privacy")


def soak_a_coordinator_killed_at_every_step_of_a_letter(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    letters = FaultyLetters(tmp_path / "letters", small_study, small_files["north"])
    steps = letters.steps()
    for _ in _each_time(f"letter: {len(steps)} steps"):
        letters.kill_at(steps)


def _kill_nodes(study: Study, data: Path, folder: Path, about: str) -> None:
    steps = steps_of_a_node(folder / "steps", study, data)
    steps = {step: often for step, often in steps.items() if about in step}
    for number, chance in _each_time(f"node: {len(steps)} steps"):
        assert kill_a_node(folder / str(number), study, data, steps, chance) == list(steps)
        shutil.rmtree(folder / str(number))


def _each_time(what: str) -> Iterator[tuple[int, random.Random]]:
    print(f"\n{what}, {KILLS} kills each, SOAK_SEED={SEED}", flush=True)
    begun = time.monotonic()
    for number in range(KILLS):
        yield number, random.Random(f"{SEED} {what} {number}")
        print(f"  {number + 1} each, {time.monotonic() - begun:.0f} s", flush=True)


def soak_a_thousand_accidents_of_the_network(tmp_path: Path) -> None:
    """Each upload over a line of its own kind, with accidents at random bytes; some stall, which only gRPC's keepalive ends."""
    study = tiny_study(hidden=700, limit=16 << 20)
    happened = number = 0
    print(f"\n{ACCIDENTS} accidents, SOAK_SEED={SEED}", flush=True)
    while happened < ACCIDENTS:
        chance = random.Random(f"{SEED} accidents {number}")
        home, history = make_home(tmp_path / str(number), study), History()
        with OwnProcess(home) as server:
            for index, name in enumerate(study.roster):
                node = FakeNode.enrolled(home, name)
                history.enrolled(name, node.certificate)
                upload = node.make_upload(study, seed=index)
                manners = Manners(chance.choice([0, 0.001]), 0, chance.choice([0, 0, 5000]))
                kinds = (*KINDS, STALL) if chance.random() < 0.05 else KINDS
                with BadLine(node.invitation["address"], manners) as line:
                    line.plan(*at_random(chance, 2 * len(upload.sealed), 30, kinds))
                    transfer(node, upload, line, tmp_path / f"node-{number}-{name}", 300.0)
                    happened += sum(line.happened.values())
                answer = node.send(upload)
                history.accepted(name, upload.sealed, bytes(answer.receipt), bytes(answer.entry))
                history.saw(bytes(node.checkpoint().checkpoint))
            server.wait_for("published")
        history.require(home, tmp_path / f"run-{number}", study.roster)
        number += 1
        print(f"  {number} rounds, {happened} accidents", flush=True)
