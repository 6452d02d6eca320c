#!/bin/sh
# Builds the guests in Python, JavaScript and TypeScript into target/guests, and installs what builds them into
# .tools: from PyPI and npm, pinned. Says nothing when all is there. Where a toolchain cannot be had
# that is said and skipped; with --require it is an error.
set -eu
cd "$(dirname "$0")/.."
REQUIRE=${1:-}

have() { command -v "$1" >/dev/null 2>&1; }

skip() {
    if [ "$REQUIRE" = --require ]; then
        printf 'languages: %s\n' "$*" >&2
        exit 1
    fi
    printf 'languages: skipped: %s\n' "$*" >&2
}

# The pinned version that a guest of this repository asks for.
COMPONENTIZE_PY=$(sed 's/.*==//' guests/python-items/requirements.txt)
npm_version() { sed -n "s/.*\"$1\": \"\(.*\)\".*/\1/p" guests/typescript-items/package.json; }
COMPONENTIZE_QJS=$(npm_version componentize-qjs)
TYPESCRIPT=$(npm_version typescript)

python_toolchain() {
    stamp=.tools/python/componentize-py-$COMPONENTIZE_PY
    [ -e "$stamp" ] && return 0
    printf 'languages: installing componentize-py %s into .tools/python\n' "$COMPONENTIZE_PY" >&2
    .tools/python/bin/python -m pip install --quiet --disable-pip-version-check \
        "componentize-py==$COMPONENTIZE_PY" || return 1
    touch "$stamp"
}

javascript_toolchain() {
    stamp=.tools/javascript/componentize-qjs-$COMPONENTIZE_QJS-typescript-$TYPESCRIPT
    [ -e "$stamp" ] && have node && return 0
    have npm || return 1
    printf 'languages: installing componentize-qjs %s and typescript %s into .tools/javascript\n' \
        "$COMPONENTIZE_QJS" "$TYPESCRIPT" >&2
    npm install --silent --no-audit --no-fund --no-save --prefix .tools/javascript \
        "componentize-qjs@$COMPONENTIZE_QJS" "typescript@$TYPESCRIPT" >/dev/null || return 1
    touch "$stamp"
}

# build LANGUAGE NAME COMMAND...: runs the command in a copy of the guest as a project has it, without
# links, unless what was built last is newer than everything it is made of.
build() {
    guest=$1-$2
    built=target/guests/$guest.wasm
    if [ -e "$built" ] &&
        [ -z "$(find -L "guests/$guest" wit -type f -newer "$built")" ]; then
        return 0
    fi
    place=target/guests/$guest
    name=$2
    shift 2
    rm -rf "$place"
    mkdir -p target/guests
    cp -RL "guests/$guest" "$place"
    (cd "$place" && "$@" >/dev/null)
    mv "$place/build/$name.wasm" "$built"
}

if python_toolchain; then
    for name in items accounts; do
        build python "$name" make COMPONENTIZE="$PWD/.tools/python/bin/componentize-py"
    done
else
    skip "componentize-py cannot be installed from PyPI: no guests in Python"
fi

if javascript_toolchain; then
    PATH=$PWD/.tools/javascript/node_modules/.bin:$PATH
    export PATH
    for name in items accounts; do
        build javascript "$name" npm run --silent build
        build typescript "$name" npm run --silent build
    done
else
    skip "node with npm is not here, or npm cannot install: no guests in JavaScript and TypeScript"
fi
