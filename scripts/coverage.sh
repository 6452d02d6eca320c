#!/bin/sh
# coverage.sh [TEST...]: which lines of the host do the tests run: its unit tests, the simulation, and the
# suite (or those of its tests that have one of the words in their names), which starts the program as
# its own processes? Everything is built with counters into target/coverage/build, apart from the
# usual build; the report is target/coverage/html/index.html.
set -eu
cd "$(dirname "$0")/.."
LLVM_COV=0.9.1
ROOMS="lane store stream relay node sandbox"

say() { printf 'coverage: %s\n' "$*" >&2; }

if ! ls "$(rustc --print sysroot)"/lib/rustlib/*/bin/llvm-cov >/dev/null 2>&1; then
    say "adding the Rust component llvm-tools"
    rustup --quiet component add llvm-tools
fi
if ! .tools/bin/cargo-llvm-cov llvm-cov --version 2>/dev/null | grep -q " $LLVM_COV\$"; then
    say "installing cargo-llvm-cov $LLVM_COV into .tools"
    cargo install --quiet --locked --root .tools "cargo-llvm-cov@$LLVM_COV"
fi

top=$PWD
out=$top/target/coverage
mkdir -p "$out/build"
rm -f "$out"/build/*.profraw

# with_counters COMMAND...: in the environment in which cargo builds with counters and finds what they
# counted. The tests themselves do not run in it: some of them build components. The flag lets the
# counters be where `%c` below wants them.
with_counters() (
    CARGO_TARGET_DIR=$out/build
    PATH=$top/.tools/bin:$PATH
    export CARGO_TARGET_DIR PATH
    eval "$(cargo llvm-cov show-env --sh 2>/dev/null)"
    RUSTFLAGS=-Cllvm-args=-runtime-counter-relocation
    export RUSTFLAGS
    "$@"
)

say "building with counters"
with_counters cargo build --quiet -p tribox -p tribox-tests --bin tribox
with_counters cargo test --quiet --no-run --message-format=json -p tribox -p tribox-tests \
    --lib --test suite --test simulation >"$out/built.json"
# The program that was made of a test.
built() { sed -n "s|.*\"executable\":\"\\([^\"]*/$1-[0-9a-f]*\\)\".*|\\1|p" "$out/built.json"; }

# All processes count in a few files that they have in their memory (`%c`): so what one did before a
# `kill -9` counts as well.
LLVM_PROFILE_FILE=$(with_counters sh -c 'echo "${LLVM_PROFILE_FILE%-%p*}"')-%c%8m.profraw
TRIBOX_BIN=$out/build/debug/tribox
export LLVM_PROFILE_FILE TRIBOX_BIN
red=
unit=$(built tribox) simulation=$(built simulation) suite=$(built suite)
say "unit tests" && (cd host && "$unit" --quiet) || red="$red unit"
say "simulation" && (cd tests && "$simulation" --quiet) || red="$red simulation"
say "suite" && (cd tests && "$suite" --quiet "$@") || red="$red suite"
unset LLVM_PROFILE_FILE

# Of each file, the lines up to its tests.
with_counters cargo llvm-cov report --lcov --ignore-filename-regex '(_tests|/tests|properties)\.rs$' \
    --output-path "$out/lcov.info"
with_counters cargo llvm-cov report --html --output-dir "$out" >/dev/null
awk -v top="$top/host/src/" -v rooms="$ROOMS" '
    /^SF:/ {
        file = substr($0, 4)
        room = index(file, top) == 1 ? substr(file, length(top) + 1) : ""
        sub("/.*", "", room)
        end = 0
        marked = 0
        for (n = 1; (getline text < file) > 0; n++) {
            if (marked && text ~ /^mod [a-z_]+ \{/) { end = n; break }
            if (text !~ /^#\[/) marked = 0
            if (text == "#[cfg(test)]") marked = 1
        }
        close(file)
    }
    /^DA:/ {
        split(substr($0, 4), pair, ",")
        if (end && pair[1] + 0 >= end) next
        lines[room]++
        if (pair[2] > 0) run[room]++
    }
    function show(name, lines, run) {
        printf "%-8s %6d of %6d lines: %5.1f %%\n", name, run, lines, lines ? 100 * run / lines : 0
    }
    END {
        count = split(rooms, each, " ")
        for (n = 1; n <= count; n++) {
            show(each[n], lines[each[n]], run[each[n]])
            all += lines[each[n]]
            all_run += run[each[n]]
        }
        show("together", all, all_run)
    }' "$out/lcov.info"
if [ "$red" ]; then
    say "some tests failed, and what they would have run is not counted:$red"
    exit 1
fi
