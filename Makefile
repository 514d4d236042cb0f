# The public commands. CARGO_TARGET_DIR is honoured everywhere.
CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)

.PHONY: setup demo test chaos failover migrations release check fmt bench

setup:
	@./deploy/setup

# --workspace although one binary is wanted: cargo unifies features over what is selected, and a selection of its own
# would compile RocksDB once more than the tests do.
release: setup
	$(CARGO) build --release --locked --workspace --bin meridian

demo: release
	$(TARGET)/release/meridian demo

# One profile for everything: RocksDB is compiled once, and the simulation wants optimised code. The planted bugs are
# apart, so that no other package is built with the feature that holds them. Then the simulation: the same seeds every
# time, and as many that nobody has run before as fit into a minute; a failing one is printed with its replay.
test: release
	$(CARGO) test --release --locked --workspace --exclude meridian-sim-planted
	$(CARGO) test --release --locked -p meridian-sim-planted
	$(TARGET)/release/meridian sim --seed 1 --count 250 --quiet
	$(TARGET)/release/meridian sim --for 60s

# On demand: every workload under every fault on real processes and on the network between them, and the time without
# writes after SIGKILL of a leader.
chaos: release
	$(CARGO) build --release --locked --workspace --bin chaos
	$(TARGET)/release/chaos run
	$(TARGET)/release/chaos network

failover: release
	$(CARGO) build --release --locked --workspace --bin chaos
	$(TARGET)/release/chaos failover

# On demand: migration tools as they come, on a cluster and on PostgreSQL. Needs python3 with pip for Alembic, and fetches both tools.
migrations: release
	./deploy/migrations/run

check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all

bench: setup
	$(CARGO) bench --locked -p meridian-benches
