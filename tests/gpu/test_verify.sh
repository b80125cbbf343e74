#!/usr/bin/env bash
# weft verify --device cuda: every golden file, in f32 and in bf16.   needs=cuda,shared/golden timeout=600
set -u
weft=${WEFT_BUILD:-build/release}/weft
shared=${WEFT_SHARED:-../shared}/golden
count=0 failed=0
for file in "$shared"/*.h5; do
  for dtype in f32 bf16; do
    said=$("$weft" verify --device cuda --dtype $dtype "$file" 2>&1)
    code=$?
    # Files without a model's config are for other tests.
    case $said in *"no attribute 'config'"* | *"has no config"*) continue ;; esac
    count=$((count + 1))
    if [ $code -eq 0 ] && grep -q ' values compared, 0 outside the tolerances;' <<<"$said"; then
      echo "ok $count - $(basename "$file") in $dtype"
    else
      echo "not ok $count - $(basename "$file") in $dtype"
      tail -n 20 <<<"$said" | sed 's/^/# /'
      failed=1
    fi
  done
done
[ $count -gt 0 ] || { echo "not ok 1 - $shared has no file to verify"; failed=1; }
echo "1..$count"
exit $failed
