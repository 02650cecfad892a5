#!/usr/bin/env bash
# Regenerates the committed stubs in epgfn/v1 from the contract; run through `make stubs`. Uses the oldest grpcio-tools we support, because
# generated code runs with newer runtimes but not with older ones. With --check it compares instead, and fails if they differ.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
target=.
if [ "${1:-}" = --check ]; then target=$(mktemp -d); trap 'rm -rf "$target"' EXIT; fi
"$python" -m grpc_tools.protoc -I proto --python_out="$target" --pyi_out="$target" --grpc_python_out="$target" proto/epgfn/v1/*.proto
if [ "$target" != . ]; then
  for file in "$target"/epgfn/v1/*.py*; do
    cmp -s "$file" "epgfn/v1/$(basename "$file")" || { echo "epgfn/v1/$(basename "$file") is not what proto/ generates; run: make stubs" >&2; exit 1; }
  done
fi
