# The everyday commands; `make help` lists them, V=1 shows what they run.

Q := $(if $(V),,@)
BUILT := $(or $(CARGO_TARGET_DIR),target)/$(if $(TARGET),$(TARGET)/)release
PACKAGE := dist/$(if $(TARGET),$(TARGET)/)l3af_traffic_mirroring.tar.gz
# that programs load, what rules match, and that copies arrive
BASIC_TESTS := mirrored:: objects:: gue:: gue6:: rules:: update:: whole::
# with no shared library, so that it runs on hosts that have another libc, or an older one, than this
RUSTC := rustc --locked --release --bin mirroring -- -C target-feature=+crt-static

.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: build setup demo test test-l3afd test-kernels test-arm64 test-clang bench check package publish payload clean help

build: ## Build the release binary and the tc programs [TARGET=aarch64-unknown-linux-gnu]
	$(Q)$(if $(TARGET),scripts/cross $(TARGET),cargo) $(RUSTC)

setup: ## Install what is missing for the below, guests apart (Debian, Ubuntu)
	$(Q)scripts/setup

demo: setup ## Mirror real traffic between network namespaces, and show it
	$(Q)cargo build --locked --release --bins --examples
	$(Q)scripts/demo $(BUILT)/mirroring

test: setup check ## Run all checks and tests; as root, also those that need it; KERNELS= leaves out guests
	$(Q)scripts/test

test-l3afd: ## Launch the package as l3afd does, under traffic: [L3AFD=<path> FILTER=Chain PICTURE=<path>.svg]
	$(Q)scripts/test-l3afd

test-kernels: ## Run the tests in guests with other kernels: [KERNELS="5.10 6.1" FILTER=fixture]
	$(Q)scripts/test-kernels

test-arm64: ## Run the basic tests with the package for arm64, in guests with pages of 4 and 16 KiB: [KERNELS= FILTER=]
	$(Q)ARCH=arm64 FILTER="$(or $(FILTER),$(BASIC_TESTS))" scripts/test-kernels

test-clang: ## Compile the tc programs with every clang here from 13 on, load and test them: [CLANGS="14 22" FILTER=gue]
	$(Q)scripts/test-clang

bench: ## Measure what mirroring costs: [BENCH=quick JSON=<path> PLOT=<path>.svg]
	$(Q)scripts/setup bench
	$(Q)cargo bench --locked --bench mirroring -- $(if $(filter quick,$(BENCH)),--quick) \
		--json=$(abspath $(or $(JSON),target/bench.json)) $(if $(PLOT),--plot=$(abspath $(PLOT)))

# (of test, too: with another value the tc programs, and what has them in it, would be built again)
check test: export WERROR := 1
check: ## Check format and lint: rustfmt, clang-format, shellcheck, clippy
	$(Q)cargo fmt --check
	$(Q)clang-format --dry-run --Werror bpf/*.[ch] tests/l3afd/bpf/*.[ch]
	$(Q)shellcheck scripts/* .ci/run
	$(Q)cargo clippy --locked --all-targets -- -D warnings

package: build ## Write dist/[TARGET/]l3af_traffic_mirroring.tar.gz [TARGET=aarch64-unknown-linux-gnu]
	$(Q)scripts/package $(BUILT) $(PACKAGE)

publish: $(if $(REPO),package) ## Add the package to an l3afd repository: REPO=<dir> [VERSION= PLATFORM=]
	$(Q)scripts/publish $(PACKAGE)

payload: ## Print a payload for l3afd: IFACE=eth0 [COLLECTOR= REDIRECT_TO= DIRECTION= STYLE= ...]
	$(Q)scripts/payload

clean: ## Remove all that was built
	$(Q)cargo clean
	$(Q)rm -rf dist

help: ## List these targets
	$(Q)sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1 \2/p' $(MAKEFILE_LIST) | \
		while read -r target text; do printf '%-14s%s\n' "$$target" "$$text"; done
