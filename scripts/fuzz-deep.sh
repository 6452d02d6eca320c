#!/bin/sh
# fuzz-deep.sh [TARGET] [SECONDS]: gives the targets of `tribox::fuzz`, or one of them, inputs that libFuzzer
# makes up: it sees which code an input reaches, and goes on from those that reached something new.
# It begins with tests/corpus, which it does not change. What it finds goes to target/fuzz: inputs to
# corpus/TARGET, where the next run takes them up, and those that break something to artifacts/TARGET.
set -eu
cd "$(dirname "$0")/.."
CARGO_FUZZ=0.13.2
TARGETS=${1:-$(ls tests/corpus)}
SECONDS_EACH=${2:-30}
# What an address sanitizer looks for is not in safe code, and tribox has one unsafe expression, which no
# target reaches; all would be built and run at half the speed. `SANITIZER=address` uses it nevertheless.
SANITIZER=${SANITIZER:-none}

say() { printf 'fuzz-deep: %s\n' "$*" >&2; }

for target in $TARGETS; do
    if [ ! -d "tests/corpus/$target" ]; then
        say "there is no target $target; there are:" $(ls tests/corpus)
        exit 1
    fi
done
if ! command -v c++ >/dev/null 2>&1; then
    say "libFuzzer is C++, and there is no c++; on Debian: apt-get install g++"
    exit 1
fi
if ! rustup toolchain list | grep -q '^nightly'; then
    say "installing a nightly Rust"
    rustup --quiet toolchain install nightly --profile minimal
fi
if ! .tools/bin/cargo-fuzz --version 2>/dev/null | grep -q " $CARGO_FUZZ\$"; then
    say "installing cargo-fuzz $CARGO_FUZZ into .tools"
    cargo install --quiet --locked --root .tools "cargo-fuzz@$CARGO_FUZZ"
fi

# As it is shipped: without `cfg(fuzzing)`, by which libraries leave checks out.
say "building, which takes minutes the first time"
PATH=$PWD/.tools/bin:$PATH cargo +nightly fuzz build --fuzz-dir tests/fuzz --dev --sanitizer "$SANITIZER" \
    --no-cfg-fuzzing --target-dir "$PWD/target/fuzz/build"
host=$(rustc -vV | sed -n 's/^host: //p')
program=target/fuzz/build/$host/debug/targets

count=0 inputs=0 crashes=0
for target in $TARGETS; do
    found=target/fuzz/corpus/$target
    artifacts=target/fuzz/artifacts/$target
    log=target/fuzz/$target.log
    mkdir -p "$found" "$artifacts"
    broken=
    TRIBOX_FUZZ_TARGET=$target "$program" "$found" "tests/corpus/$target" -max_total_time="$SECONDS_EACH" \
        -max_len=65536 -timeout=60 -dict=tests/fuzz/words.dict -artifact_prefix="$artifacts/" \
        -print_final_stats=1 >"$log" 2>&1 || broken=1
    run=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf '%10s inputs: %s\n' "${run:-0}" "$target"
    count=$((count + 1)) inputs=$((inputs + ${run:-0}))
    [ "$broken" ] || continue
    crashes=$((crashes + 1))
    # The first words of what went wrong, and where the input is.
    grep -m 1 -A 1 -E 'panicked at|^==[0-9]+== ?ERROR|ALARM' "$log" || tail -n 3 "$log"
    grep -o "$artifacts/[a-z]*-[0-9a-f]*" "$log" | head -n 1
    printf 'once more: TRIBOX_FUZZ_TARGET=%s %s FILE; all it said: %s\n' "$target" "$program" "$log"
done
printf 'targets: %s, inputs run: %s, crashes: %s\n' "$count" "$inputs" "$crashes"
[ "$crashes" = 0 ]
