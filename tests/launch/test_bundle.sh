#!/usr/bin/env bash
# launch/bundle: unpacked in a fresh folder it runs with an empty environment, on either C library, and in a file
# system that has nothing else; no library comes from outside but the C library's.   timeout=240 alone=yes asan=no
set -u
build=${WEFT_BUILD:-$PWD/build/release}
folder=$(mktemp -d "${TMPDIR:-/tmp}/bundle.XXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
number=0 failed=0
check() { # name, condition's exit status
  number=$((number + 1))
  if [ "$2" -eq 0 ]; then echo "ok $number - $1"; else
    echo "not ok $number - $1"
    tail -n 25 "$folder/said" | sed 's/^/# /'
    failed=1
  fi
}
skip() { number=$((number + 1)); echo "ok $number - $1 # SKIP $2"; }
end() { echo "1..$number"; exit $failed; }

case "$(ompi_info --version 2>/dev/null)" in
  *"Open MPI v4."*) ;;
  *) skip "launch/bundle" "no Open MPI 4 here"; end ;;
esac
# With CUDA a bundle has 0.8 GB more, which are copied but not packed here.
options=(--level 1)
readelf -d "$build/weft" | grep -q libcublasLt && options=(--no-tarball)
launch/bundle --build "$build" --output "$folder/made" "${options[@]}" >"$folder/said" 2>&1
check "it is made" $?
made=$(tail -n 1 "$folder/said")
mkdir "$folder/place"
case $made in
  *.tar.gz) tar -C "$folder/place" -xzf "$made" ;;
  *) mv "$made" "$folder/place/" ;;
esac
check "and unpacked" $?
rm -r "$folder/made"
root=$(echo "$folder"/place/weft-*)
[ -d "$root" ] && [ "$(wc -l <"$root/README")" -le 30 ]
check "one folder with a short README" $?

# A run of two steps, by two ranks, with an empty environment; `at` starts a program of the bundle.
tiny() { # folder of the bundle as programs see it, a folder to work in, command to start programs...
  local bundle=$1 work=$2
  shift 2
  "$@" "$bundle/bin/weft" pack scenes --size 64 --count 48 -q -o "$work/scenes-%05d.h5" &&
    "$@" "$bundle/bin/weft" tokenizer train --vocab-size 300 -o "$work/tokenizer" "$work/scenes-00000.h5" &&
    "$@" "$bundle/bin/mpirun" --allow-run-as-root --oversubscribe -q -np 2 "$bundle/bin/weft" train "$work/recipe.yaml" \
      --quiet --run "$work/run"
}
recipe() { # folder as programs see it
  cat <<RECIPE
run: run
model: {family: fiber, image_size: 32, embed_dim: 16, depths: [1, 1, 2, 1], heads: [1, 1, 2, 2], window: 2,
  text_layers: 2, hidden: 32, text_heads: 2, ffn: 64, vocab: 300, max_text_len: 16, positions: 18, num_fuse: 2}
data: {sets: [{path: "$1/scenes-*.h5"}], image_size: 32, max_text_len: 16}
tokenizer: {path: $1/tokenizer}
objectives: {list: [{type: mlm}, {type: itc}, {type: itm}]}
batch: {global: 4}
optimizer: {lr: 1e-3}
train: {steps: 2}
checkpoint: {every: 2}
RECIPE
}
settings=(OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_hwloc_base_binding_policy=none
  OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive HOME=/ TMPDIR=/tmp)

for libc in host bundle; do
  run=(env -i "${settings[@]}" "WEFT_LIBC=$libc")
  "${run[@]}" "$root/bin/weft" --version >"$folder/said" 2>&1 && grep -q '^weft ' "$folder/said"
  check "weft --version on the C library of the $libc" $?
  # Everything that is loaded, by the loader's own account.
  "${run[@]}" LD_DEBUG=files "$root/bin/weft" --version 2>&1 |
    sed -n 's/.*calling init: \(\/.*\)/\1/p' | sort -u >"$folder/said"
  outside=$(grep -v "^$root/" "$folder/said" |
    grep -vE '/(ld-linux[^/]*|lib(c|m|dl|pthread|rt|resolv|util|mvec|anl)\.so\.[0-9]+)$')
  [ -z "$outside" ] && grep -q "^$root/lib/libmpi.so" "$folder/said"
  check "nothing but the C library comes from outside ($libc)" $?
  if [ $libc = bundle ]; then
    ! grep -v "^$root/" "$folder/said" | grep -q .
    check "and not even that" $?
  fi
done
(cd "$folder" && env -i "${settings[@]}" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
  "$root/bin/weft" doctor "$folder" >"$folder/said" 2>&1)
grep -qE '^ok +launch +two ranks met' "$folder/said" && grep -qE '^ok +hdf5 ' "$folder/said"
check "weft doctor starts two ranks" $?
mkdir "$folder/job"
recipe "$folder/job" >"$folder/job/recipe.yaml"
tiny "$root" "$folder/job" env -i "${settings[@]}" >"$folder/said" 2>&1
check "two ranks train two steps" $?
[ -f "$folder/job/run/checkpoints/step-00000002.h5" ]
check "and leave a checkpoint" $?
ln -s "$root/bin/weft" "$folder/weft-link"
env -i "$folder/weft-link" --version >"$folder/said" 2>&1
check "through a symbolic link" $?
env -i WEFT_LIBC=other "$root/bin/weft" --version >"$folder/said" 2>&1
[ $? -eq 127 ] && grep -q "WEFT_LIBC is 'other', not host or bundle" "$folder/said"
check "a wrong choice of the C library is refused" $?
cp "$root/bin/weft" "$folder/alone"
"$folder/alone" >"$folder/said" 2>&1
[ $? -eq 127 ] && grep -q 'unpack the whole bundle' "$folder/said"
check "a program without its bundle says so" $?
missing=$("$root/bin/ompi_info" --parsable --path all 2>/dev/null | grep -E '^path:(bindir|pkglibdir|pkgdatadir):' |
  grep -cv ":$root/")
[ "$missing" = 0 ]
check "Open MPI looks for its parts in the bundle alone" $?

# A file system of the bundle, /proc, /dev and an empty /tmp: no shell, no library, no /etc.
inside() { # program, arguments...
  unshare --map-root-user --mount bash -c '
    mount --rbind /proc "$1/proc" && mount --rbind /dev "$1/dev" && mount --rbind /sys "$1/sys" || exit 99
    shift; exec chroot "$@"' - "$folder/bare" "$folder/bare" "$@"
}
bare=$folder/bare
mkdir -p "$bare"/{proc,dev,sys,tmp,job,etc}
mv "$root" "$bare/weft"
if ! unshare --map-root-user --mount true 2>/dev/null || ! inside /weft/bin/weft --version >"$folder/said" 2>&1 &&
  grep -qiE 'permission|not permitted' "$folder/said"; then
  skip "in an empty file system" "no user namespaces with chroot here"
  end
fi
inside /weft/bin/weft --version >"$folder/said" 2>&1
check "weft --version in an empty file system" $?
recipe /job >"$bare/job/recipe.yaml"
# There is no env in there: the variables are set outside.
start() { (unset LD_LIBRARY_PATH; export PATH=/usr/bin:/bin:/usr/sbin:/sbin "${settings[@]}"; inside "$@"); }
tiny /weft /job start >"$folder/said" 2>&1
check "two ranks train in an empty file system" $?
start /weft/bin/weft doctor /job --no-launch >"$folder/said" 2>&1
grep -qE '^ok +onednn ' "$folder/said"
check "weft doctor in an empty file system" $?
end
