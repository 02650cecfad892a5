#!/usr/bin/env bash
# docker-compose.yml and examples/deploy/compose/, run in containers: `make compose-test`.
#   The demo (trained briefly, unless EPGFN_DEMO_QUICK is set to nothing), of which a node and the coordinator are killed and all are stopped on the way: it still ends by itself, and its run passes the
#   audit on this machine. Then one institution's node (profile `site`) against a coordinator elsewhere (coordinator.yml), step by step.
# With `demo` or `site` as an argument that part alone. DOCKER, COMPOSE, IMAGE_BUILD: the commands to use; HADOLINT: of hadolint, left out where there is none; PIP_FLAGS: for the images;
# EPGFN: the command that audits.
set -euo pipefail
cd "$(dirname "$0")/.."
repo=$PWD
docker=${DOCKER:-docker}
read -ra compose <<<"${COMPOSE:-$("$docker" compose version >/dev/null 2>&1 && echo "$docker compose" || echo docker-compose)}"
read -ra image_build <<<"${IMAGE_BUILD:-$docker build}"
read -ra epgfn <<<"${EPGFN:-.venv/bin/epgfn}"
work=$(mktemp -d)
chmod 755 "$work"

demo=("${compose[@]}" -f "$repo/docker-compose.yml" --project-directory "$work" -p epgfn-compose-test --profile demo)
site=("${compose[@]}" -f "$repo/docker-compose.yml" -f "$work/site.yml" --project-directory "$work" -p epgfn-compose-site --profile site)
central=("${compose[@]}" -f "$repo/examples/deploy/compose/coordinator.yml" --project-directory "$work" -p epgfn-compose-central)

cat >"$work/site.yml" <<'YML'
# The coordinator of this test has its host name in the network of its own project.
services:
  site:
    networks: [central]
    environment:
      no_grpc_proxy: coordinator
networks:
  central:
    external: true
    name: epgfn-compose-central_default
YML

down() {
    "${site[@]}" down --volumes --timeout 5
    "${demo[@]}" down --volumes --timeout 5
    "${central[@]}" down --volumes --timeout 5
} >/dev/null 2>&1

finish() {
    code=$?
    if [ $code != 0 ]; then
        "${demo[@]}" logs --tail 15 || true
        "${site[@]}" logs --tail 15 || true
    fi
    down || true
    as_theirs find /work -mindepth 1 -delete || true # what belongs to the containers' user
    rm -rf "$work"
    exit $code
}
trap finish EXIT

as_theirs() { "$docker" run --rm -i --user 0 --network none --entrypoint "$1" -v "$work:/work" epgfn-node "${@:2}"; } # as root, as an operator has sudo
say() { echo "compose-test: $*"; }
fail() { say "$*" >&2; exit 1; }
container() { "${demo[@]}" ps -a -q "$1" 2>/dev/null || "${demo[@]}" ps -q "$1"; } # 1.29 shows stopped ones without being asked
inspected() { "$docker" inspect --format "$2" "$(container "$1")"; }
wait_until() { # SECONDS WHAT COMMAND...
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        ((SECONDS < until)) || fail "$what: not within the time"
        sleep 1
    done
}
is_healthy() { [ "$(inspected coordinator '{{.State.Health.Status}}')" = healthy ]; }
has_said() { grep -q "$2" <<<"$("$docker" logs "$(container "$1")" 2>&1)"; } # not in a pipe, of which grep would close the end too early
has_ended() { [ "$(inspected "$1" '{{.State.Status}}')" = exited ]; }
all_have_ended() { for each in "${parties[@]}"; do has_ended "$each" || return 1; done; }
parties=(coordinator clinic-a clinic-b clinic-c)

if command -v "${HADOLINT:-hadolint}" >/dev/null; then
    "${HADOLINT:-hadolint}" node/Dockerfile coordinator/Dockerfile
else
    say "no hadolint here: the Dockerfiles are not checked with it"
fi
for party in node coordinator; do
    say "builds the image of the $party"
    "${image_build[@]}" --build-arg PIP_FLAGS="${PIP_FLAGS:-}" -f $party/Dockerfile -t epgfn-$party . >"$work/build.log" 2>&1 ||
        { tail -20 "$work/build.log"; fail "the image of the $party cannot be built"; }
    say "epgfn-$party has $("$docker" image inspect --format '{{.Size}}' epgfn-$party) bytes"
done

