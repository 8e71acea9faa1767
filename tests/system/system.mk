# The running server on the real kernel; ../../docs/TESTING.md says what it covers. Included by the Makefile.
# RELEASE_BIN, BROKER and PYTHON are those of conform.mk.

.PHONY: system

system: $(RELEASE_BIN) ## Flushes counted, full disks, hostile clients, refusals, the README typed
	$(PYTHON) tests/system/run.py --binary $(BROKER)
