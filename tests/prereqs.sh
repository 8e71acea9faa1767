#!/bin/sh
# What `make test` needs besides Rust and C: installs it where it may, names it where it may not.
#
#     tests/prereqs.sh             before the tests
#     tests/prereqs.sh --skipped   after them: what did not run for want of a tool
#     tests/prereqs.sh --has TOOL  whether it is there
#
# Python is required. What needs another tool that is missing is skipped by name; with CI=true it must run, so
# that a missing one is an error.
set -eu

mode=${1-}
missing=

# As root, or with a sudo that asks nothing.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@" </dev/null; fi
}
may_install() { command -v apt-get >/dev/null && as_root true 2>/dev/null; }

# The number that a version begins with.
number() { printf %s "${1%%[!0-9]*}"; }

has_python() { python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; }
has_venv() { python3 -c 'import ensurepip, venv'; }
has_kcat() { command -v kcat || command -v kafkacat; }
# Since 1.21 it fetches the version that a module asks for.
has_go() { version=$(go env GOVERSION) && [ "$(number "${version#go1.}")" -ge 21 ]; }
has_node() { command -v node && npm --version; }
has_java() { version=$(javac -version 2>&1) && [ "$(number "${version#javac }")" -ge 17 ]; }
has_maven() { command -v mvn; }
has_rustfmt() { ${CARGO:-cargo} fmt --version; }
has_clippy() { ${CARGO:-cargo} clippy --version; }
has_mkfs() { PATH="$PATH:/usr/sbin:/sbin" command -v "mkfs.${1-ext4}"; }
has_mkfs_xfs() { has_mkfs xfs; }
has_mkfs_btrfs() { has_mkfs btrfs; }

if [ "$mode" = --has ]; then
    "has_$2" >/dev/null 2>&1
    exit
fi

# need TOOL PACKAGES WHAT SKIPPED: unless has_TOOL, install the Debian PACKAGES; if that is not possible, say that
# WHAT is missing, and what is SKIPPED without it.
need() {
    if "has_$1" >/dev/null 2>&1; then return 0; fi
    if [ "$mode" = --skipped ]; then
        missing="$missing
  SKIPPED: $4 (no $3)"
        return 0
    fi
    # A component of the toolchain is rustup's.
    if may_install && [ "$2" != - ]; then
        echo "installing $2"
        { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive apt-get satisfy -qy "$2"; } >/dev/null || true
        if "has_$1" >/dev/null 2>&1; then return 0; fi
    fi
    echo "missing: $3$([ "$2" = - ] || echo " (Debian: $2)"); without it these are skipped: $4"
    missing="$missing $1"
}

need rustfmt - "rustfmt, see \`rustup component add rustfmt\`" "the check of the format"
need clippy - "clippy, see \`rustup component add clippy\`" "the lints"
need python "python3 (>= 3.10)" "Python 3.10" "all suites but cargo's"
need venv "python3-venv" "Python's venv" "the clients in Python"
need kcat "kcat" "kcat" "kcat's cases"
need go "golang-go (>= 2:1.21~)" "Go 1.21, see https://go.dev/dl" "the crash loops (kill -9 under load), franz-go, sarama"
need node "nodejs, npm" "Node.js with npm, see https://nodejs.org" "kafkajs"
need java "default-jdk-headless (>= 2:1.17) | openjdk-17-jdk-headless" "JDK 17" "the Java clients, Kafka's tools, HdrHistogram's tool"
need maven "maven" "Maven" "the Java clients, Kafka's tools, HdrHistogram's tool"
need mkfs "e2fsprogs" "mkfs.ext4" "full disks, flushes counted on a device of its own"
need mkfs_xfs "xfsprogs" "mkfs.xfs" "the same on XFS"
need mkfs_btrfs "btrfs-progs" "mkfs.btrfs" "that a copy-on-write file system is refused"

if [ "$mode" = --skipped ]; then
    if [ -n "$missing" ]; then
        printf '\nNOT EVERYTHING WAS TESTED:%s\n' "$missing"
    fi
    exit 0
fi
case "${CI-}:$missing" in
*:) ;;
true:*) echo "with CI=true everything must run; missing:$missing" && exit 1 ;;
*:*" python"*) exit 1 ;;
esac
