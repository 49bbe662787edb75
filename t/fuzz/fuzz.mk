# Copyright (C) the refund-notify authors
#
# Fuzzing of src/wechatpay, of what src/redis parses itself, and of a record in
# the store, by libFuzzer:
#
#   make fuzz                   all targets, FUZZ_SECONDS=40 of them together
#   make fuzz FUZZ_EACH=1200    each target so long, FUZZ_JOBS of them at a time
#   make fuzz FUZZ_TARGETS=...  these only, fuzz_*.c's names
#   make differential           over the corpora, and a second implementation
#   make fuzz-merge             of t/fuzz/corpus and what was found that stays
#                               in the corpus which reaches what nothing else
#                               there does
#   make fuzz-coverage          which lines of src/wechatpay the corpora reach:
#                               all but those that t/fuzz/unreached explains
#
# What the fuzzer finds stays in build/fuzz/corpus and is begun with the next
# time; an input that fails is left in build/fuzz.  t/fuzz/seeds is written by
# hand, and stays as it is: the notifies of t/unit/vectors.pl, and answers.

FUZZ = $(BUILD)/fuzz
FUZZ_SECONDS ?= 40
FUZZ_LIBS = libxml-2.0 jansson libcrypto
FUZZ_CFLAGS = -std=gnu11 -g -O1 -W -Wall -Wextra -Wpointer-arith -Werror \
    -Isrc/wechatpay -It/fuzz $(shell pkg-config --cflags $(FUZZ_LIBS)) \
    -fsanitize=fuzzer-no-link $(FUZZ_INSTRUMENT)
FUZZ_LDFLAGS = -fsanitize=fuzzer $(FUZZ_INSTRUMENT)
FUZZ_INSTRUMENT = -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_LDLIBS = $(shell pkg-config --libs $(FUZZ_LIBS))
FUZZ_HEADERS = $(wildcard src/wechatpay/*.h t/fuzz/*.h)

FUZZ_SOURCES = $(notdir $(wildcard src/wechatpay/*.c)) fuzz.c
FUZZ_TARGETS = $(patsubst t/fuzz/fuzz_%.c,%,$(wildcard t/fuzz/fuzz_*.c))
FUZZ_EACH = $(shell expr \( $(FUZZ_SECONDS) + $(words $(FUZZ_TARGETS)) - 1 \) \
    / $(words $(FUZZ_TARGETS)))
FUZZ_JOBS = $(shell nproc)

.PHONY: fuzz fuzz-build fuzz-merge fuzz-coverage differential

fuzz-build: $(FUZZ_TARGETS:%=$(FUZZ)/fuzz_%)

fuzz: fuzz-build
	@if printf '%s\n' $(FUZZ_TARGETS) \
	    | xargs -P $(FUZZ_JOBS) -n 1 t/fuzz/run.sh $(FUZZ) $(FUZZ_EACH); \
	then echo "fuzz: passed"; else echo "fuzz: FAILED"; exit 1; fi

differential: $(FUZZ)/judge
	@FUZZ_JUDGE=$(abspath $<) $(prove) t/fuzz/differential.t

# into an empty directory, so that what others have come to cover goes; the new
# one takes the place of the old when it is whole

fuzz-merge: fuzz-build
	@for t in $(FUZZ_TARGETS); do \
	    new=$(FUZZ)/$$t.merged; old=t/fuzz/corpus/$$t; \
	    rm -rf $$new; mkdir -p $$new $$old $(FUZZ)/corpus/$$t; \
	    $(FUZZ)/fuzz_$$t -merge=1 -max_len=8192 $$new $$old \
	        $(FUZZ)/corpus/$$t > $(FUZZ)/$$t.merge.log 2>&1 \
	        || { tail -n 60 $(FUZZ)/$$t.merge.log; exit 1; }; \
	    rm -r $$old && mv $$new $$old && du -sb $$old || exit 1; \
	done

fuzz-coverage: all
	@tools/install-dependencies.sh fuzz-coverage
	+@$(MAKE) fuzz-build FUZZ=$(FUZZ)-coverage \
	    FUZZ_INSTRUMENT="-fprofile-instr-generate -fcoverage-mapping"
	@t/fuzz/coverage.pl $(FUZZ)-coverage $(FUZZ_TARGETS)

$(FUZZ)/%.o: src/wechatpay/%.c $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	@echo "clang $@" && clang $(FUZZ_CFLAGS) -c -o $@ $<

$(FUZZ)/%.o: t/fuzz/%.c $(FUZZ_HEADERS)
	@mkdir -p $(@D)
	@echo "clang $@" && clang $(FUZZ_CFLAGS) -c -o $@ $<

$(filter $(FUZZ)/fuzz_v3_%,$(FUZZ_TARGETS:%=$(FUZZ)/fuzz_%)) \
    $(FUZZ)/fuzz_request: FUZZ_LDFLAGS += -Wl,--wrap=EVP_PKEY_verify
$(FUZZ)/fuzz_request: FUZZ_LDFLAGS += -Wl,--wrap=EVP_PKEY_sign

# what is not of src/wechatpay needs nginx' headers: see store.mk

FUZZ_REDIS = $(patsubst %.c,$(FUZZ)/%.o,$(notdir $(wildcard src/redis/*.c))) \
    $(FUZZ)/event_loop.o
FUZZ_REDIS_HEADERS = $(wildcard src/redis/*.h)

$(FUZZ)/%.o: src/redis/%.c $(FUZZ_REDIS_HEADERS)
	@mkdir -p $(@D)
	@echo "clang $@" && clang $(FUZZ_CFLAGS) -c -o $@ $<

$(FUZZ)/fuzz_store_record.o: $(wildcard src/store/*record.[ch])
$(FUZZ)/fuzz_store_record.o: FUZZ_CFLAGS += -Isrc/store \
    -Wno-unused-parameter $(UNIT_STORE_INCLUDES)
$(FUZZ)/fuzz_redis_reply.o: src/redis/ngx_refund_redis_reply.c \
    src/redis/ngx_refund_redis_numeric.c
$(FUZZ)/fuzz_redis_reply.o $(FUZZ)/fuzz_redis_client.o $(FUZZ_REDIS): \
    FUZZ_CFLAGS += -Isrc -Isrc/redis -Wno-unused-parameter \
        $(UNIT_STORE_INCLUDES)
$(FUZZ)/fuzz_redis_client.o $(FUZZ_REDIS): $(FUZZ_REDIS_HEADERS)
$(FUZZ)/fuzz_redis_reply $(FUZZ)/fuzz_redis_client: FUZZ_LDLIBS += -lhiredis
$(FUZZ)/fuzz_redis_client: $(FUZZ_REDIS)

$(FUZZ)/fuzz_%: $(FUZZ)/fuzz_%.o $(FUZZ_SOURCES:%.c=$(FUZZ)/%.o)
	@echo "clang $@" && clang $(FUZZ_LDFLAGS) -o $@ $^ $(FUZZ_LDLIBS)

$(FUZZ)/judge: $(FUZZ)/judge.o $(FUZZ_SOURCES:%.c=$(FUZZ)/%.o)
	@echo "clang $@" && clang $(FUZZ_INSTRUMENT) -o $@ $^ $(FUZZ_LDLIBS)

.PRECIOUS: $(FUZZ)/%.o
