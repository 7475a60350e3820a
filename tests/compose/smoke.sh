#!/usr/bin/env bash
# The whole stack in containers: it lets nobody in without a key; a job that cannot be done says why; a job whose worker is
# killed, and one whose stack is stopped in the middle and started again, end with every sample accounted for; /metrics
# tells of it, and Prometheus has data for the board.
#
# Exits 0 with "skipped: ..." where no Docker engine runs. Variables:
#   CORESET_SMOKE_PYTHON   a Python with the demo's packages, to make pool and checkpoints; .venv/bin/python by default
#   CORESET_SMOKE_SPEC     a job (JSON) to submit instead; its paths begin with /pools
#   CORESET_POOLS          what is mounted as /pools then
#   CORESET_SMOKE_MONITORING  1 starts Prometheus too and asks it what board and alerts ask; the default where its image is there
#   CORESET_SMOKE_BUILD    0 tests the images that there are, without building
#   CORESET_BUILD_OPTIONS  further options of `docker build`, e.g. "--network host --build-arg PIP_INDEX_URL=..."
#   CORESET_SMOKE_SECONDS  how long a job, or the start of the stack, may take; 600 by default
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
PYTHON=${CORESET_SMOKE_PYTHON:-.venv/bin/python}
SPEC=${CORESET_SMOKE_SPEC:-}
if [ -z "$SPEC" ]; then
  mkdir "$WORK/pools"
  PYTHONPATH=. "$PYTHON" tests/compose/pool.py "$WORK/pools" >"$WORK/pool.log" 2>&1 || { cat "$WORK/pool.log" >&2; exit 1; }
  chmod 755 "$WORK"
  CORESET_POOLS=$WORK/pools
  SPEC=$WORK/pools/job.json
fi
export CORESET_POOLS
PROMETHEUS_IMAGE=${PROMETHEUS_IMAGE:-prom/prometheus:v3.5.0}
MONITORING=${CORESET_SMOKE_MONITORING:-$("$DOCKER" image inspect "$PROMETHEUS_IMAGE" >/dev/null 2>&1 && echo 1 || echo 0)}
# A volume of the project's own, never the caller's results.
unset CORESET_DATA CORESET_STORAGE
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
CORESET_PORT=$(free_port)
CORESET_PROMETHEUS_PORT=$(free_port)
# A killed worker's task is taken up soon, so that the test is short.
CORESET_LEASE_SECONDS=5
CORESET_LOADER_PROCESSES=0
export CORESET_PORT CORESET_PROMETHEUS_PORT CORESET_LEASE_SECONDS CORESET_LOADER_PROCESSES PROMETHEUS_IMAGE
API=http://127.0.0.1:$CORESET_PORT
SECONDS_A_JOB=${CORESET_SMOKE_SECONDS:-600}
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
trap 'echo "FAILED in line $LINENO" >&2' ERR
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# anybody ARGUMENT...: curl without a key; call: with that of a caller who may do all.
anybody() {
  curl --silent --show-error --max-time 60 --noproxy '*' "$@"
}

call() {
  anybody -H "Authorization: Bearer $KEY" "$@"
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

# submit FILE [SEED]: prints the job's id. Another seed is another plan, so that nothing is taken from an earlier job.
submit() {
  local answer
  answer=$(python3 -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1])) | {"seed": int(sys.argv[2])}))' "$1" "${2:-0}" |
    call -H 'Content-Type: application/json' --data-binary @- "$API/v1/jobs")
  printf '%s' "$answer" | field id | grep . || fail "the job was not taken: $answer"
}

# scoring ID: waits until some shards are done and some are not.
scoring() {
  local deadline=$((SECONDS + SECONDS_A_JOB)) job=""
  while [ $SECONDS -lt $deadline ]; do
    job=$(call "$API/v1/jobs/$1")
    case $(printf '%s' "$job" | field status) in
    scoring) [ "$(printf '%s' "$job" | field progress shards done)" -lt 2 ] || return 0 ;;
    queued | preparing) ;;
    *) fail "job $1 was to be disturbed while scoring: $job" ;;
    esac
    sleep 0.3 # a key may ask 600 times a minute
  done
  fail "job $1 does not get to scoring: $job"
}

