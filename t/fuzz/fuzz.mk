# Copyright (C) the refund-notify authors
#
# Fuzzing of src/wechatpay, and of what src/redis parses itself, by libFuzzer:
#
#   make fuzz                   all targets, FUZZ_SECONDS=40 of them together
#   make fuzz FUZZ_EACH=1200    each target so long, FUZZ_JOBS of them at a time
#   make fuzz FUZZ_TARGETS=...  these only, fuzz_*.c's names
#
# What the fuzzer finds stays in build/fuzz/corpus and is begun with the next
# time; an input that fails is left in build/fuzz.

FUZZ = $(BUILD)/fuzz
FUZZ_SECONDS ?= 40
FUZZ_LIBS = libxml-2.0 jansson libcrypto
FUZZ_CFLAGS = -std=gnu11 -g -O1 -W -Wall -Wextra -Wpointer-arith -Werror \
    -Isrc/wechatpay -It/fuzz $(shell pkg-config --cflags $(FUZZ_LIBS)) \
    -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
FUZZ_LDFLAGS = -fsanitize=fuzzer,address,undefined
FUZZ_LDLIBS = $(shell pkg-config --libs $(FUZZ_LIBS))
FUZZ_HEADERS = $(wildcard src/wechatpay/*.h t/fuzz/*.h)

FUZZ_SOURCES = $(notdir $(wildcard src/wechatpay/*.c)) fuzz.c
FUZZ_TARGETS = $(patsubst t/fuzz/fuzz_%.c,%,$(wildcard t/fuzz/fuzz_*.c))
FUZZ_EACH = $(shell expr \( $(FUZZ_SECONDS) + $(words $(FUZZ_TARGETS)) - 1 \) \
    / $(words $(FUZZ_TARGETS)))
FUZZ_JOBS = $(shell nproc)

.PHONY: fuzz

fuzz: $(FUZZ_TARGETS:%=$(FUZZ)/fuzz_%)
	@if printf '%s\n' $(FUZZ_TARGETS) \
	    | xargs -P $(FUZZ_JOBS) -n 1 t/fuzz/run.sh $(FUZZ) $(FUZZ_EACH); \
	then echo "fuzz: passed"; else echo "fuzz: FAILED"; exit 1; fi

$(FUZZ)/%.o: src/wechatpay/%.c $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	@echo "clang $@" && clang $(FUZZ_CFLAGS) -c -o $@ $<

$(FUZZ)/%.o: t/fuzz/%.c $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	@echo "clang $@" && clang $(FUZZ_CFLAGS) -c -o $@ $<

$(FUZZ)/fuzz_v3_notify $(FUZZ)/fuzz_v3_answer: FUZZ_LDFLAGS += -Wl,--wrap=EVP_PKEY_verify
$(FUZZ)/fuzz_request: FUZZ_LDFLAGS += -Wl,--wrap=EVP_PKEY_sign

# what is not of src/wechatpay needs nginx' headers: see store.mk

$(FUZZ)/fuzz_redis_reply.o: src/redis/ngx_refund_redis_reply.c
$(FUZZ)/fuzz_redis_reply.o: FUZZ_CFLAGS += -Isrc/redis \
    -Wno-unused-parameter $(UNIT_STORE_INCLUDES)
$(FUZZ)/fuzz_redis_reply: FUZZ_LDLIBS += -lhiredis

$(FUZZ)/fuzz_%: $(FUZZ)/fuzz_%.o $(FUZZ_SOURCES:%.c=$(FUZZ)/%.o)
	@echo "clang $@" && clang $(FUZZ_LDFLAGS) -o $@ $^ $(FUZZ_LDLIBS)

.PRECIOUS: $(FUZZ)/%.o
