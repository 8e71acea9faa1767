#!/bin/sh
# What `make test` needs besides Rust and C: installs it where it may, names it where it may not.
# Only Python is required; a client whose tool is missing is skipped by name.
set -eu

debian() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# need TEST PACKAGE WHAT: run TEST; if it fails, install PACKAGE; say WHAT is missing if that is not possible.
need() {
    if sh -c "$1" >/dev/null 2>&1; then return 0; fi
    if debian; then
        echo "installing $2"
        { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy "$2"; } >/dev/null || true
        if sh -c "$1" >/dev/null 2>&1; then return 0; fi
    fi
    echo "missing: $3 (Debian: apt install $2)"
    return 1
}

need 'python3 -c "import sys; sys.exit(sys.version_info < (3, 10))"' python3 "Python 3.10, which runs the suites"
need 'python3 -c "import ensurepip, venv"' python3-venv "Python's venv, for the clients in Python" || true
need 'command -v kcat || command -v kafkacat' kcat "kcat; its cases are skipped" || true
command -v go >/dev/null || echo "missing: Go, see https://go.dev/dl; franz-go, sarama and the crash loops are skipped"
{ command -v node && command -v npm; } >/dev/null || echo "missing: Node.js with npm, see https://nodejs.org; kafkajs is skipped"
{ command -v javac && command -v mvn; } >/dev/null ||
    echo "missing: a JDK with Maven (Debian: apt install default-jdk-headless maven); the Java client and Kafka's tools are skipped"
