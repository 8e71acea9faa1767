.PHONY: sim sim-mutants
SEED ?=
SEEDS ?= 10000
WEEK ?=
WEEKS ?= 200
SIM_ONE = $(if $(SEED),no_promise_is_broken)$(if $(WEEK),weeks_of_groups)
sim: ## Play the whole broker on a simulated machine: SEEDS=10000 stories and WEEKS=200 fortnights of groups, or SEED=n, WEEK=n to replay one
	RINGMQ_SIM_SEED=$(SEED) RINGMQ_SIM_SEEDS=$(SEEDS) RINGMQ_SIM_WEEK=$(WEEK) RINGMQ_SIM_WEEKS=$(WEEKS) \
		$(CARGO) test --test simulation -- $(SIM_ONE) --nocapture

MUTANT ?=
sim-mutants: ## Break rules one by one (or MUTANT=name): the stories of `make sim` must notice each
	RINGMQ_SIM_MUTANT=$(MUTANT) $(CARGO) test --features mutants --test simulation mutants -- --nocapture
	RINGMQ_SIM_MUTANT=$(MUTANT) $(CARGO) test --features mutants --lib group::tests::mutants -- --nocapture
