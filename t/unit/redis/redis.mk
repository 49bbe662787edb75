# Copyright (C) the refund-notify authors
#
# The unit tests of what Redis says about where a key is, which needs no more of
# nginx than its headers (see store.mk), and of hiredis its parser: make
# unit-redis.

UNIT_REDIS = $(BUILD)/unit/redis
UNIT_REDIS_TESTS = $(patsubst t/unit/redis/%.c,%, \
    $(wildcard t/unit/redis/test_*.c))

.PHONY: unit-redis

unit-redis: $(UNIT_REDIS_TESTS:%=$(UNIT_REDIS)/%)
	@rc=0; for t in $^; do CMOCKA_MESSAGE_OUTPUT=TAP $$t || rc=1; done; \
	if test $$rc != 0; then echo "$@: FAILED"; else echo "$@: passed"; fi; \
	exit $$rc

$(UNIT_REDIS)/%: t/unit/redis/%.c $(wildcard src/redis/*.[ch])
	@mkdir -p $(@D)
	@echo "$(CC) $@" && $(CC) $(UNIT_STORE_CFLAGS) -Isrc/redis \
	    $(UNIT_STORE_ASAN) -o $@ $< $(UNIT_STORE_LDLIBS) -lhiredis
