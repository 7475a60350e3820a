#!/usr/bin/env bash
# The whole stack in containers: the API takes a job, the queue carries it, a worker refuses it, the API says why.
#
# Exits 0 with "skipped: ..." where no Docker engine runs. Variables:
#   CORESET_SMOKE_SPEC     a job (JSON) to submit as well, which must succeed; its paths begin with /pools
#   CORESET_POOLS          what is mounted as /pools; by default an empty folder
#   CORESET_SMOKE_BUILD    0 tests the images that there are, without building
#   CORESET_BUILD_OPTIONS  further options of `docker build`, e.g. "--network host --build-arg PIP_INDEX_URL=..."
#   CORESET_SMOKE_SECONDS  how long that job may take, 600 by default
#   DOCKER                 the docker client, if it is not the first on PATH; it builds with BuildKit
set -euo pipefail
cd "$(dirname "$0")/../.."

DOCKER=${DOCKER:-docker}
if ! timeout 20 "$DOCKER" info >/dev/null 2>&1; then
  echo "skipped: no Docker engine runs"
  exit 0
fi

PROJECT=coreset-smoke
WORK=$(mktemp -d)
mkdir "$WORK/pools"
export CORESET_POOLS=${CORESET_POOLS:-$WORK/pools}
# A volume of the project's own, never the caller's results.
unset CORESET_DATA CORESET_STORAGE
CORESET_PORT=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export CORESET_PORT
API=http://127.0.0.1:$CORESET_PORT
STARTED=

compose() {
  if "$DOCKER" compose version >/dev/null 2>&1; then
    "$DOCKER" compose -p "$PROJECT" "$@"
  else
    docker-compose -p "$PROJECT" "$@"
  fi
}

down() {
  local status=$?
  trap - EXIT
  if [ $status -ne 0 ] && [ -n "$STARTED" ]; then
    compose ps || true
    compose logs --tail 40 || true
  fi
  compose down -v --remove-orphans --timeout 10 >"$WORK/down.log" 2>&1 || { cat "$WORK/down.log" >&2; status=1; }
  rm -rf "$WORK"
  exit $status
}
trap down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

call() {
  curl --silent --show-error --max-time 60 --noproxy '*' "$@"
}

# field NAME...: a value inside the JSON on standard input, empty if it is not there.
field() {
  python3 -c '
import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1:]:
    value = (value or {}).get(name)
print("" if value is None else value)' "$@"
}

# submit FILE: prints the job's id.
submit() {
  local answer
  answer=$(call -H 'Content-Type: application/json' --data-binary "@$1" "$API/v1/jobs")
  printf '%s' "$answer" | field id | grep . || fail "the job was not taken: $answer"
}

# ended ID SECONDS: waits until the job has ended and prints it.
ended() {
  local deadline=$((SECONDS + $2)) job=""
  while [ $SECONDS -lt $deadline ]; do
    job=$(call "$API/v1/jobs/$1?wait=10") || sleep 1
    case $(printf '%s' "$job" | field status) in
    succeeded | failed | cancelled)
      printf '%s' "$job"
      return
      ;;
    esac
  done
  fail "job $1 has not ended in $2 s: $job"
}

if [ "${CORESET_SMOKE_BUILD:-1}" != 0 ]; then
  for target in service worker; do
    # shellcheck disable=SC2086 # options are words
    DOCKER_BUILDKIT=1 "$DOCKER" build ${CORESET_BUILD_OPTIONS:-} --target $target -t coreset-$target:latest . \
      >"$WORK/build.log" 2>&1 || { cat "$WORK/build.log" >&2; fail "the image coreset-$target cannot be built"; }
    echo "built coreset-$target"
  done
fi

found=$("$DOCKER" run --rm coreset-service:latest python -c 'import torch' 2>&1 || true)
case $found in
*"No module named 'torch'"*) echo "the service's image holds no torch" ;;
*) fail "the service's image can import torch, or does not start: $found" ;;
esac

compose down -v --remove-orphans >/dev/null 2>&1 # of a run that was killed
STARTED=yes
compose up -d --no-build >"$WORK/up.log" 2>&1 || { cat "$WORK/up.log" >&2; fail "the stack does not start"; }

deadline=$((SECONDS + 120))
until [ "$(call --fail "$API/readyz" 2>"$WORK/ready.log" | field workers 2>>"$WORK/ready.log")" = 1 ]; do
  [ $SECONDS -lt $deadline ] || fail "not ready in 120 s: $(tail -1 "$WORK/ready.log")"
  sleep 1
done
echo "ready, with a worker"

# refused CODE SHARDS: submits a job on those shards whose run is nowhere; it must fail with that problem.
refused() {
  local id job
  printf '{"pool": {"shards": ["%s"]}, "checkpoints": {"run": "/pools/none"}, "select": {"fraction": 0.3}}' "$2" >"$WORK/bad.json"
  id=$(submit "$WORK/bad.json")
  job=$(ended "$id" 180)
  [ "$(printf '%s' "$job" | field status) $(printf '%s' "$job" | field reason code)" = "failed $1" ] || fail "a job that should fail with $1: $job"
  echo "a job that cannot be done: failed, $1"
}

refused shard-unreadable "/pools/none/{000000..000001}.tar"
# Shards are looked at before checkpoints, so there is one for this job: a tar without members.
compose exec -T worker python -c 'open("/tmp/empty.tar", "wb").write(bytes(10240))' </dev/null
refused checkpoint-unusable /tmp/empty.tar

if [ -n "${CORESET_SMOKE_SPEC:-}" ]; then
  id=$(submit "$CORESET_SMOKE_SPEC")
  job=$(ended "$id" "${CORESET_SMOKE_SECONDS:-600}")
  [ "$(printf '%s' "$job" | field status)" = succeeded ] || fail "$CORESET_SMOKE_SPEC: $job"
  call --fail "$API/v1/jobs/$id/result" >/dev/null || fail "job $id has no result"
  echo "$CORESET_SMOKE_SPEC: succeeded"
fi

echo OK
