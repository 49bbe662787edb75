# Copyright (C) the refund-notify authors
#
# Fuzzing of src/wechatpay, and of what src/redis parses itself, by libFuzzer:
# make fuzz, FUZZ_SECONDS in all.  What the fuzzer finds stays in
# build/fuzz/corpus and is begun with the next time; an input that fails is left
# in build/fuzz.

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

# To libFuzzer a time of 0 is no limit: with FUZZ_SECONDS=0 what is in the
# corpus is run, and no more.

FUZZ_LIMIT = $(if $(filter 0,$(FUZZ_SECONDS)),-runs=0, \
    -max_total_time=$(FUZZ_EACH))

.PHONY: fuzz

fuzz: $(FUZZ_TARGETS:%=$(FUZZ)/fuzz_%)
	@for t in $(FUZZ_TARGETS); do \
	    mkdir -p $(FUZZ)/corpus/$$t; \
	    case $$t in json*|v3*|request) dict=json;; \
	        redis*) dict=redis;; *) dict=xml;; esac; \
	    echo "fuzz_$$t, $(FUZZ_EACH) s"; \
	    $(FUZZ)/fuzz_$$t $(FUZZ_LIMIT) -max_len=8192 \
	        -timeout=10 -rss_limit_mb=2048 -dict=t/fuzz/$$dict.dict \
	        -artifact_prefix=$(FUZZ)/$$t- -print_final_stats=1 \
	        $(FUZZ)/corpus/$$t t/fuzz/corpus/$$t > $(FUZZ)/$$t.log 2>&1 \
	        || { tail -n 60 $(FUZZ)/$$t.log; echo "fuzz: FAILED"; exit 1; }; \
	    sed -n 's/^stat::number_of_executed_units: */    runs: /p' \
	        $(FUZZ)/$$t.log; \
	done; \
	echo "fuzz: passed"

$(FUZZ)/%.o: src/wechatpay/%.c $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	@echo "clang $@" && clang $(FUZZ_CFLAGS) -c -o $@ $<

$(FUZZ)/%.o: t/fuzz/%.c $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	@echo "clang $@" && clang $(FUZZ_CFLAGS) -c -o $@ $<

$(FUZZ)/fuzz_v3_notify $(FUZZ)/fuzz_v3_answer: FUZZ_LDFLAGS += -Wl,--wrap=EVP_PKEY_verify

# what is not of src/wechatpay needs nginx' headers: see store.mk

$(FUZZ)/fuzz_redis_reply.o: src/redis/ngx_refund_redis_reply.c
$(FUZZ)/fuzz_redis_reply.o: FUZZ_CFLAGS += -Isrc/redis \
    -Wno-unused-parameter $(UNIT_STORE_INCLUDES)
$(FUZZ)/fuzz_redis_reply: FUZZ_LDLIBS += -lhiredis

$(FUZZ)/fuzz_%: $(FUZZ)/fuzz_%.o $(FUZZ_SOURCES:%.c=$(FUZZ)/%.o)
	@echo "clang $@" && clang $(FUZZ_LDFLAGS) -o $@ $^ $(FUZZ_LDLIBS)

.PRECIOUS: $(FUZZ)/%.o
