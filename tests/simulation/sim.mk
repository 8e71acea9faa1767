.PHONY: sim sim-mutants
SEED ?=
SEEDS ?= 10000
sim: ## Play the whole broker on a simulated machine: SEEDS=10000 stories, or SEED=n to replay one
	RINGMQ_SIM_SEED=$(SEED) RINGMQ_SIM_SEEDS=$(SEEDS) $(CARGO) test --test simulation -- --nocapture

MUTANT ?=
sim-mutants: ## Break rules one by one (or MUTANT=name): the stories of `make sim` must notice each
	RINGMQ_SIM_MUTANT=$(MUTANT) $(CARGO) test --features mutants --test simulation mutants -- --nocapture
	RINGMQ_SIM_MUTANT=$(MUTANT) $(CARGO) test --features mutants --lib group::tests::mutants -- --nocapture
