#!/bin/bash
# Trains the small world's captioner and generator on one GPU, and stops after $BUDGET seconds
# (540 if unset). In $OUT lie log.txt and the weights, in parts of 15 MB: cat weights.tar.* | tar x
# Renders and checkpoints stay in $FOLDER: a second call goes on from them.
# On a machine without a GPU: tests/gpu/train.sh --tiny
set -o pipefail
cd "$(dirname "$0")/../.."
export OUT=${OUT:-outputs/gpu} PYTHONPATH=$PWD PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
folder=${FOLDER:-outputs/training}
python=${PYTHON:-python3}
budget=${BUDGET:-540}
reserve=45      # seconds for packing, and for saving the generator from its checkpoint
most=17000      # scenes
least=3000
planned=3       # scenes a second and process
workers=$(env -u OMP_NUM_THREADS nproc) # nproc counts no more cores than that variable names
if [ "$1" = --tiny ]; then
  budget=${BUDGET:-120} reserve=15 most=24 least=24 planned=0
fi
mkdir -p "$OUT" "$folder"
code=0

say() {
  echo "[$SECONDS s] $*" | tee -a "$OUT/log.txt"
}

fail() {
  say "$*: stops"
  exit 1
}

train() { # trains models for at most the seconds of the first argument; the recipes' log shows every ten
  local limit=$1
  shift
  timeout $((limit > 1 ? limit : 1)) "$python" -m dillema.mini.train "$@" --workers "$workers" \
    --target "$folder/weights" 2>&1 | tee -a "$OUT/log.txt"
}

share() { # the seconds that are left before the reserve, times a percentage
  echo $(((budget - reserve - SECONDS) * $1 / 100))
}

pack() {
  say "packs"
  tar c -C "$folder" weights | split -b 15M -d - "$OUT/weights.tar."
}

stage() { # model, percentage of the seconds that are left
  local seconds
  seconds=$(share "$2")
  say "$1: $seconds s, $scenes scenes"
  train $((seconds + 30)) "$1" --folder "$folder" --scenes "$scenes" --seconds "$seconds"
}

# as fast as planned? Else the rest of the time is not spent on too few scenes
say "$workers processes render"
probe=$((most < 60 * workers ? most : 60 * workers))
rate=$(train "$(share 20)" renders --folder "$folder/probe" --scenes "$probe" |
  sed -n 's/.*-street-.* \([0-9]*\)\.[0-9] a second$/\1/p' | tail -1)
[ "${rate:-0}" -ge $((planned * workers)) ] || fail "${rate:-0} scenes a second, less than $planned a process"
scenes=$((rate * $(share 30)))
scenes=$((scenes < most ? scenes : most))
scenes=$((scenes > least ? scenes : least))
say "${rate:-0} scenes a second; $scenes scenes"
train "$(share 60)" renders --folder "$folder" --scenes "$scenes" || fail "not rendered in time"
stage captioner 20 || code=1
stage generator 100 || { # saves what its last checkpoint holds
  say "the generator is saved from its last checkpoint"
  train "$reserve" generator --folder "$folder" --scenes "$scenes" --steps 1 || code=1
}
pack
say "done"
exit $code
