# RingMQ beside other brokers; README.md says how they are configured. Included by the Makefile.
# RELEASE_BIN, BROKER, PYTHON, BENCH_DIR and ARGS are those of the Makefile and conform.mk.

.PHONY: bench-peers bench-peers-full bench-peers-test

bench-peers: $(RELEASE_BIN) ## Measure Kafka beside RingMQ in BENCH_DIR, below an hour; flags in ARGS
	$(PYTHON) benches/peers/run.py --binary $(BROKER) --dir $(BENCH_DIR) $(ARGS)

bench-peers-full: $(RELEASE_BIN) ## The same with every scenario, two hours and a half
	$(PYTHON) benches/peers/run.py --full --binary $(BROKER) --dir $(BENCH_DIR) $(ARGS)

bench-peers-test:
	$(PYTHON) benches/peers/test_peers.py
