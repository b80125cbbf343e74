#!/usr/bin/env bash
# weft inspect --batch: the samples of a micro-batch, the same whatever the ranks; refusals.
set -u
weft=${WEFT_BUILD:-build/release}/weft
weft=$(realpath "$weft")
vocab=$PWD/tests/data/tokenizer/cases/vocab.json
out=$(mktemp -d "${TMPDIR:-/tmp}/weft-inspect-XXXXXX")
trap 'rm -rf "$out"' EXIT
cd "$out" || exit 1
number=0 failed=0
verdict() { # status name: one line of TAP
  number=$((number + 1))
  if [ "$1" -eq 0 ]; then echo "ok $number - $2"; else echo "not ok $number - $2"; failed=1; fi
}
refused() { # name pattern arguments...: weft inspect ends with code 2 and says the pattern, once
  local name=$1 pattern=$2 said rc
  shift 2
  said=$("$weft" inspect "$@" 2>&1)
  rc=$?
  [ $rc -eq 2 ] && [ "$(grep -cE "$pattern" <<<"$said")" -eq 1 ]
  rc=$?
  [ $rc -eq 0 ] || echo "# said: $said"
  verdict $rc "$name"
}
"$weft" pack scenes --count 40 --difficulty 2 --captions 2 -o scenes-%05d.h5 >pack.log 2>&1
verdict $? "scenes pack"
cat >run.yaml <<YAML
run: runs/x
model: {family: fiber}
data:
  sets: [{path: "scenes-*.h5"}]
  image_size: 48
  transform: albef_randaug
  max_text_len: 40
  boxes: true
tokenizer: {path: $vocab}
objectives:
  list: [{type: mlm}]
batch: {global: 16, micro: 8}
train: {steps: 10}
YAML
"$weft" inspect --batch 1 --config run.yaml --html page.html >one.txt 2>one.err
verdict $? "a batch is shown"
[ "$(grep -cE '^sample [0-9]+  hash [0-9a-f]{16}  set 0 \(scenes\)  text [0-9]+ \(caption\)  image' one.txt)" -eq 8 ]
verdict $? "each sample has a line with its hash"
grep -qE '^sample 16 ' one.txt && grep -qE '^sample 23 ' one.txt
verdict $? "step 1 begins at sample 16"
[ "$(grep -cE '^  masked: .* as ' one.txt)" -ge 6 ] && grep -qE '^  box \[.*characters \[' one.txt
verdict $? "masks and boxes are shown"
[ "$(grep -o 'data:image/png;base64' page.html | wc -l)" -eq 16 ] && grep -q 'class="t shown"' page.html
verdict $? "the page has each picture, with and without boxes, and hidden tokens"
for rank in 0 1; do
  "$weft" inspect --batch 1 --config run.yaml --set batch.micro=4 --ranks 2 --rank $rank
done >two.txt 2>two.err
[ -s two.txt ] && diff <(grep '^sample' one.txt) <(grep '^sample' two.txt) >/dev/null
verdict $? "two ranks with half the micro-batch hold the same samples, hash by hash"
"$weft" inspect --batch 1 --config run.yaml --micro 1 | grep -qE '^sample 24 '
verdict $? "the second micro-batch of the step goes on"
refused "a step has so many micro-batches" "micro-batches 0 to 1" --batch 1 --config run.yaml --micro 2
refused "ranks must divide the batch" "is not ranks 3 x micro 8" --batch 1 --config run.yaml --ranks 3
"$weft" inspect --batch 1 --config run.yaml --set train.seed=1 | grep '^sample' >seed.txt
[ "$(wc -l <seed.txt)" -eq 8 ] && ! diff <(grep '^sample' one.txt) seed.txt >/dev/null
verdict $? "another seed gives others"
refused "a config is needed" "needs the run's config" --batch 2
refused "ranks count from 0" "there are ranks 0 to 1" --batch 2 --config run.yaml --ranks 2 --rank 2
refused "files and a batch do not go together" "leave scenes-00000.h5 out" --batch 2 --config run.yaml scenes-00000.h5
refused "options of a batch need one" "go with --batch" --config run.yaml scenes-00000.h5
sed 's/scenes-\*/none-*/' run.yaml >none.yaml
refused "a glob without files names its line" "none.yaml:4:17: data.sets.0: none-\*.h5: no such file" \
  --batch 2 --config none.yaml
refused "a batch larger than the set" "run.yaml:4:3: data: .*80 samples, fewer than one global batch of 100" \
  --batch 0 --config run.yaml --set batch.micro=100 --set batch.global=100
echo "1..$number"
exit $failed
