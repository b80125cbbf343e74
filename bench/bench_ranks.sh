#!/usr/bin/env bash
# FIBER-Base at 384 px trained for real, from packed pictures to updates: two ranks of one thread against one rank of two,
# and how long the steps waited for their batches. The two take turns, and the median update of each counts, as machines
# that share their cores with others differ by a third from one run to the next. usage: bench/bench_ranks.sh BUILD
set -eu
build=${1:-build/release}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
rounds=3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$build/weft" pack scenes -q --size 384 --count 64 -o "$folder/scenes-%05d.h5"
"$build/weft" tokenizer train -n 400 -o "$folder/tokenizer" "$folder"/scenes-*.h5 >/dev/null
cat >"$folder/base.yaml" <<EOF
base: $PWD/configs/fiber-base.yaml
data:
  sets:
    - path: $folder/scenes-*.h5
  eval_sets: null
tokenizer: {path: $folder/tokenizer}
objectives:
  share: true
  list:
    - type: mlm
    - type: itc
    - type: itm
batch: {global: 4, micro: 0}
optimizer: {shard: true}
train: {steps: 5, log_every: 1, init_from: null, init_allow: null}
eval: null
EOF
train() { # ranks, threads: a line "seconds of an update, of them waiting for a batch" for each after the first
  rm -rf "$folder/run"
  OMP_NUM_THREADS=$2 mpirun -q -np "$1" --bind-to none "$build/weft" train "$folder/base.yaml" --run "$folder/run" \
    --quiet >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
  sed -nE 's/.*"kind":"step".*"step":([0-9]+),"epoch".*"seconds":\{([^}]*)\}.*/\1 \2/p' "$folder/run/log.jsonl" |
    tr '":,{}' '     ' | awk '$1 > 1 {
      waited = 0
      for (i = 2; i < NF; i += 2) {
        if ($i == "step") update = $(i + 1)
        if ($i ~ /^wait/) waited += $(i + 1)
      }
      print update, waited
    }' >>"$folder/ranks-$1"
}
median() { # ranks: the median update
  sort -g "$folder/ranks-$1" | awk '{ at[NR] = $1 } END { print (at[int((NR + 1) / 2)] + at[int(NR / 2) + 1]) / 2 }'
}
for ((i = 0; i < rounds; i++)); do
  train 1 2
  train 2 1
done
one=$(median 1)
two=$(median 2)
stall=$(cat "$folder"/ranks-? | awk '{ total += $1; waited += $2 } END { printf "%.2f", 100 * waited / total }')
printf 'fiber-base run, 1 rank x 2 threads\t%.3f\tsamples/s\t-\t-\tbf16, batch 4, ZeRO-1, pictures read and decoded\n' \
  "$(echo "4 / $one" | bc -l)"
printf 'fiber-base run, 2 ranks x 1 thread\t%.3f\tsamples/s\t%.3f\t%.2f\tceiling: the row above; bar 0.95\n' \
  "$(echo "4 / $two" | bc -l)" "$(echo "4 / $one" | bc -l)" "$(echo "$one / $two" | bc -l)"
printf 'fiber-base run, waiting for batches\t%.2f\t%% of step\t1.0\t%.2f\tceiling: the bar\n' "$stall" "$stall"
