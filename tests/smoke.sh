#!/usr/bin/env bash
# Attacks the containers that `docker compose up` started; needs a Docker engine, bash and curl.
set -euo pipefail
cd "$(dirname "$0")/.."

url=http://127.0.0.1:${MLAAS_PORT:-8000}
compose=(docker-compose)
if docker compose version >/dev/null 2>&1; then compose=(docker compose); fi

say() { printf -- '-- %s\n' "$*" >&2; }
die() { printf 'smoke: %s\n' "$*" >&2; exit 1; }
inside() { "${compose[@]}" run --rm -T --no-deps --entrypoint "$2" "$1" "${@:3}"; }
within() {  # within SECONDS COMMAND...: until it succeeds
    local deadline=$((SECONDS + $1))
    until "${@:2}" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || die "not within $1 s: ${*:2}"
        sleep 1
    done
}

say "the server is ready, and tells about a model only who has a key"
curl -sSf "$url/v2/health/ready" >/dev/null
status=$(curl -sS -o /dev/null -w '%{http_code}' "$url/v2/models/open")
[ "$status" = 401 ] || die "without a key: status $status, not 401"
key=$(inside attacker cat key)
curl -sSf -H "Authorization: Bearer $key" "$url/v2/models/open" | grep -q '"max_rows"'

say "the attacker's image holds the attacker, and its container reaches the proxy only"
[ "$(inside attacker ls /app | xargs)" = "attacker cli wire zoo" ] || die "the attacker's image holds $(inside attacker ls /app)"
[ "$(inside attacker ls /party | xargs)" = "candidates.npz key pool.npz shadow.npz" ] || die "the attacker was given $(inside attacker ls /party)"
[ "$(inside attacker id -u)" != 0 ] || die "the attacker is root"
inside attacker python -c '
import importlib.util, socket
for package in ("server", "defenses", "owner"):
    assert importlib.util.find_spec(package) is None, package
socket.create_connection(("proxy", 8000), 10).close()
for place in ("redis", 6379), ("server", 8000), ("server", 9100):
    try:
        socket.create_connection(place, 10)
    except OSError:
        continue
    raise SystemExit(f"the attacker reaches {place}")
'

say "Redis answers only who has the password"
"${compose[@]}" exec -T server python -c '
import socket
with socket.create_connection(("redis", 6379), 10) as connection:
    connection.sendall(b"PING\r\n")
    reply = connection.recv(100)
assert reply.startswith(b"-NOAUTH"), reply
'

say "the attacker steals, and the ledger is what it counted"
rows() { curl -sSf -H "Authorization: Bearer $key" "$url/v1/account"; }
before=$(rows)
"${compose[@]}" run --rm -T attacker knockoff --model open --budget 500 --out /out/smoke
inside attacker python -c '
import json, sys
before, after = (json.loads(text)["rows"] for text in sys.argv[1:])
result = json.load(open("/out/smoke/result.json"))
assert result["status"] == "done", result
assert result["rows"] == 500 == after - before, (result["rows"], before, after)
' "$before" "$(rows)"
inside attacker ls /out/smoke/surrogate/card.json /out/smoke/surrogate/weights.safetensors

say "the owner tests an endpoint"
[ "$(inside owner ls /app | xargs)" = "cli defenses owner wire zoo" ] || die "the owner's image holds $(inside owner ls /app)"
"${compose[@]}" run --rm -T owner dataset-inference --model open --victim http://proxy:8000 --victim-model open \
    --fit-images 20 --test-images 20 --starts 1 --out /out/smoke.json
inside owner grep '"p_value"' /out/smoke.json

say "a request is found in the log by its id, and its key is not"
line="[$(printf '0,%.0s' {1..27})0]"
image="[[$(printf "$line,%.0s" {1..27})$line]]"
predict() {
    curl -sS -H "Authorization: Bearer $key" -d "{\"instances\": [$image]}" "$@" "$url/v1/models/open:predict"
}
predict -f -D - -o /dev/null -H 'X-Request-Id: smoke-1' | grep -i '^x-request-id: smoke-1' >/dev/null
logged=$("${compose[@]}" logs --no-color server)
grep -q '"request":"smoke-1"' <<<"$logged" || die "the log has no line for smoke-1"
! grep -qF -e "$key" -e "${key#*_}" <<<"$logged" || die "the log tells the key"

say "two replicas answer one account, and bill what they answered"
counted() {  # counted REPLICA: rows that it answered
    "${compose[@]}" exec -T --index="$1" server python -c '
import urllib.request
lines = urllib.request.urlopen("http://127.0.0.1:9100/metrics").read().decode().splitlines()
print(sum(int(float(line.split()[-1])) for line in lines if line.startswith("mlaas_rows_total")))'
}
billed() { inside attacker python -c 'import json, sys; print(json.loads(sys.argv[1])["rows"])' "$(rows)"; }
"${compose[@]}" up --detach --no-deps --no-recreate --scale server=2 server
within 120 "${compose[@]}" exec -T --index=2 server \
    python -c 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:8000/v2/health/ready")'
sleep 2 # the proxy looks for replicas once a second
ledger=$(billed) first=$(counted 1) second=$(counted 2)
for _ in {1..40}; do predict -f -o /dev/null; done
first=$(($(counted 1) - first)) second=$(($(counted 2) - second)) ledger=$(($(billed) - ledger))
[ "$first" -gt 0 ] && [ "$second" -gt 0 ] || die "the replicas answered $first and $second rows"
[ $((first + second)) = 40 ] && [ "$ledger" = 40 ] || die "answered $first + $second rows of 40, billed $ledger"
case ",${COMPOSE_PROFILES-}," in *,observe,*)
    scraped() { curl -sSf --data-urlencode 'query=count(mlaas_build_info)' http://127.0.0.1:9090/api/v1/query | grep '"2"'; }
    within 60 scraped ;;
esac

owed() { [ "$(billed)" = "$1" ]; }

say "the store is killed and comes back: nothing is answered meanwhile, and nothing is lost"
ledger=$(billed)
"${compose[@]}" kill redis
predict -o /dev/null -D - | tr -d '\r' | awk '/^HTTP/ {status = $2} tolower($1) == "retry-after:" {wait = $2}
    END {exit !(status == 503 && wait > 0)}' || die "no 503 with Retry-After"
[ "$(curl -sS -o /dev/null -w '%{http_code}' "$url/v2/health/ready")" = 503 ] || die "ready without a store"
"${compose[@]}" start redis
within 60 curl -sSf "$url/v2/health/ready"
[ "$(billed)" = "$ledger" ] || die "billed $(billed) rows, and $ledger before the store was killed"
within 60 predict -f
# A request that was refused because the reply of the store came too late is given back within seconds.
within 10 owed $((ledger + 1)) || die "billed $(billed) rows, not $ledger + 1"

say "all is well"
