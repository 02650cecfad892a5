#!/usr/bin/env bash
# What a user installs: the wheel, in an environment of its own and away from the checkout, runs a brief demo and audits it.
# PYTHON: the interpreter to use; PIP_FLAGS: further options for pip. `make wheel-test` sets both.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v "${PYTHON:-python3}")
read -ra flags <<<"${PIP_FLAGS:-}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH PYTHONHOME

"$python" -m pip wheel -q --disable-pip-version-check --no-deps --wheel-dir "$work/dist" .
"$python" -m venv "$work/fresh"
# Not compiled: most modules of most packages are never loaded here.
"$work/fresh/bin/python" -m pip install -q --no-compile --disable-pip-version-check "${flags[@]}" "$work"/dist/epgfn-*.whl

cd "$work" # nothing of the checkout may be found by chance
export PATH="$work/fresh/bin:$PATH"
python -c 'import epgfn, sys; sys.exit(not epgfn.__file__.startswith(sys.prefix))'
for command in epgfn epgfn-node epgfn-coordinator; do
    "$command" --help >/dev/null
done
epgfn demo --quick --nodes 2 --out "$work/run" --json >"$work/figures.json"
epgfn audit "$work/run"
python - "$work" <<'CHECK'
import json, pathlib, sys
from importlib import resources
work = pathlib.Path(sys.argv[1])
figures = json.loads((work / "figures.json").read_text())
report = (work / "run" / "global" / "report.html").read_text(encoding="utf-8")
assert figures["audit_ok"] and figures["nodes"] == 2 and len(figures["edges"]) == 12, figures
assert any("20 steps" in note for note in figures["notes"]), "a brief demo must say that it was brief"
style = resources.files("epgfn").joinpath("run", "report", "style.css").read_text("utf-8")
assert style.strip() and style.strip() in report, "the report has lost its style sheet"
print("the wheel works: installed on its own, a brief demo ran and its audit passed")
CHECK
