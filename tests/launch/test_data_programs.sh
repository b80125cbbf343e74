#!/usr/bin/env bash
# weft pack, check and inspect as a user types them, on generated scenes.   timeout=120
set -u
weft=${WEFT_BUILD:-build/release}/weft
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
count=0 failed=0
check() { # name, expected, found
  count=$((count + 1))
  if [ "$2" = "$3" ]; then
    echo "ok $count - $1"
  else
    echo "not ok $count - $1"
    printf '# expected: %s\n# found:    %s\n' "$2" "$3"
    failed=1
  fi
}
says() { # name, exit code, part of what is printed, command...
  local name=$1 code=$2 part=$3 said
  shift 3
  said=$("$@" 2>&1 </dev/null)
  check "$name: exit code" "$code" $?
  case $said in *"$part"*) said=$part ;; esac
  check "$name: message" "$part" "$said"
}
set_of() { "$weft" pack scenes --count 30 --questions 1 --statements 1 --shard-size 10 -j 2 -o "$1" "${@:2}"; }

says "formats are listed" 0 "  scenes         generated pictures" "$weft" pack
says "help of a format" 0 "  --count            how many scenes (10000)" "$weft" pack scenes --help
says "help of the command" 0 "--on-bad fail" "$weft" help pack

says "pack" 0 "packed 30 images (" set_of "$folder/a-%05d.h5" -q
check "three shards and nothing else" "a-00000.h5 a-00001.h5 a-00002.h5 " "$(ls -A "$folder" | tr '\n' ' ')"
says "the same command keeps them" 0 "kept 3 shards that an earlier run had finished" set_of "$folder/a-%05d.h5"
rm "$folder/a-00001.h5"
says "a missing shard is made again" 0 "into 1 shard in" set_of "$folder/a-%05d.h5"
says "another seed is another set" 2 "was packed from another source or with other options" \
  set_of "$folder/a-%05d.h5" --seed 5
says "unless told to" 0 "into 3 shards in" set_of "$folder/a-%05d.h5" --seed 5 --overwrite
says "check" 0 "sound: 30 images" "$weft" check "$folder/a-*.h5"
says "check a folder" 0 "sound: 30 images" "$weft" check "$folder"
says "check of one shard of three" 1 "shard 1 is missing" "$weft" check "$folder/a-00000.h5"
says "check --partial" 0 "sound: 10 images" "$weft" check --partial "$folder/a-00000.h5"
says "check --against itself" 1 "picture that is also in the other set: 30" \
  "$weft" check "$folder" --against "$folder"
says "inspect" 0 "    question  30" "$weft" inspect "$folder" --shards --categories
says "inspect --html" 0 "contact sheet: $folder/sheet.html" "$weft" inspect "$folder" --html "$folder/sheet.html"
check "a card a picture" 30 "$(grep -c '<div class=card>' "$folder/sheet.html")"
says "inspect of a row that is not there" 2 "--first 30: the set has 30 images" "$weft" inspect "$folder" --first 30

cp "$folder/a-00002.h5" "$folder/keep"
printf 'x' | dd of="$folder/a-00002.h5" bs=1 seek=4200 conv=notrunc status=none
says "a damaged picture is found" 1 "error: damaged picture: 1, first: $folder/a-00002.h5: image 0" "$weft" check "$folder"
printf 'x' | dd of="$folder/a-00002.h5" bs=1 seek=200 conv=notrunc status=none
says "damaged tables are found" 1 "a-00002.h5: the tables are damaged" "$weft" check "$folder"
mv "$folder/keep" "$folder/a-00002.h5"

says "no such format" 2 "no format 'coc'; did you mean 'coco'?" "$weft" pack coc x -o y
says "no such option" 2 "no option --cuont; did you mean --count?" "$weft" pack scenes --cuont 3 -o y
says "an option without a value" 2 "--count needs a value" "$weft" pack scenes -o "$folder/y" --count
says "no output" 2 "-o NAME-%05d.h5 is missing" "$weft" pack scenes
says "a bad number" 2 "--shard-size 0: must be a whole number from 1" "$weft" pack scenes -o y --shard-size 0
says "a bad policy" 2 "--on-bad ignore: must be fail, skip or report" "$weft" pack scenes -o y --on-bad ignore
says "report writes nothing" 0 "found 5 images (" "$weft" pack scenes --count 5 --on-bad report
says "no source" 2 "coco needs at least 1 SRC" "$weft" pack coco -o y
says "nothing to check" 2 "which files?" "$weft" check
says "nothing matches" 2 "matches nothing" "$weft" check "$folder/none-*.h5"
says "check has no such option" 2 "no option --fast" "$weft" check --fast x
says "inspect has no such file" 2 "no such file" "$weft" inspect "$folder/none.h5"
says "a folder that is not there" 1 "No such file or directory" set_of "$folder/none/a-%05d.h5"

# Ctrl-C: nothing torn is left, finished shards are, and the same command goes on.
rm -f "$folder"/*
"$weft" pack scenes --count 200000 --size 512 --shard-size 20 -j 1 -o "$folder/long-%05d.h5" 2>"$folder/log" &
pid=$!
for _ in $(seq 600); do [ -e "$folder/long-00000.h5" ] && break; sleep 0.1; done
kill -INT $pid
wait $pid
code=$?
check "a stopped pack says so" 130 $code
case $(cat "$folder/log") in *"and the same command goes on from there"*) said=yes ;; *) said=$(cat "$folder/log") ;; esac
check "and how to go on" yes "$said"
check "no torn shard is left" "" "$(ls -A "$folder" | grep -E 'tmp|lock')"
echo "1..$count"
exit $failed
