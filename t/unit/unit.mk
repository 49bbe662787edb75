# Copyright (C) the refund-notify authors
#
# The unit tests of src/wechatpay, which links without nginx: make unit, and
# make unit-asan under the address and undefined behaviour sanitizers.

UNIT = $(BUILD)/unit
UNIT_LIBS = libxml-2.0 jansson libcrypto cmocka
UNIT_CFLAGS = -std=gnu11 -g -W -Wall -Wextra -Wpointer-arith -Werror \
    -Isrc/wechatpay -I$(UNIT) $(shell pkg-config --cflags $(UNIT_LIBS))
UNIT_LDLIBS = $(shell pkg-config --libs $(UNIT_LIBS))
UNIT_PLAIN = -O2
UNIT_ASAN = -fsanitize=address,undefined -fno-sanitize-recover=all \
    -fno-omit-frame-pointer
UNIT_HEADERS = $(wildcard src/wechatpay/*.h t/unit/*.h) \
    $(UNIT)/vectors.h $(UNIT)/outbound_vectors.h

UNIT_SOURCES = $(notdir $(wildcard src/wechatpay/*.c)) test_notify.c \
    test_outbound.c
UNIT_TESTS = $(filter-out test_notify test_outbound, \
    $(patsubst t/unit/%.c,%,$(wildcard t/unit/test_*.c)))

.PHONY: unit unit-asan unit-build

unit: $(UNIT_TESTS:%=$(UNIT)/plain/%)
unit-asan: $(UNIT_TESTS:%=$(UNIT)/asan/%)

unit-build: $(UNIT_TESTS:%=$(UNIT)/plain/%) $(UNIT_TESTS:%=$(UNIT)/asan/%)

unit unit-asan:
	@rc=0; for t in $^; do CMOCKA_MESSAGE_OUTPUT=TAP $$t || rc=1; done; \
	if test $$rc != 0; then echo "$@: FAILED"; else echo "$@: passed"; fi; \
	exit $$rc

$(UNIT)/%.h: t/unit/%.pl
	@mkdir -p $(@D)
	@echo "$(<F)" && perl $< $(@D) > $@.tmp && mv $@.tmp $@

$(UNIT)/plain/%.o: src/wechatpay/%.c $(UNIT_HEADERS)
	@mkdir -p $(@D)
	@echo "$(CC) $@" && $(CC) $(UNIT_CFLAGS) $(UNIT_PLAIN) -c -o $@ $<

$(UNIT)/plain/%.o: t/unit/%.c $(UNIT_HEADERS)
	@mkdir -p $(@D)
	@echo "$(CC) $@" && $(CC) $(UNIT_CFLAGS) $(UNIT_PLAIN) -c -o $@ $<

$(UNIT)/plain/%: $(UNIT)/plain/%.o $(UNIT_SOURCES:%.c=$(UNIT)/plain/%.o)
	@echo "$(CC) $@" && $(CC) $(UNIT_PLAIN) -o $@ $^ $(UNIT_LDLIBS)

$(UNIT)/asan/%.o: src/wechatpay/%.c $(UNIT_HEADERS)
	@mkdir -p $(@D)
	@echo "$(CC) $@" && $(CC) $(UNIT_CFLAGS) -O1 $(UNIT_ASAN) -c -o $@ $<

$(UNIT)/asan/%.o: t/unit/%.c $(UNIT_HEADERS)
	@mkdir -p $(@D)
	@echo "$(CC) $@" && $(CC) $(UNIT_CFLAGS) -O1 $(UNIT_ASAN) -c -o $@ $<

$(UNIT)/asan/%: $(UNIT)/asan/%.o $(UNIT_SOURCES:%.c=$(UNIT)/asan/%.o)
	@echo "$(CC) $@" && $(CC) $(UNIT_ASAN) -o $@ $^ $(UNIT_LDLIBS)

$(UNIT)/plain/test_call $(UNIT)/asan/test_call: \
    UNIT_LDLIBS += -Wl,--wrap=EVP_PKEY_sign

.PRECIOUS: $(UNIT)/%.h $(UNIT)/plain/%.o $(UNIT)/asan/%.o
