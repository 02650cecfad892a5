"""Nothing that is ours opens a channel or a port without TLS: neither a program, nor a test."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
WORDS = ("insecure" + "_channel", "add_insecure" + "_port", "insecure" + "_server_credentials")


def test_no_channel_or_port_is_without_tls() -> None:
    files = [
        file
        for folder in ("epgfn", "node", "coordinator", "tests", "examples")
        for file in (ROOT / folder).rglob("*.py")
    ]
    assert len(files) > 100
    found = [str(file) for file in files if any(word in file.read_text() for word in WORDS)]
    assert not found