down || true
export EPGFN_DEMO_QUICK=${EPGFN_DEMO_QUICK-1}
try_demo() {
    say "the demo begins"
    "${demo[@]}" up -d >/dev/null 2>&1
    wait_until 120 "the coordinator is healthy" is_healthy
    for party in "${parties[@]}"; do
        found=$(inspected "$party" '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}} {{.HostConfig.SecurityOpt}} {{.HostConfig.Memory}}')
        [ "$found" = "10001 true [ALL] [] [no-new-privileges:true] 4294967296" ] || fail "$party runs as: $found"
    done

    wait_until 300 "clinic-b trains" has_said clinic-b training
    say "kills clinic-b and the coordinator"
    "$docker" kill --signal KILL "$(container clinic-b)" >/dev/null
    "$docker" kill --signal KILL "$(container coordinator)" >/dev/null
    wait_until 30 "they are dead" has_ended clinic-b
    "${demo[@]}" up -d >/dev/null 2>&1
    wait_until 120 "the coordinator is healthy again" is_healthy

    say "stops them all"
    "${demo[@]}" stop >/dev/null 2>&1
    for party in "${parties[@]}"; do
        code=$(inspected "$party" '{{.State.ExitCode}}')
        case $party:$code in
        *:130 | *:143) ;;
        clinic-*:0) has_said "$party" "the global model is in" || fail "$party was stopped and looks done" ;;
        *) fail "$party was stopped and ended with $code" ;;
        esac
    done
    [ ! -e "$work/deploy/out/run" ] || fail "there is a result, although all were stopped"

    say "and goes on, to the end"
    "${demo[@]}" up -d >/dev/null 2>&1
    wait_until 600 "the demo ends by itself" all_have_ended
    for party in "${parties[@]}"; do
        code=$(inspected "$party" '{{.State.ExitCode}}')
        [ "$code" = 0 ] || fail "$party ended with $code"
    done
    [ -s "$work/deploy/out/run/global/report.html" ] || fail "there is no report"
    "${epgfn[@]}" audit "$work/deploy/out/run"
    "${demo[@]}" up -d >/dev/null 2>&1 || true # Compose calls it a failure that nobody is there to depend on
    has_said coordinator "this demo is over" || fail "a demo that was over does not say so"
    [ ! -e "$work/deploy/out/run-2" ] || fail "a demo that was over ran once more"
    "${demo[@]}" down --volumes >/dev/null 2>&1
}

try_site() {
    say "a coordinator for one node, and that node"
    mkdir -p "$work/deploy"
    as_theirs install -d -o 10001 -m 0700 /work/coordinator /work/exchange /work/deploy/site
    "$docker" run --rm --network none --entrypoint python epgfn-node -c '
from epgfn.demo.demo import demo_study
print(demo_study(1, 1, quick=True).raw.decode(), end="")' >"$work/study.toml"
    "$docker" run --rm --network none --entrypoint python epgfn-node -c '
from epgfn.demo.demo import demo_records
print(demo_records(1, 1)["clinic-a"].decode(), end="")' >"$work/records.csv"
    echo "a passphrase of this test" >"$work/passphrase"
    as_theirs install -o 10001 -m 0400 /work/study.toml /work/passphrase /work/coordinator
    as_theirs install -o 10001 -m 0400 /work/records.csv /work/passphrase /work/deploy/site
    in_central() { "${central[@]}" run --rm coordinator epgfn-coordinator "$@"; }
    in_site() { "${site[@]}" run --rm site "$@"; }
    waits() { local code=0; "$@" || code=$?; [ $code = 3 ] || fail "ended with $code and not 3: somebody is waited for: $*"; }
    digest=$(sha256sum "$work/study.toml" | cut -d' ' -f1)

    in_central init --study /etc/epgfn/study.toml --address coordinator:8443 --enroll-address coordinator:8444 --tls-name coordinator
    in_central token clinic-a --out /exchange/clinic-a.invitation.json
    "${central[@]}" up -d >/dev/null 2>&1
    as_theirs install -o 10001 -m 0400 /work/exchange/clinic-a.invitation.json /work/deploy/site/invitation.json
    wait_until 120 "the coordinator serves" "${central[@]}" exec -T coordinator epgfn-coordinator health
    waits in_site # the service's own command: it enrols, and asks for the study to be accepted
    in_site train --accept-study "$digest"
    waits in_site
    shown=$(in_site inspect) # in whole: a pipe that is closed early is an error of the client's
    grep -q "What leaves" <<<"$shown" && grep -q "$digest" <<<"$shown" || fail "inspect shows nothing"
    in_site approve --as "Ada Lovelace, data manager"
    "${site[@]}" up -d >/dev/null 2>&1
    has_result() { grep -q "the global model is in" <<<"$("$docker" logs "$("${site[@]}" ps -q site)" 2>&1)"; }
    wait_until 240 "the node has the result" has_result
    in_central export --out /exchange/run
    as_theirs cp -r /work/exchange/run /work/run
    as_theirs chmod -R a+rX /work/run
    "${epgfn[@]}" audit "$work/run"
}

(($#)) || set -- demo site
for part; do "try_$part"; done
say "all of it works"
