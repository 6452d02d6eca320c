#!/bin/sh
# every-mutant.sh [DIRECTORY...]: tries whatever cargo-mutants would write otherwise in these directories
# of host/src (lane and relay, where none is given), with the host's own tests and the simulation
# (tests/mutants/every.rs).
set -eu
cd "$(dirname "$0")/.."
CARGO_MUTANTS=27.1.0

say() { printf 'every-mutant: %s\n' "$*" >&2; }

if ! .tools/bin/cargo-mutants mutants --version 2>/dev/null | grep -q " $CARGO_MUTANTS\$"; then
    say "installing cargo-mutants $CARGO_MUTANTS into .tools"
    cargo install --quiet --locked --root .tools "cargo-mutants@$CARGO_MUTANTS"
fi
[ $# -gt 0 ] || set -- lane relay
for directory; do
    shift
    if [ ! -d "host/src/$directory" ]; then
        say "there is no host/src/$directory"
        exit 1
    fi
    set -- "$@" --file "host/src/$directory/**"
done
mkdir -p target/mutants
.tools/bin/cargo-mutants mutants --list --json --package tribox "$@" >target/mutants/list.json
cargo run --quiet -p tribox-tests --bin mutants -- target/mutants/list.json
