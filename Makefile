# make run      install what is missing, build, and serve with a simulated fleet
# make test     install what is missing, and run everything that CI runs

export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: run test build fmt lint bench bench-quick clean

run: build
	target/release/forebay run --quickstart

test:
	@scripts/test

build:
	scripts/setup build
	cargo build --locked --release

fmt:
	cargo fmt

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

# Compares Forebay with bare Pingora and nginx; see bench/README.md.
bench:
	scripts/setup bench
	bench/run

bench-quick:
	scripts/setup bench
	bench/run --quick

clean:
	cargo clean
	rm -rf .cache tests/sdk/node_modules
