.PHONY: sim
SEED ?=
SEEDS ?= 10000
sim: ## Play the whole broker on a simulated machine: SEEDS=10000 stories, or SEED=n to replay one
	RINGMQ_SIM_SEED=$(SEED) RINGMQ_SIM_SEEDS=$(SEEDS) $(CARGO) test --test simulation -- --nocapture
