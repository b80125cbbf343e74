#!/usr/bin/env bash
# needs=shared/data,tar,h5diff timeout=240 asan=no
# The commands of docs/data.md on real sets: packed straight out of their tar files, checked, and counted.
set -u
weft=${WEFT_BUILD:-build/release}/weft
data=${WEFT_SHARED:-../shared}/data
out=$(mktemp -d "${TMPDIR:-/tmp}/weft-real-XXXXXX")
trap 'rm -rf "$out"' EXIT
number=0 failed=0
verdict() { # status name: one line of TAP
  number=$((number + 1))
  if [ "$1" -eq 0 ]; then echo "ok $number - $2"; else echo "not ok $number - $2"; failed=1; fi
}
expect() { # name pattern command...: the command succeeds and says the pattern
  local name=$1 pattern=$2 said
  shift 2
  said=$("$@" 2>&1) && grep -qE "$pattern" <<<"$said"
  local rc=$?
  [ $rc -eq 0 ] || echo "# said: $said"
  verdict $rc "$name"
}
# README: 5,934 images and 989 sentences; each sentence stands under six pictures. The test split has one
# sentence more than the README says (990 lines, 5,940 pictures).
expect "nlvr dev packs" "packed 5,934 images .*, 5,934 texts, 53,256 boxes" \
  "$weft" pack nlvr "$data/nlvr/dev.tar/dev/dev.json" -o "$out/dev-%05d.h5"
expect "nlvr dev is sound" "^sound: 5,934 images, 5,934 texts, 53,256 boxes" \
  "$weft" check "$out/dev-00000.h5"
expect "nlvr test packs" "packed 5,940 images .*, 5,940 texts, 53,160 boxes" \
  "$weft" pack nlvr "$data/nlvr/test.tar/test/test.json" -o "$out/test-%05d.h5"
expect "coco128 packs" "packed 128 images .*, 0 texts, 939 boxes" \
  "$weft" pack coco "$data/coco128/coco128.tar/annotations/instances_train2017.json" \
  --images "$data/coco128/coco128.tar/train2017" -o "$out/coco128-%05d.h5"
expect "coco128 is sound" "^sound: 128 images, 0 texts, 939 boxes" "$weft" check "$out/coco128-00000.h5"
# With the captions that the recipes train on.
expect "nlvr dev has captions" "packed 5,934 images .*, 3,282 texts, 53,256 boxes" \
  "$weft" pack nlvr "$data/nlvr/dev.tar/dev/dev.json" --captions yes -o "$out/dev-captions-%05d.h5"
expect "nlvr test has captions" "packed 5,940 images .*, 3,336 texts, 53,160 boxes" \
  "$weft" pack nlvr "$data/nlvr/test.tar/test/test.json" --captions yes -o "$out/test-captions-%05d.h5"
expect "coco128 has captions" "packed 128 images .*, 126 texts, 939 boxes" \
  "$weft" pack coco "$data/coco128/coco128.tar/annotations/instances_train2017.json" \
  --images "$data/coco128/coco128.tar/train2017" --name-objects yes -o "$out/coco128-captions-%05d.h5"
for split in train:3,698 test:1,849; do
  expect "emoji ${split%:*} packs" "packed ${split#*:} images .*, ${split#*:} texts" \
    "$weft" pack jsonl "$data/emoji/${split%:*}.tar/${split%:*}/captions.jsonl" --caption-field name \
    --background white \
    -o "$out/emoji-${split%:*}-%05d.h5"
  expect "emoji ${split%:*} is sound" "^sound: ${split#*:} images" "$weft" check "$out/emoji-${split%:*}-00000.h5"
done
# Extracted, the set is the same.
mkdir "$out/coco128" "$out/again"
tar -xf "$data/coco128/coco128.tar" -C "$out/coco128"
expect "coco128 extracted packs" "939 boxes" \
  "$weft" pack coco "$out/coco128/annotations/instances_train2017.json" --images "$out/coco128/train2017" \
  -o "$out/again/coco128-%05d.h5"
for group in images boxes categories; do
  h5diff "$out/again/coco128-00000.h5" "$out/coco128-00000.h5" "/$group" >/dev/null
  verdict $? "packed from the tar file or extracted, /$group is the same"
done
echo "1..$number"
exit $failed
