"""Crowds at the ports, as many as somebody who means it sends: an honest node enrols and submits meanwhile."""

from __future__ import annotations

from pathlib import Path

from coordinator_client import FakeNode, OwnProcess, ledger_kinds, make_home, tiny_study
from crowds import a_round_in_a_crowd, calling_without_pause, guess_tokens, persistently
from soaking import rounds


def soak_idle_connections_bad_tokens_and_a_refused_node(tmp_path: Path) -> None:
    for number, chance in rounds("crowds"):
        folder = tmp_path / str(number)
        stop_at = chance.choice(["connected", "hello", "trickle"])
        most, seen, took = a_round_in_a_crowd(folder / "idle", size=3_000, limit=1024, stop_at=stop_at)
        assert seen >= 6_000 and most < 1024 - 100
        print(
            f"  {seen} idle connections ({stop_at}): {took:.1f} s to enrol and submit twice, {most} descriptors",
            flush=True,
        )
        study = tiny_study(quorum=1)
        home = make_home(folder / "home", study)
        with OwnProcess(home):
            bad, took = guess_tokens(home, 10_000)
            print(f"  10,000 bad tokens: {took:.1f} s to enrol", flush=True)
            with calling_without_pause(bad) as told:
                good = FakeNode.invited(home, "b")
                persistently(good.enroll)
                for _ in range(50):
                    persistently(good.study)
                upload = good.make_upload(study)
                persistently(lambda good=good, upload=upload: good.send(upload))  # type: ignore[misc]
            assert set(told) <= {"too-many-refusals", "too-many-calls"}
            print(f"  {len(told)} calls of a refused node", flush=True)
        assert ledger_kinds(home).count("accepted") == 1
