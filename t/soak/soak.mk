# Copyright (C) the refund-notify authors
#
#   make soak           hours, and no part of make test:
#   make soak-chaos     make chaos for SOAK_SECONDS=1800 s, SOAK_EVENTS=200000
#                       events at least, offered SOAK_RATE=140 a second, by SEED
#   make soak-reloads   RELOADS=10000 reloads under load
#   make soak-fuzz      each fuzz target for FUZZ_EACH=1200 s
#                       and which lines their corpora reach
#   make soak-whole     whole requests, changed at random, for WHOLE_SECONDS=1200
#                       through the sanitized module, by WHOLE_SEED
#   make soak-torture   make torture

SOAK_SECONDS = 1800
SOAK_EVENTS = 200000
SOAK_RATE = 140
RELOADS = 10000
soak-fuzz: FUZZ_EACH = 1200
soak-whole: export WHOLE_SECONDS ?= 1200

.PHONY: soak soak-chaos soak-reloads soak-fuzz soak-whole soak-torture

soak:
	@$(MAKE) soak-chaos
	@$(MAKE) soak-reloads
	@$(MAKE) soak-fuzz
	@$(MAKE) soak-whole
	@$(MAKE) soak-torture
	@$(MAKE) timing

soak-chaos:
	@$(MAKE) chaos SECONDS=$(SOAK_SECONDS) RATE=$(SOAK_RATE) \
	    EVENTS=$(SOAK_EVENTS)

soak-reloads: all
	@tools/install-dependencies.sh build suite
	@SOAK_RELOADS=$(RELOADS) \
	 REFUND_NOTIFY_MODULE=$(abspath $(MODULE)) prove -v -It/lib t/soak

soak-fuzz:
	@$(MAKE) fuzz FUZZ_EACH=$(FUZZ_EACH)
	@$(MAKE) fuzz-coverage

soak-whole: build-asan
	@tools/install-dependencies.sh build suite
	@REFUND_NOTIFY_SANITIZE=1 \
	 REFUND_NOTIFY_MODULE=$(abspath $(BUILD)/asan/$(NAME)) \
	 prove -v -It/lib t/27-whole-requests.t

soak-torture:
	@$(MAKE) torture
