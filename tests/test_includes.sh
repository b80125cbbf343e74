#!/usr/bin/env bash
# Includes run one way: launch -> objectives -> model -> runtime, and launch -> data -> runtime/base.
# model/ and objectives/ see no MPI, CUDA or HDF5 header, and no backend.
set -u
cd "$(dirname "$0")/.." || exit 1
count=0 failed=0
rule() { # description, folders, forbidden pattern
  local hits
  count=$((count + 1))
  # shellcheck disable=SC2086
  hits=$(grep -rnE --include='*.[ch]' --include='*.cu' --include='*.cuh' "^ *#include [<\"]($3)" $2 2>/dev/null)
  if [ -n "$hits" ]; then
    echo "not ok $count - $1"
    sed 's/^/# /' <<<"$hits"
    failed=1
  else
    echo "ok $count - $1"
  fi
}
rule "runtime includes nothing above it" runtime '(model|objectives|data|launch)/'
rule "model includes runtime only" model '(objectives|data|launch)/'
rule "objectives include model and runtime only" objectives '(data|launch)/'
rule "data includes runtime/base and the instruction set probe only" data \
  "(model|objectives|launch)/|runtime/(graph|ops|comm|optim|checkpoint|backend/(cuda|cpu/[^i]))"
rule "model and objectives see no MPI, CUDA, HDF5 or backend" "model objectives" \
  '(mpi|cuda|cublas|nccl|hdf5|dnnl).*\.h|runtime/(backend|comm)/'
rule "runtime/base includes runtime/base only" runtime/base 'runtime/(graph|ops|backend|comm|optim|checkpoint)/'
# A rule that cannot fail proves nothing: this one must.
count=$((count + 1))
dir=$(mktemp -d)
echo '#include "launch/x.h"' >"$dir/x.c"
if rule "self-test" "$dir" 'launch/' | grep -q '^not ok'; then echo "ok $count - a wrong include is found"; else
  echo "not ok $count - a wrong include is found"; failed=1
fi
rm -rf "$dir"
echo "1..$count"
exit $failed
