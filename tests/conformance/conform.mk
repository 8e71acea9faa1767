# Real clients and crash loops; ../../docs/TESTING.md says what they cover. Included by the Makefile.
#
# The client programs are built once, into target/conformance-cache (or $RINGMQ_TEST_CACHE). RELEASE_BIN is the
# target that builds target/release/ringmq; override BROKER to test another binary.

RELEASE_BIN ?= target/release/ringmq
BROKER ?= $(RELEASE_BIN)
PYTHON ?= python3
CRASH_CYCLES ?= 100
SOAK_CYCLES ?= 3000
GROUP_CYCLES ?= 25
SOAK_GROUP_CYCLES ?= 500

.PHONY: conform conform-short conform-commands crash crash-groups soak

conform: $(RELEASE_BIN) ## Every real client, every case, a million records; as one broker, and as one for each log
	$(PYTHON) tests/conformance/run.py --full --binary $(BROKER)
	$(PYTHON) tests/conformance/run.py --full --binary $(BROKER) --advertise log
	$(MAKE) --no-print-directory conform-commands

conform-short: $(RELEASE_BIN) ## The part of it that `make test` runs
	$(PYTHON) tests/test_skips.py
	$(PYTHON) tests/conformance/run.py --short --binary $(BROKER)

conform-commands: $(RELEASE_BIN) ## `ringmq topic`, `record`, `group`, error codes and configs, at RingMQ and at Apache Kafka
	$(PYTHON) tests/system/run.py --case commands --binary $(BROKER)
	$(PYTHON) tests/system/run.py --case codes --binary $(BROKER)
	$(PYTHON) tests/system/run.py --endpoint kafka --binary $(BROKER)

crash: $(RELEASE_BIN) ## kill -9 under load, CRASH_CYCLES (100) times
	$(PYTHON) tests/crash/crash.py --cycles $(CRASH_CYCLES) --binary $(BROKER)

crash-groups: $(RELEASE_BIN) ## kill -9 of the broker and of members of groups, GROUP_CYCLES (25) times
	$(PYTHON) tests/crash/groups.py --cycles $(GROUP_CYCLES) --binary $(BROKER)

soak: $(RELEASE_BIN) ## Both, SOAK_CYCLES (3000) and SOAK_GROUP_CYCLES (500) times
	$(PYTHON) tests/crash/crash.py --cycles $(SOAK_CYCLES) --verify-every 50 --binary $(BROKER)
	$(PYTHON) tests/crash/groups.py --cycles $(SOAK_GROUP_CYCLES) --binary $(BROKER)
