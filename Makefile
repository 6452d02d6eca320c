# Each target has one line of help: `make` shows them.

# The guests that tests and the demo load, built as components.
GUESTS := accounts orders items bookings baskets purchases stock chaos chaos-mended frozen actor keys bare load \
	hop-a hop-b hop-c book
GUEST_PACKAGES := $(addprefix -p ,$(GUESTS))
COMPONENT_TARGET := wasm32-wasip2

# Many tests start servers of their own: few at a time go faster than all at once.
export RUST_TEST_THREADS ?= 3
export CARGO_TERM_COLOR ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup guests languages test-languages host release demo test faults disasters soak mutants every-mutant simulate model fuzz fuzz-deep coverage bench lint fmt \
	test-cargo-component clean-tools

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' Makefile

setup: ## Install what is missing: the wasm target, Postgres, nats-server, a Python environment
	@sh scripts/setup.sh

guests: setup ## Build the example handlers as components
	cargo build --quiet --release --target $(COMPONENT_TARGET) $(GUEST_PACKAGES)

languages: setup ## Build the example handlers in Python, JavaScript and TypeScript, where their toolchains can be had
	@sh scripts/languages.sh

# Together with the tests, so that both use the same build of every library.
host: setup ## Build tribox itself
	cargo build -p tribox -p tribox-tests --bin tribox

release: setup ## Build tribox as it is shipped, and see that no fault point is in it
	cargo build --release -p tribox
	@if grep -q TRIBOX_FAULT target/release/tribox; then echo "a fault point is in it" >&2; exit 1; fi

demo: guests host ## See it work: 20,000 commands, duplicates, a kill -9, and the books still balance
	cargo run --quiet -p tribox-tests --bin demo -- $(DEMO)

test: guests languages host ## Run all tests, against real servers that they start themselves
	cargo test -p tribox -p tribox-tests
	cargo test -p tribox-model
	cargo test $(GUEST_PACKAGES) -p tribox-guest

faults: guests host ## Have each thing go wrong, and each connection break, at each fault point (POINTS=after-commit: those alone)
	TRIBOX_POINTS=$(POINTS) cargo test -p tribox-tests --test suite faults -- --nocapture

disasters: guests host ## Kill, stop and freeze hosts and servers at random (RUNS=n SEED=s); the ledger must be clean
	TRIBOX_DISASTERS=$(or $(RUNS),10) TRIBOX_SEED=$(or $(SEED),1) \
		cargo test -p tribox-tests --test suite disasters -- --nocapture

soak: guests release ## Load for a long time with a disaster each half minute; nothing may grow (MINUTES=n RATE=n SEED=s)
	TRIBOX_SOAK_MINUTES=$(or $(MINUTES),60) TRIBOX_SOAK_RATE=$(or $(RATE),5000) TRIBOX_SEED=$(or $(SEED),1) \
		TRIBOX_BIN=$(CURDIR)/target/release/tribox cargo test -p tribox-tests --test suite soak -- --nocapture

simulate: ## Run the real lanes, relay and leases in a simulated world (SEEDS=n FROM=s; TRACE=1 shows the first)
	TRIBOX_SEEDS=$(or $(SEEDS),10000) TRIBOX_FROM=$(or $(FROM),1) TRIBOX_TRACE=$(TRACE) \
		cargo test -p tribox-tests --test simulation the_guarantees_hold -- --nocapture

mutants: guests host ## Take out one safety rule at a time; some test must turn red (RULES=fence: those alone)
	RULES="$(RULES)" cargo run --quiet -p tribox-tests --bin mutants

every-mutant: ## Try whatever cargo-mutants would write otherwise in lane and relay (IN="node store": there; SEEDS=n)
	@SEEDS="$(SEEDS)" SUITE="$(SUITE)" sh scripts/every-mutant.sh $(IN)

model: ## Check the model of the protocol with larger bounds, and show the shortest way to each broken promise
	TRIBOX_MODEL=1 cargo test --release -p tribox-model -- --nocapture --test-threads 1

fuzz: guests ## Give whatever takes apart what others send more inputs (TIMES=n SEED=s)
	TRIBOX_FUZZ=$(or $(TIMES),20) TRIBOX_SEED=$(or $(SEED),2) \
		cargo test -p tribox-tests --test suite fuzz -- --nocapture

fuzz-deep: ## The same, led by the code that an input reaches: cargo-fuzz, nightly Rust (TARGET=json: that alone; SECONDS=n)
	@SANITIZER=$(SANITIZER) sh scripts/fuzz-deep.sh "$(TARGET)" "$(SECONDS)"

coverage: guests languages ## Count the lines of the host that tests run (TESTS=order: those of the suite alone)
	@sh scripts/coverage.sh $(TESTS)

bench: guests ## Measure tribox beside a hand-written service (QUICK=1: a short run; SWEEPS=1: one thing varied)
	cargo build --release -p tribox -p tribox-tests --bin tribox --bin bench
	TRIBOX_BIN=$(CURDIR)/target/release/tribox target/release/bench \
		$(if $(QUICK),--quick) $(if $(SWEEPS),--sweeps $(filter-out 1,$(SWEEPS)))

lint: setup ## Check formatting, clippy with warnings as errors, and cargo deny where it is installed
	cargo fmt --all --check
	cargo clippy -p tribox -p tribox-tests --all-targets -- -D warnings
	cargo clippy -p tribox-model --all-targets -- -D warnings
	cargo clippy $(GUEST_PACKAGES) -p tribox-guest --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	else echo "cargo deny is not installed: skipped"; fi

fmt: ## Format all Rust sources
	cargo fmt --all

test-cargo-component: guests host ## Install cargo component (takes 12 minutes) and test guests built by it
	sh scripts/cargo-component.sh
	TRIBOX_REQUIRE_CARGO_COMPONENT=1 cargo test -p tribox-tests cargo_component

test-languages: guests host ## Test the handlers in Python, JavaScript and TypeScript, and require their toolchains
	sh scripts/languages.sh --require
	TRIBOX_REQUIRE_LANGUAGES=1 cargo test -p tribox-tests languages

clean-tools: ## Remove what setup put into .tools
	rm -rf .tools
