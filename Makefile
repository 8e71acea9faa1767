# One command each; `make help` lists them. Needs a Rust toolchain (the least version is
# `rust-version` in Cargo.toml), a C compiler and make; what else a target needs it installs or names.

CARGO ?= cargo
# Flags of the server, for example: make run ARGS="--shards 2 --data-dir /var/lib/ringmq"
ARGS ?=
RELEASE_BIN := $(or $(CARGO_TARGET_DIR),target)/release/ringmq

.DEFAULT_GOAL := help
.PHONY: help prereqs prereqs-test build run check lint test test-cargo fuzz bench bench-scenarios bench-truth bench-groups doc clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- The program ---

prereqs:
	@command -v $(CARGO) >/dev/null || { echo "missing: a Rust toolchain, see https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "missing: a C compiler (Debian: apt install gcc)"; exit 1; }

# Cargo knows whether it is up to date, make does not: asked every time.
# The revision stands in every result of `ringmq bench`.
$(RELEASE_BIN): prereqs
	RINGMQ_REVISION="$$(git describe --always --dirty 2>/dev/null)" $(CARGO) build --release --locked

build: $(RELEASE_BIN) ## Build the optimised binary, target/release/ringmq

run: $(RELEASE_BIN) ## Run a broker on loopback, data in ./ringmq-data; flags in ARGS
	exec $(RELEASE_BIN) server $(ARGS)

# --- Tests; docs/TESTING.md says what each of them proves ---

check: lint ## Format, lints, unit tests: before every commit
	$(CARGO) test --locked --lib

# Two components of a Rust toolchain; one that lacks them skips them by name, as tests/prereqs.sh does with tools.
lint: prereqs
	@tests/prereqs.sh --has rustfmt || exit 0; set -x; $(CARGO) fmt --check
	@tests/prereqs.sh --has clippy || exit 0; set -x; $(CARGO) clippy --locked --all-targets -- -D warnings

# In this order on purpose: what fails soonest and cheapest comes first.
test: prereqs-test ## Everything that must pass: lints, cargo's tests, real clients (short), the real kernel, crashes
	$(MAKE) --no-print-directory bench-peers-test
	$(MAKE) --no-print-directory lint
	$(MAKE) --no-print-directory test-cargo
	$(MAKE) --no-print-directory bench-truth
	$(MAKE) --no-print-directory conform-short
	$(MAKE) --no-print-directory system
	$(MAKE) --no-print-directory crash
	$(MAKE) --no-print-directory crash-groups
	@tests/prereqs.sh --skipped

test-cargo: prereqs
	$(CARGO) test --locked

# Python runs the suites. What needs another tool is skipped by name without it; with CI=true it must run.
prereqs-test: prereqs
	@tests/prereqs.sh

# Other mutants each time; a failure leaves its input in the corpus, so the seed need not be remembered.
FUZZ_SEED ?= $(shell date +%s)
FUZZ_SECONDS ?= 60
TARGET ?=
fuzz: prereqs ## Throw hostile bytes at each parser, or at TARGET, for FUZZ_SECONDS (60)
	RINGMQ_FUZZ_SEED=$(FUZZ_SEED) RINGMQ_FUZZ_SECONDS=$(FUZZ_SECONDS) \
		$(CARGO) test --locked --test fuzz -- $(if $(TARGET),--exact targets::$(TARGET),targets::)

# conform, conform-short, crash, crash-groups, soak
include tests/conformance/conform.mk
# system
include tests/system/system.mk
# sim, sim-mutants
-include tests/simulation/sim.mk

# --- The rest ---

# Must be on the file system to be judged, with 30 GB free.
BENCH_DIR ?= ./ringmq-bench
bench: $(RELEASE_BIN) ## Measure the rows of benches/README.md in BENCH_DIR; flags in ARGS
	mkdir -p $(BENCH_DIR)
	$(RELEASE_BIN) bench table --dir $(BENCH_DIR) $(ARGS)

# Each against a broker of its own; goes on after a failure, and fails at the end.
SCENARIOS := steady burst sweep find-max fan-out catch-up many-partitions many-connections slow-consumer \
	restart-under-load
SCENARIO_LOAD := --partitions 4 --connections 4 --rate 20k --seconds 15
# Each plays the sweep once.
SWEEPS := rate=10k,20k,50k,100k record-bytes=100,1KiB,16KiB partitions=1,10,100 connections=4,16,64
# In cargo's tests it runs for three seconds.
bench-truth: prereqs ## A stall of 1.4 s in 30 s: the load generator's percentiles against arithmetic
	$(CARGO) test --locked --test bench -- --ignored truth

bench-scenarios: $(RELEASE_BIN) ## Play every scenario of `ringmq bench`; reports in ./ringmq-bench-results
	@failed=; play() { echo "== $$*"; name=$$1; shift; \
		$(RELEASE_BIN) bench --scenario $$name --label $$name $(SCENARIO_LOAD) "$$@" --quiet $(ARGS) || failed="$$failed $$name"; }; \
	for name in $(SCENARIOS); do \
		if [ $$name = sweep ]; then for sweep in $(SWEEPS); do play sweep --sweep $$sweep; done; else play $$name; fi; \
	done; [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

bench-groups: $(RELEASE_BIN) ## What groups and idle connections cost; needs Go
	python3 benches/groups/run.py --binary $(RELEASE_BIN) $(ARGS)

# bench-peers, bench-peers-full
include benches/peers/peers.mk

doc: prereqs ## Build the documentation of the code, target/doc/ringmq/index.html
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

clean: ## Remove everything that was built, the clients' environments too; not ./ringmq-data
	$(CARGO) clean
