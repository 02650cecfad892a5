#!/usr/bin/env bash
# What a release rests on beside the code. make lock, make release-check and make images run it.
#   lock      newer versions of every package into requirements.lock, for all platforms, with hashes
#   check     the lock fits pyproject.toml, each package in it has a hash, two builds give the same wheel, and an SBOM is made of the lock
#   images    both container images, from the base in images.lock
set -euo pipefail
cd "$(dirname "$0")/.."
uv=.venv-release/bin/uv

compile() { # into FILE, whose versions stay where they fit
    "$uv" pip compile -q --universal --python-version 3.11 --generate-hashes --extra build --custom-compile-command 'make lock' \
        "${@:2}" pyproject.toml -o "$1"
}

lock() {
    compile requirements.lock --upgrade
    echo "requirements.lock: $(grep -c '^[a-z].*==' requirements.lock) packages; look at what has changed, then commit it"
}

hashes() { awk '/^[a-z0-9._-]+==/ { name = $1 } match($0, /sha256:[0-9a-f]+/) { print name, substr($0, RSTART, RLENGTH) }' "$1" | sort -u; }

names() { grep -o '^[a-z0-9._-]*==[^ ]*\( ; [^\\]*\)\?' "$1"; }

check() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # Not over a copy of the lock: hashes would be taken from there, whatever the registry has.
    names requirements.lock >"$work/versions"
    compile "$work/again.lock" --constraint "$work/versions"
    diff <(names requirements.lock) <(names "$work/again.lock") ||
        { echo "requirements.lock does not fit pyproject.toml, or a version in it was withdrawn: run make lock" >&2; exit 1; }
    # The registry may have more files of a version than it had, such as for a newer Python; it may have no others.
    if unknown=$(comm -23 <(hashes requirements.lock) <(hashes "$work/again.lock") | grep .); then
        echo "requirements.lock has hashes that the registry does not know: $unknown" >&2
        exit 1
    fi
    awk '/^[a-z0-9._-]+==/ { if (name && !hashes) { print name; bad = 1 }; name = $1; hashes = 0 }
         /--hash=sha256:[0-9a-f]+/ { hashes++ } END { if (!hashes) bad = 1; exit bad }' requirements.lock ||
        { echo "requirements.lock has a package without a hash: run make lock" >&2; exit 1; }
    for which in one two; do
        # Another folder, other dates and modes of files, another time zone: none of these may show in the wheel.
        mkdir "$work/$which"
        git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$work/$which"
        test $which = one || { find "$work/$which" -type f -exec touch -d 2001-01-01 {} +; find "$work/$which" -type f -exec chmod go-rwx {} +; }
        (cd "$work/$which" && umask "$(test $which = one && echo 022 || echo 077)" && TZ=$(test $which = one && echo UTC || echo Asia/Kathmandu) \
            "$OLDPWD/${PYTHON:-.venv/bin/python}" -m pip wheel -q --disable-pip-version-check --no-deps --wheel-dir "$work/$which-dist" .)
    done
    wheel=$(basename "$work"/one-dist/epgfn-*.whl)
    cmp "$work/one-dist/$wheel" "$work/two-dist/$wheel" || { echo "two builds of $wheel differ" >&2; exit 1; }
    mkdir -p dist
    .venv-release/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --validate -o dist/epgfn.cdx.json
    echo "the lock fits; two builds give the same $wheel, SHA-256 $(sha256sum "$work/one-dist/$wheel" | cut -d' ' -f1); dist/epgfn.cdx.json names $(
        grep -c '"bom-ref": ' dist/epgfn.cdx.json) components"
}

images() {
    base=$(grep -v '^#' images.lock | grep . || true)
    [[ $base =~ ^[a-z0-9./:-]+@sha256:[0-9a-f]{64}$ ]] ||
        { echo "images.lock does not pin the base image by its digest; it says how to find it" >&2; exit 1; }
    for party in node coordinator; do
        docker build --build-arg BASE="$base" -f $party/Dockerfile -t epgfn-$party .
    done
}

case ${1:-} in lock | check | images) "$1" ;; *) echo "use: tests/release.sh lock | check | images" >&2; exit 2 ;; esac
