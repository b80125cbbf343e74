#!/usr/bin/env bash
# weft tokenizer as a user types it: train, encode, decode, and what it says about mistakes.
set -u
weft=${WEFT_BUILD:-build/release}/weft
cases=tests/data/tokenizer/cases
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
refuses() { # name, exit code, part of the message, command...
  local name=$1 code=$2 part=$3 said
  shift 3
  said=$("$@" 2>&1 >/dev/null </dev/null)
  check "$name: exit code" "$code" $?
  case $said in *"$part"*) said=$part ;; esac
  check "$name: message" "$part" "$said"
}

"$weft" tokenizer train -n 512 -o "$folder/new" "$cases/captions.txt" 2>"$folder/log"
check "train" 0 $?
check "train says what it did" "$folder/new: 502 tokens; no other pair of tokens occurs often enough" \
  "$(tail -1 "$folder/log")"
check "train reads standard input" "$(cat "$folder/new/tokenizer.json" | cksum)" \
  "$("$weft" tokenizer train -n 512 -o "$folder/piped" - <"$cases/captions.txt" 2>/dev/null
     cksum <"$folder/piped/tokenizer.json")"
check "encode, tokens" "a Ġred Ġsquare" "$("$weft" tokenizer encode --tokens "$folder/new" 'a red square')"
check "encode, json" \
  '{"ids": [0, 68, 338, 2], "tokens": ["<s>", "a", "Ġred", "</s>"], "spans": [[0, 0], [0, 1], [2, 5], [0, 0]], "truncated": true}' \
  "$("$weft" tokenizer encode --json -s --max-length 4 "$folder/new" 'a red square')"
check "encode, then decode" "$(cat "$cases/captions.txt")" \
  "$("$weft" tokenizer encode -s "$folder/new" <"$cases/captions.txt" | "$weft" tokenizer decode -x "$folder/new")"
check "decode takes Python's lists" "<s>a</s>" "$("$weft" tokenizer decode "$folder/new" '[0, 68, 2]')"
check "WordPiece" "[CLS] a red square [SEP]" "$("$weft" tokenizer encode -t -s "$cases/vocab.txt" 'A RED square')"
check "an empty line is an empty line" "" "$(echo | "$weft" tokenizer encode "$folder/new")"

refuses "no subcommand" 2 "usage: weft tokenizer" "$weft" tokenizer
refuses "unknown subcommand" 2 "unknown subcommand 'learn'" "$weft" tokenizer learn
refuses "option of another subcommand" 2 "decode does not take -n" "$weft" tokenizer decode -n 300 x
refuses "train without output" 2 "train needs -o FOLDER" "$weft" tokenizer train -n 300 "$cases/captions.txt"
refuses "train with a small number" 2 "--vocab-size must be a number from 261" \
  "$weft" tokenizer train -n 260 -o "$folder/x" "$cases/captions.txt"
refuses "no tokenizer there" 2 "$folder/none: No such file" "$weft" tokenizer encode "$folder/none" a
refuses "id out of range" 2 "has id 502, the vocabulary has ids 0 to 501" "$weft" tokenizer decode "$folder/new" 502
refuses "no id" 2 "'x' is not an id" "$weft" tokenizer decode "$folder/new" x
refuses "not UTF-8" 2 "not UTF-8 at byte 1" "$weft" tokenizer encode "$folder/new" $'a\xff'
check "not UTF-8, allowed" $'a\xff' \
  "$("$weft" tokenizer encode -b "$folder/new" $'a\xff' | "$weft" tokenizer decode "$folder/new")"
echo "1..$count"
exit $failed
