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

say "the server is ready, and tells about a model only who has a key"
curl -sSf "$url/v2/health/ready" >/dev/null
status=$(curl -sS -o /dev/null -w '%{http_code}' "$url/v2/models/open")
[ "$status" = 401 ] || die "without a key: status $status, not 401"
key=$(inside attacker cat key)
curl -sSf -H "Authorization: Bearer $key" "$url/v2/models/open" | grep -q '"max_rows"'

say "the attacker's image holds the attacker, and its container reaches the server only"
[ "$(inside attacker ls /app | xargs)" = "attacker wire zoo" ] || die "the attacker's image holds $(inside attacker ls /app)"
[ "$(inside attacker ls /party | xargs)" = "candidates.npz key pool.npz shadow.npz" ] || die "the attacker was given $(inside attacker ls /party)"
[ "$(inside attacker id -u)" != 0 ] || die "the attacker is root"
inside attacker python -c '
import importlib.util, socket
for package in ("server", "defenses", "owner"):
    assert importlib.util.find_spec(package) is None, package
socket.create_connection(("server", 8000), 10).close()
try:
    socket.create_connection(("redis", 6379), 10)
except OSError:
    pass
else:
    raise SystemExit("the attacker reaches the store")
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
[ "$(inside owner ls /app | xargs)" = "owner wire zoo" ] || die "the owner's image holds $(inside owner ls /app)"
"${compose[@]}" run --rm -T owner dataset-inference --model open --victim http://server:8000 --victim-model open \
    --fit-images 20 --test-images 20 --starts 1 --out /out/smoke.json
inside owner grep '"p_value"' /out/smoke.json

say "all is well"
