#!/bin/sh
# Installs the pinned cargo component into .tools, where the test of it looks first. Says nothing
# when it is there.
set -eu
cd "$(dirname "$0")/.."
VERSION=0.21.1
# What it builds for; it makes a component of the result by itself.
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip1" ]; then
    rustup --quiet target add wasm32-wasip1
fi
program=.tools/bin/cargo-component
[ -x "$program" ] && "$program" --version | grep -q "$VERSION" && exit 0
if command -v cargo-component >/dev/null 2>&1; then exit 0; fi
printf 'installing cargo component %s into .tools: 12 minutes on two cores\n' "$VERSION" >&2
cargo install --quiet --locked --root .tools "cargo-component@$VERSION"
