# The everyday commands. `make help` lists them. With V=1, make shows what they run.

Q := $(if $(V),,@)
# Runs what needs no root as the user: with `sudo make`, the user has Rust, and what is built is to belong to them.
AS_USER := scripts/as-user

# The vendored C libraries do not build in a path with a space.
ifneq ($(words _$(CURDIR)_),1)
ifndef CARGO_TARGET_DIR
export CARGO_TARGET_DIR := $(shell $(AS_USER) sh -c \
	'echo "$${XDG_CACHE_HOME:-$$HOME/.cache}/traffic-mirroring/$$(pwd | md5sum | head -c 8)"')
# not on stdout, which may be a payload
$(shell echo "make: this path has a space; what is built goes to $(CARGO_TARGET_DIR)" >&2)
endif
endif
ifneq ($(words _$(CARGO_TARGET_DIR)_),1)
$(error "$(CARGO_TARGET_DIR)" has a space, where libbpf does not build; give another CARGO_TARGET_DIR)
endif
BUILT := $(or $(CARGO_TARGET_DIR),target)/$(if $(TARGET),$(TARGET)/)release
PACKAGE := dist/$(if $(TARGET),$(TARGET)/)l3af_traffic_mirroring.tar.gz
# The part of scripts/setup with the arm64 compiler, if TARGET needs it.
CROSS := $(if $(filter aarch64-%,$(filter-out $(shell uname -m)-%,$(TARGET))),cross)
# The tests that programs load, that copies arrive, and that an update changes what is mirrored.
BASIC_TESTS := delivery:: objects:: encap_ipv6:: update_command:: oversize_copies::
# Linked statically, so that it runs on hosts with another libc, or an older one.
RUSTC := rustc --locked --release --bin mirroring -- -C target-feature=+crt-static

.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: build setup demo bench check manual package publish payload clean help
.PHONY: test test-l3afd test-kernels test-arm64 test-clang test-fresh

build: ## Build the release binary and the tc programs [TARGET=aarch64-unknown-linux-gnu]
	$(Q)scripts/setup --check build $(CROSS)
	$(Q)$(AS_USER) $(if $(TARGET),scripts/cross $(TARGET),cargo) $(RUSTC)

setup: ## Install what is missing for the below, guests apart (Debian, Ubuntu)
	$(Q)scripts/setup

demo: ## Mirror real traffic between network namespaces, and show it
	$(Q)scripts/setup build demo
	$(Q)$(AS_USER) cargo build --locked --release -p traffic-mirroring -p demo-collector
	$(Q)scripts/demo $(BUILT)/mirroring

test: setup ## Run all checks and tests; as root, also those that need it; KERNELS= leaves out guests
	$(Q)scripts/test

test-l3afd: ## Launch the package as l3afd does, under traffic: [L3AFD=<path> FILTER=Chain]
	$(Q)scripts/test-l3afd

test-kernels: ## Run the tests in guests with other kernels: [KERNELS="5.10 newest" FILTER=fixture]
	$(Q)scripts/setup build guests
	$(Q)$(AS_USER) scripts/test-kernels

test-fresh: ## Run demo and test in bare root file systems of Debian: [RELEASES=trixie RUNS=user TARGETS=demo CLANG=clang-16]
	$(Q)scripts/setup fresh
	$(Q)scripts/test-fresh

test-arm64: ## Run the basic tests with the package for arm64, in guests with pages of 4 and 16 KiB: [KERNELS= FILTER=]
	$(Q)scripts/setup build arm64
	$(Q)ARCH=arm64 FILTER="$(or $(FILTER),$(BASIC_TESTS))" $(AS_USER) scripts/test-kernels

test-clang: ## Compile the tc programs with every clang here from 13 on, load and test them: [CLANGS="14 22" FILTER=encap]
	$(Q)scripts/test-clang

bench: ## Measure what mirroring costs: [BENCH=quick JSON=<path> PLOT=<path>.svg]
	$(Q)scripts/setup build bench
	$(Q)$(AS_USER) cargo bench --locked --bench mirroring --no-run
	$(Q)$(AS_USER) --still-root cargo bench --locked --bench mirroring -- $(if $(filter quick,$(BENCH)),--quick) \
		--json="$(or $(JSON),$(BUILT)/../bench.json)" $(if $(PLOT),--plot="$(PLOT)")

manual: ## Write manual/ anew, the man page and the shells' completions, from the flags
	$(Q)WRITE_MANUAL=1 $(AS_USER) cargo test --locked --test manual

check: ## Check format and lint: rustfmt, clang-format, shellcheck, clippy, clang's warnings
	$(Q)scripts/setup --check build check
	$(Q)$(AS_USER) cargo fmt --all --check
	$(Q)clang-format --dry-run --Werror bpf/*.[ch] tests/l3afd/bpf/*.[ch]
	$(Q)shellcheck scripts/* findings/* .ci/run
	$(Q)$(AS_USER) cargo clippy --locked --workspace --all-targets -- -D warnings
	$(Q)if $(AS_USER) cargo deny --version >/dev/null 2>&1; then $(AS_USER) cargo deny --locked check licenses bans sources; \
		else echo "check: licences and sources of crates are left out: cargo-deny is not installed" >&2; fi
	$(Q)$(AS_USER) scripts/check-bpf

package: build ## Write dist/[TARGET/]l3af_traffic_mirroring.tar.gz [TARGET=aarch64-unknown-linux-gnu]
	$(Q)$(AS_USER) scripts/package $(BUILT) $(PACKAGE)

publish: $(if $(REPO),package) ## Add the package to an l3afd repository: REPO=<dir> [VERSION= PLATFORM=]
	$(Q)scripts/publish $(PACKAGE)

payload: ## Print a payload for l3afd: IFACE=eth0 [COLLECTOR= REDIRECT_TO= DIRECTION= STYLE= ...]
	$(Q)scripts/payload

clean: ## Remove all that was built
	$(Q)$(AS_USER) --still-root cargo clean
	$(Q)rm -rf dist

help: ## List these targets
	$(Q)sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1 \2/p' $(MAKEFILE_LIST) | \
		while read -r target text; do printf '%-14s%s\n' "$$target" "$$text"; done
