"""`epgfn bench transport`: small, all of it real, and its rows hold what docs/transport.md speaks of."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from epgfn.bench.transport import Setting, shown, transport
from epgfn.bench.transport_parties import pieces
from epgfn.rpc import PIECE


@pytest.mark.slow
def test_every_part_says_how_it_went() -> None:
    told: list[str] = []
    setting = Setting(nodes=6, hidden=256, stream_mib=8, turns=2, artifacts=5, kills=1, masked=3)
    crowd, stream, restart, masked = transport(setting, lambda row: told.append(shown(row)))
    assert [line.split()[0] for line in told] == ["crowd", "stream", "restart", "masked"]
    assert (crowd["complete"], crowd["nodes"]) == (6, 6) and crowd["model_bytes"] > 1 << 18
    assert crowd["seconds"] > 0 and (crowd["over_idle_mib"] is None or crowd["over_idle_mib"] >= 0)
    assert stream["bytes"] > 8 << 20 and stream["refused"] == "malformed"
    assert 0 < stream["ratio_min"] <= stream["ratio"] <= stream["ratio_max"]
    assert (restart["artifacts"], restart["receipts_lost"]) == (5, 0) and 0 < restart["back_s"] <= restart[
        "back_s_max"
    ]

    assert masked["nodes"] == 3 and masked["ratio"] == masked["seconds"] / masked["plain_seconds"]
    assert masked["cpu_s"] is None or masked["cpu_s"] > 0


def test_pieces_are_the_block_again_and_again_cut_to_size() -> None:
    block = bytes(range(256)) * (3 * PIECE // 256 + 1)  # not a multiple of a piece
    for size in (1, PIECE, len(block), len(block) + 7, 3 * len(block) + PIECE + 1):
        found = list(pieces(block, size))
        assert b"".join(found) == (block * 4)[:size]
        assert all(0 < len(piece) <= PIECE for piece in found)


def test_what_is_left_out_is_not_measured_and_json_is_one_object() -> None:
    command = [
        sys.executable,
        "-m",
        "epgfn",
        "bench",
        "transport",
        "--nodes",
        "0",
        "--stream",
        "0",
        "--artifacts",
        "0",
        "--masked",
        "0",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"rows": []}
