# Copyright (C) the refund-notify authors
#
#   make chaos SECONDS=60 SEED=1 RATE=120   so many fresh events a second for so
#                                           long, and the faults of that seed;
#                                           without SEED of another each time;
#                                           EVENTS: so many at least; FAULTS:
#                                           those whose names match it only

SECONDS = 60
RATE = 120

.PHONY: chaos

chaos: all
	@tools/install-dependencies.sh build suite
	@CHAOS_SECONDS=$(SECONDS) CHAOS_SEED=$(SEED) CHAOS_RATE=$(RATE) \
	 CHAOS_EVENTS=$(EVENTS) CHAOS_FAULTS='$(FAULTS)' \
	 REFUND_NOTIFY_MODULE=$(abspath $(MODULE)) prove -v -It/lib t/chaos
