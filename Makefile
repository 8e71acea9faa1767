# One command each; `make help` lists them. Needs a Rust toolchain (the least version is
# `rust-version` in Cargo.toml), a C compiler and make.

CARGO ?= cargo
# Flags of the server, for example: make run ARGS="--shards 2 --data-dir /var/lib/ringmq"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help prereqs build run check test doc

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

prereqs:
	@command -v $(CARGO) >/dev/null || { echo "missing: a Rust toolchain, see https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "missing: a C compiler (Debian: apt install gcc)"; exit 1; }

build: prereqs ## Build the optimised binary, target/release/ringmq
	$(CARGO) build --release --locked

run: build ## Run a broker on loopback, data in ./ringmq-data; flags in ARGS
	exec target/release/ringmq server $(ARGS)

check: prereqs ## Format, lints, unit tests: before every commit
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --lib

test: prereqs ## All tests
	$(CARGO) test --locked

doc: prereqs ## Build the documentation of the code, target/doc/ringmq/index.html
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