# whole ID: the job must succeed, with every shard done and every sample in the result.
whole() {
  local job counts
  job=$(ended "$1" "$SECONDS_A_JOB")
  [ "$(printf '%s' "$job" | field status)" = succeeded ] || fail "job $1: $job"
  printf '%s' "$job" >"$WORK/job.json"
  call --fail "$API/v1/jobs/$1/result" >"$WORK/result.json" || fail "job $1 has no result"
  counts=$(python3 - "$WORK/job.json" "$WORK/result.json" <<'PY'
import json, sys
job, result = (json.load(open(path)) for path in sys.argv[1:])
shards = job["progress"]["shards"]
rows = sum(part["rows"] for part in result["parts"])
assert shards["done"] == shards["total"] == len(result["parts"]) and not job["failed_shards"], shards
assert rows == result["read"] == result["scored"] + sum(result["bad"].values()), (rows, result["read"], result["bad"])
print(f"{shards['done']} shards, {rows} samples")
PY
  ) || fail "job $1 is not whole"
  echo "$counts"
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

# The service's image listens on all addresses, so without keys it must not start.
unguarded=$("$DOCKER" run --rm coreset-service:latest 2>&1) && fail "a service without keys has started: $unguarded"
case $unguarded in
*"without API keys the service listens on the loopback only"*) echo "without keys the service does not start" ;;
*) fail "a service without keys does not say why it ends: $unguarded" ;;
esac

# new_key NAME SCOPES: prints a key and the service's line of it.
new_key() {
  "$DOCKER" run --rm coreset-service:latest coreset key new --name "$1" --scopes "$2" 2>"$WORK/key.log" || { cat "$WORK/key.log" >&2; return 1; }
}
# One key in the environment, the other in a file.
{ read -r KEY; read -r CORESET_API_KEYS; } < <(new_key smoke read,submit)
CORESET_API_KEYS_FILE=$WORK/keys
{ read -r READER; cat >"$CORESET_API_KEYS_FILE"; } < <(new_key prometheus read)
CORESET_METRICS_KEY_FILE=$WORK/metrics.key
printf '%s\n' "$READER" >"$CORESET_METRICS_KEY_FILE"
chmod 644 "$CORESET_API_KEYS_FILE" "$CORESET_METRICS_KEY_FILE" # the containers' users are others
export CORESET_API_KEYS CORESET_API_KEYS_FILE CORESET_METRICS_KEY_FILE

compose down -v --remove-orphans >/dev/null 2>&1 # of a run that was killed
STARTED=yes
compose up -d --no-build --scale worker=2 >"$WORK/up.log" 2>&1 || { cat "$WORK/up.log" >&2; fail "the stack does not start"; }

# ready WORKERS
ready() {
  local deadline=$((SECONDS + SECONDS_A_JOB))
  until [ "$(call --fail "$API/readyz" 2>"$WORK/ready.log" | field workers 2>>"$WORK/ready.log")" = "$1" ]; do
    [ $SECONDS -lt $deadline ] || fail "not ready in $SECONDS_A_JOB s: $(tail -1 "$WORK/ready.log")"
    sleep 1
  done
}
ready 2
echo "ready, with two workers"

# status CURL-ARGUMENT...: the HTTP status of the answer.
status() {
  anybody -o "$WORK/answer" -w '%{http_code}' "$@"
}
[ "$(status "$API/v1/jobs") $(status "$API/metrics") $(status --data-binary "@$SPEC" "$API/v1/jobs")" = "401 401 401" ] ||
  fail "the service answers without a key: $(cat "$WORK/answer")"
