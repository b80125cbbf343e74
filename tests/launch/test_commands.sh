#!/usr/bin/env bash
# Every launch/cmd_NAME.c is a command that can be found, listed and asked for help; unknown ones are refused.
set -u
weft=${WEFT_BUILD:-build/release}/weft
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
for source in launch/cmd_*.c; do
  name=${source#launch/cmd_}
  name=${name%.c}
  check "$name is listed" 1 "$("$weft" help | grep -cE "^  $name +[^ ]")"
  check "$name has help" 1 "$("$weft" help "$name" | head -2 | grep -cE "^usage: .*weft $name")"
  check "$name --help is the same" "$("$weft" help "$name")" "$("$weft" "$name" --help)"
done
check "nothing else is listed" "$(ls launch/cmd_*.c | wc -l)" "$("$weft" help | grep -cE '^  [a-z]+ +[^ ]')"
"$weft" reprot >/dev/null 2>&1
check "an unknown command" 2 $?
check "with the nearest name" "weft: unknown command 'reprot'; did you mean 'report'?" \
  "$("$weft" reprot 2>&1 | head -1)"
echo "1..$count"
exit $failed
