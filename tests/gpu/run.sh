#!/bin/bash
# Tests and measures on one GPU, and stops after $BUDGET seconds (540 if unset, 1800 on a CPU). Results lie in
# $OUT; arguments go to measure.py. Without a GPU: DILLEMA_TEST_DEVICE=cpu tests/gpu/run.sh --tiny
set -o pipefail
cd "$(dirname "$0")/../.."
export OUT=${OUT:-outputs/gpu} PYTHONPATH=$PWD PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
mkdir -p "$OUT"
python=${PYTHON:-python3}
device=${DILLEMA_TEST_DEVICE:-cuda}
budget=${BUDGET:-540}
workers=${WORKERS:-8}
if [ "$device" = cpu ]; then
  budget=${BUDGET:-1800} workers=${WORKERS:-2}
fi

within() { # runs a command for the seconds that are left, but for those of the first argument
  local left=$((budget - SECONDS - $1))
  timeout $((left > 1 ? left : 1)) "${@:2}"
}

tests=("$python" -m pytest tests/gpu -p no:cacheprovider -q --durations=5)
code=0
[ "$device" = cpu ] || nvidia-smi | tee "$OUT/card.txt"
within 300 "${tests[@]}" -m "gpu and not cuda" -n "$workers" 2>&1 | tee "$OUT/tests.txt" || code=1
if [ "$device" != cpu ]; then # these fill the memory: nothing may run beside them
  within 270 "${tests[@]}" -m cuda 2>&1 | tee "$OUT/memory.txt" || code=1
fi
# a measurement that began before the end needs some time more
seconds=$((budget - SECONDS - 30))
within 0 "$python" -m tests.gpu.measure --seconds $seconds "$@" 2>&1 | tee "$OUT/measure.txt" || code=1
exit $code
