# Copyright (C) the refund-notify authors
#
# The unit tests of the store's record and table, with stand-ins for the little
# of nginx that they call: make unit-store.  They need nginx' headers, and
# objs/ of a configured tree for ngx_auto_config.h.

NGINX_HEADERS ?= $(or $(NGINX_SRC),/usr/share/nginx/src)
NGINX_OBJS ?= $(BUILD)/gcc

UNIT_STORE = $(BUILD)/unit/store
UNIT_STORE_INCLUDES = -isystem $(NGINX_OBJS) \
    $(foreach dir,core event event/modules os/unix, \
        -isystem $(NGINX_HEADERS)/src/$(dir))
UNIT_STORE_CFLAGS = -std=gnu11 -g -O1 -W -Wall -Wextra -Wpointer-arith \
    -Wno-unused-parameter -Werror -Isrc/store -Isrc -It/unit/store \
    $(UNIT_STORE_INCLUDES) $(shell pkg-config --cflags libcrypto cmocka)
UNIT_STORE_LDLIBS = $(shell pkg-config --libs libcrypto cmocka)
UNIT_STORE_ASAN = -fsanitize=address,undefined -fno-sanitize-recover=all
UNIT_STORE_TESTS = $(patsubst t/unit/store/%.c,%, \
    $(wildcard t/unit/store/test_*.c))

.PHONY: unit-store

unit-store: $(UNIT_STORE_TESTS:%=$(UNIT_STORE)/%)
	@rc=0; for t in $^; do CMOCKA_MESSAGE_OUTPUT=TAP $$t || rc=1; done; \
	if test $$rc != 0; then echo "$@: FAILED"; else echo "$@: passed"; fi; \
	exit $$rc

$(UNIT_STORE)/%: t/unit/store/%.c t/unit/store/nginx.c \
    $(wildcard src/store/*.[ch] t/unit/store/*.h)
	@mkdir -p $(@D)
	@echo "$(CC) $@" && $(CC) $(UNIT_STORE_CFLAGS) $(UNIT_STORE_ASAN) -o $@ \
	    $(filter t/unit/store/%.c,$^) $(UNIT_STORE_LDLIBS)
