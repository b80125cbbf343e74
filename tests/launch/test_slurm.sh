#!/usr/bin/env bash
# launch/slurm/weft.sbatch with made-up Slurm commands, and with the mpirun of this machine.   timeout=120 alone=yes
set -u
script=$PWD/launch/slurm/weft.sbatch
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
has() { # name, part, file
  count=$((count + 1))
  if grep -qF -- "$2" "$3"; then echo "ok $count - $1"; else
    echo "not ok $count - $1"
    sed "s/^/# /" "$3"
    failed=1
  fi
}
program() { # path, lines of a script
  printf '#!/bin/bash\n%s\n' "$2" >"$1"
  chmod +x "$1"
}
mkdir "$folder/bin"
echo "run: x" >"$folder/config.yaml"
program "$folder/bin/scontrol" "echo \"\$*\" >>'$folder/scontrol'; exit \${SCONTROL_CODE:-0}"
# Launchers that note how they were called and start one rank; they pass SIGUSR1 on as Open MPI and Slurm do.
for name in mpirun srun; do
  program "$folder/bin/$name" "echo $name \"\$*\" >>'$folder/calls'
while [ \"\$1\" != '$folder/weft' ]; do shift; done
\"\$@\" & rank=\$!
trap 'kill -USR1 \$rank' USR1
wait \$rank; code=\$?
while kill -0 \$rank 2>/dev/null; do wait \$rank; code=\$?; done
exit \$code"
done
# A rank that trains until it is told to save, or ends with CODE.
program "$folder/weft" "echo \"\$* threads \$OMP_NUM_THREADS\" >>'$folder/weft-calls'
trap 'sleep 0.3; echo saved >>\"$folder/saved\"; exit 75' USR1
touch '$folder/started'
[ -n \"\${CODE:-}\" ] && exit \$CODE
for i in \$(seq 200); do sleep 0.05; done; exit 3"

export SLURM_JOB_ID=4711 SLURM_NTASKS=2 SLURM_CPUS_PER_TASK=3 SLURM_SUBMIT_DIR=$folder WEFT=$folder/weft
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
unset OMP_NUM_THREADS SLURM_RESTART_COUNT WEFT_LAUNCHER WEFT_MPI_OPTIONS
fresh() { rm -f "$folder/calls" "$folder/weft-calls" "$folder/saved" "$folder/started" "$folder/scontrol"; }
submit() { # runs the script to its end; its exit code
  fresh
  ( export PATH="$folder/bin:$PATH"; exec bash "$script" "$@" ) >"$folder/log" 2>&1
}
submit_and() { # signal, arguments: sends it once a rank runs
  local signal=$1
  shift
  fresh
  ( export PATH="$folder/bin:$PATH"; exec bash "$script" "$@" ) >"$folder/log" 2>&1 &
  local job=$!
  for _ in $(seq 100); do [ -e "$folder/started" ] && break; sleep 0.05; done
  sleep 0.2
  kill -"$signal" $job
  wait $job
}

bash -n "$script"; check "it is bash" 0 $?
has "the signal goes to the script, before the limit" "#SBATCH --signal=B:USR1@300" "$script"

submit_and USR1 "$folder/config.yaml" --set train.steps=9
check "time limit: exit code" 0 $?
check "the ranks saved, once" saved "$(cat "$folder/saved")"
check "the job was requeued" "requeue 4711" "$(cat "$folder/scontrol" 2>/dev/null)"
check "how ranks are started" "train $folder/config.yaml --resume auto --set train.steps=9 threads 3" \
  "$(cat "$folder/weft-calls")"
has "by mpirun, bound" "mpirun --map-by slot:PE=3 --bind-to core $folder/weft train" "$folder/calls"
has "it says so" "saved and requeued" "$folder/log"

submit_and TERM "$folder/config.yaml"
check "SIGTERM saves too" "0 saved" "$? $(cat "$folder/saved")"

export CODE=0; submit "$folder/config.yaml"
check "a finished run is not requeued" "0 none" "$? $(cat "$folder/scontrol" 2>/dev/null || echo none)"
export CODE=1; submit "$folder/config.yaml"
check "a failed run is not requeued" "1 none" "$? $(cat "$folder/scontrol" 2>/dev/null || echo none)"
export CODE=75 SLURM_RESTART_COUNT=100; submit "$folder/config.yaml"
check "there is an end to requeueing" "75 none" "$? $(cat "$folder/scontrol" 2>/dev/null || echo none)"
unset SLURM_RESTART_COUNT
export SCONTROL_CODE=1; submit "$folder/config.yaml"
check "when scontrol refuses" 75 $?
has "it tells what to do" "submit it again, it will go on" "$folder/log"
unset SCONTROL_CODE
export WEFT_LAUNCHER=srun WEFT_MPI_OPTIONS=--label; submit "$folder/config.yaml"
check "srun: requeued" "0 requeue 4711" "$? $(cat "$folder/scontrol")"
has "srun with PMIx" "srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task=3 --cpu-bind=cores --label" "$folder/calls"
unset CODE WEFT_MPI_OPTIONS
submit_and USR1 "$folder/config.yaml"
check "srun: the ranks saved" "0 saved" "$? $(cat "$folder/saved")"
export WEFT_LAUNCHER=nothing; submit "$folder/config.yaml"
check "another launcher" 2 $?
unset WEFT_LAUNCHER
submit "$folder/none.yaml"
check "no config" 2 $?
has "it says which" "$folder/none.yaml cannot be read" "$folder/log"
WEFT=$folder/none submit "$folder/config.yaml"
check "no program" 2 $?

# The real mpirun must pass the signal on and hand the exit code back.
if command -v mpirun >/dev/null; then
  rm "$folder/bin/mpirun"
  export SLURM_CPUS_PER_TASK=1 WEFT_MPI_OPTIONS="--oversubscribe --bind-to none -np 2"
  unset SLURM_JOB_ID SLURM_NTASKS SLURM_SUBMIT_DIR
  submit_and USR1 "$folder/config.yaml"
  check "real mpirun: exit code (no job to requeue)" 75 $?
  has "real mpirun: saved" saved "$folder/saved"
else
  count=$((count + 1))
  echo "ok $count - real mpirun # SKIP no mpirun"
fi
echo "1..$count"
exit $failed
