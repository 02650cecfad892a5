"""Coverage-guided fuzzing of one parser with atheris: python tests/attacks/fuzz.py NAME SECONDS FOLDER. `make fuzz` runs it for each.

Begins with a true run's examples and the kept corpus. FOLDER takes what leads somewhere new and, as crash-*, what got past the parser.
Fails if anything did, if the process grew beyond 2 GiB, or if one input took longer than 20 seconds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[
        "epgfn.base",
        "epgfn.sealing",
        "epgfn.ledger",
        "epgfn.study",
        "epgfn.run",
        "epgfn.privacy",
        "epgfn_node",
        "tomllib",
        "json",
    ]
):
    import parsers

from run_directory import make_run


def main(name: str, seconds: str, folder: str) -> None:
    run = make_run(Path(tempfile.mkdtemp(prefix="epgfn-fuzz-")) / "run")
    parser = parsers.parsers(run)[name]
    found = Path(folder) / name
    found.mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate([*parser.examples, *parsers.corpus(name)]):
        (found / f"seed-{number}").write_bytes(raw)

    def one(raw: bytes) -> None:
        try:
            parser.holds(raw)
        except RecursionError as error:  # libFuzzer would show a stack of a thousand lines
            raise AssertionError("RecursionError") from error

    limits = [
        "-rss_limit_mb=2048",
        "-timeout=20",
        f"-max_total_time={seconds}",
        "-max_len=65536",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={found}/", str(found)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
