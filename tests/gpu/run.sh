#!/bin/bash
# Tests and measures on one GPU, within ten minutes; arguments go to tests/gpu/measure.py. On a machine without
# a GPU: DILLEMA_TEST_DEVICE=cpu tests/gpu/run.sh --tiny
set -o pipefail
cd "$(dirname "$0")/../.."
export OUT=${OUT:-outputs/gpu} PYTHONPATH=$PWD PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
mkdir -p "$OUT"
python=${PYTHON:-python3}
device=${DILLEMA_TEST_DEVICE:-cuda}

run_tests() {
  timeout "${TEST_SECONDS:-150}" "$python" -m pytest tests/gpu -p no:cacheprovider -q --durations=5 "$@"
}

code=0
[ "$device" = cpu ] || nvidia-smi | tee "$OUT/card.txt"
run_tests -m "gpu and not cuda" -n "${WORKERS:-8}" 2>&1 | tee "$OUT/tests.txt" || code=1
if [ "$device" != cpu ]; then # these fill the memory, so nothing may run beside them
  run_tests -m cuda 2>&1 | tee "$OUT/memory.txt" || code=1
fi
timeout "${MEASURE_SECONDS:-400}" "$python" -m tests.gpu.measure "$@" 2>&1 | tee "$OUT/measure.txt" || code=1
exit $code
