# Copyright (C) the refund-notify authors
#
#   make soak           hours, and no part of make test:
#   make soak-chaos     make chaos for SOAK_SECONDS=1800 s, SOAK_EVENTS=200000
#                       events at least, offered SOAK_RATE=140 a second, by SEED
#   make soak-reloads   RELOADS=10000 reloads under load
#   make soak-fuzz      each fuzz target for FUZZ_EACH=1200 s

SOAK_SECONDS = 1800
SOAK_EVENTS = 200000
SOAK_RATE = 140
RELOADS = 10000
soak-fuzz: FUZZ_EACH = 1200

.PHONY: soak soak-chaos soak-reloads soak-fuzz

soak:
	@$(MAKE) soak-chaos
	@$(MAKE) soak-reloads
	@$(MAKE) soak-fuzz

soak-chaos:
	@$(MAKE) chaos SECONDS=$(SOAK_SECONDS) RATE=$(SOAK_RATE) \
	    EVENTS=$(SOAK_EVENTS)

soak-reloads: all
	@tools/install-dependencies.sh build suite
	@SOAK_RELOADS=$(RELOADS) \
	 REFUND_NOTIFY_MODULE=$(abspath $(MODULE)) prove -v -It/lib t/soak

soak-fuzz:
	@$(MAKE) fuzz FUZZ_EACH=$(FUZZ_EACH)
