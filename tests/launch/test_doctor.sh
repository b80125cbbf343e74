#!/usr/bin/env bash
# weft doctor on good and on bad machines.   timeout=120 alone=yes
set -u
weft=$(realpath "${WEFT_BUILD:-build/release}/weft")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
unset WEFT_ISA SLURM_JOB_ID SLURM_STEP_ID SLURM_NTASKS OMPI_COMM_WORLD_SIZE PMIX_RANK CUDA_VISIBLE_DEVICES
export OMP_NUM_THREADS=1
count=0 failed=0
says() { # name, exit code, part of what is printed, command...
  local name=$1 code=$2 part=$3 said found
  shift 3
  said=$("$@" 2>&1 </dev/null)
  found=$?
  count=$((count + 1))
  if [ "$found" = "$code" ] && grep -qF -- "$part" <<<"$said"; then
    echo "ok $count - $name"
  else
    echo "not ok $count - $name"
    echo "# exit $found, expected $code with: $part"
    sed 's/^/# /' <<<"$said"
    failed=1
  fi
}
quick() { "$weft" doctor "$folder" --no-launch; }
with() { ( export "$1"; quick ) }
launch_by() { # script: the mpirun that is found
  mkdir -p "$folder/bin"
  printf '#!/bin/bash\n%s\n' "$1" >"$folder/bin/mpirun"
  chmod +x "$folder/bin/mpirun"
  PATH="$folder/bin:$PATH" "$weft" doctor "$folder"
}

says "a good machine: two ranks meet" 0 "two ranks met, summed and wrote one HDF5 file in $folder" \
  "$weft" doctor "$folder"
says "every line has a level" 0 "0 failed" quick
says "no line is strange" 1 "" sh -c "'$weft' doctor '$folder' --no-launch | grep -vE '^(ok  |warn|      ) |^[0-9]+ ok, '"
says "nothing is left behind" 1 "" sh -c "ls -A '$folder' | grep ."
says "libraries have versions" 0 "HDF5 1." quick
says "locks" 0 "fcntl and flock keep others out in $folder" quick
says "the disk" 0 "written and flushed at" quick
says "without a launch" 0 "launch         not tried" quick
says "under a launcher" 0 "not tried: this already runs under a launcher" \
  env OMPI_COMM_WORLD_SIZE=2 "$weft" doctor "$folder"

says "too many threads" 0 "OMP_NUM_THREADS 9999: threads share cores" with OMP_NUM_THREADS=9999
says "warnings tell how to mend" 0 "mend: set OMP_NUM_THREADS to the cores of a rank" with OMP_NUM_THREADS=9999
says "lowered instructions" 0 "because WEFT_ISA=scalar" with WEFT_ISA=scalar
says "few open files" 0 "256 open files" bash -c "ulimit -n 256; '$weft' doctor '$folder' --no-launch"
says "a full disk" 1 "cannot write 32 MB: $folder/.weft-doctor-" \
  bash -c "ulimit -f 1000; '$weft' doctor '$folder' --no-launch"
says "a folder that takes no files" 1 "/proc: cannot make a file: " "$weft" doctor /proc --no-launch
says "srun without PMIx" 1 "srun started 4 tasks without PMIx" \
  env SLURM_JOB_ID=1 SLURM_STEP_ID=0 SLURM_NTASKS=4 "$weft" doctor "$folder" --no-launch
says "a Slurm job" 0 "Slurm job 17, 2 tasks" env SLURM_JOB_ID=17 SLURM_NTASKS=2 "$weft" doctor "$folder" --no-launch

says "no mpirun" 1 "there is no mpirun in the PATH" env PATH=/nowhere "$weft" doctor "$folder"
says "an mpirun that fails" 1 "mpirun -np 2 failed: there are not enough slots" \
  launch_by 'echo -----; echo "there are not enough slots"; exit 1'
says "another MPI's mpirun" 1 "mpirun starts two worlds of one rank" \
  launch_by 'while [ "$1" != doctor ]; do p=$1; shift; done; "$p" "$@"; "$p" "$@"'
if [ "$(id -u)" = 0 ]; then
  says "as root" 1 "mend: export OMPI_ALLOW_RUN_AS_ROOT=1" \
    env -u OMPI_ALLOW_RUN_AS_ROOT -u OMPI_ALLOW_RUN_AS_ROOT_CONFIRM "$weft" doctor "$folder"
fi

says "json" 0 '"name": "file locks", "level": "ok"' "$weft" doctor "$folder" --no-launch --json
if command -v python3 >/dev/null; then
  says "json is JSON" 0 "16 17" bash -c "'$weft' doctor '$folder' --no-launch --json | python3 -c '
import json, sys
d = json.load(sys.stdin)
assert d[\"fail\"] == 0 and all(c[\"level\"] in (\"ok\", \"warn\") for c in d[\"checks\"])
assert all((c[\"mend\"] is None) == (c[\"level\"] == \"ok\") for c in d[\"checks\"])
print(len({c[\"name\"] for c in d[\"checks\"]}) - 1, len(d[\"checks\"]))'"
fi
says "no such folder" 2 "/no/such: there is no such folder" "$weft" doctor /no/such
says "no such option" 2 "no option --jsn; see" "$weft" doctor --jsn
says "two folders" 2 "one folder at a time" "$weft" doctor . .
echo "1..$count"
exit $failed