[ "$(status -H "Authorization: Bearer $READER" -H "Content-Type: application/json" --data-binary "@$SPEC" "$API/v1/jobs")" = 403 ] ||
  fail "a key that may only read was not refused a job: $(cat "$WORK/answer")"
case $("$DOCKER" port "$(compose ps -q service)" 8000) in
"127.0.0.1:$CORESET_PORT") ;;
*) fail "the service is published beyond the loopback" ;;
esac
echo "no job without a key, none with one that may only read; published on the loopback alone"

# refused CODE SHARDS: submits a job on those shards whose run is nowhere; it must fail with that problem.
refused() {
  local id job
  printf '{"pool": {"shards": ["%s"]}, "checkpoints": {"run": "/pools/none"}, "select": {"fraction": 0.3}}' "$2" >"$WORK/bad.json"
  id=$(submit "$WORK/bad.json")
  job=$(ended "$id" "$SECONDS_A_JOB")
  [ "$(printf '%s' "$job" | field status) $(printf '%s' "$job" | field reason code)" = "failed $1" ] || fail "a job that should fail with $1: $job"
  echo "a job that cannot be done: failed, $1"
}

refused shard-unreadable "/pools/none/{000000..000001}.tar"

# leases_expired: the number of attempts whose worker died, by /metrics.
leases_expired() {
  call --fail "$API/metrics" | awk '$1 == "coreset_leases_expired_total" { print $2 + 0 }'
}

# A worker between two tasks has no lease to lose, so several may have to be killed.
for round in 1 2 3 4 5; do
  id=$(submit "$SPEC" "1$round")
  scoring "$id"
  killed=$(compose ps -q worker)
  killed=${killed%%$'\n'*}
  "$DOCKER" kill "$killed" >/dev/null
  echo "a worker was killed in the middle of a job; $(whole "$id")"
  "$DOCKER" start "$killed" >/dev/null
  ready 2
  [ "$(leases_expired)" = 0 ] || break
done

id=$(submit "$SPEC" 2)
scoring "$id"
workers=$(compose ps -q worker)
compose stop >"$WORK/stop.log" 2>&1 || { cat "$WORK/stop.log" >&2; fail "the stack does not stop"; }
for worker in $workers; do
  code=$("$DOCKER" inspect --format '{{.State.ExitCode}}' "$worker")
  [ "$code" = 0 ] || fail "a worker exited with $code when it was stopped"
done
compose start >"$WORK/start.log" 2>&1 || { cat "$WORK/start.log" >&2; fail "the stack does not start again"; }
ready 2
echo "both workers exited 0 when the stack was stopped in the middle of a job; started again: $(whole "$id")"

# metric LINE: whether /metrics has a line that begins so and whose value is not 0.
metric() {
  call --fail "$API/metrics" >"$WORK/metrics"
  awk -v line="$1" 'index($0, line " ") == 1 && $NF + 0 > 0 { found = 1 } END { exit !found }' "$WORK/metrics" ||
    fail "/metrics lacks $1 or has 0 for it: $(grep "^coreset" "$WORK/metrics")"
}
metric 'coreset_leases_expired_total'
metric 'coreset_shards_total{outcome="scored"}'
metric 'coreset_jobs_ended_total{status="succeeded"}'
echo "/metrics counts the lost lease, the shards and the jobs"

if [ "$MONITORING" = 1 ]; then
  compose --profile monitoring up -d --no-build --no-deps prometheus >"$WORK/up.log" 2>&1 || { cat "$WORK/up.log" >&2; fail "Prometheus does not start"; }
  python3 tests/compose/monitoring.py "http://127.0.0.1:$CORESET_PROMETHEUS_PORT" || fail "Prometheus lacks what board and alerts ask for"
fi

compose logs >"$WORK/logs" 2>&1
if grep -qF -e "$KEY" -e "$READER" "$WORK/logs"; then fail "a key is in the logs"; fi
echo "no log holds a key"

echo OK
