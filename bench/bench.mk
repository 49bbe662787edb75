# Copyright (C) the refund-notify authors
#
# The benchmark, see bench/README.md.
#
#   make bench                       the whole of it, in about six minutes
#   make bench-quick                 a look at it, in about one
#   make bench-scaling               workers, connections, sizes, merchants, ids
#   make bench-soak                  a million notifies, and the memory after
#   make bench-instructions          the instructions of a notify, held against
#                                    bench/instructions.txt
#   make bench-instructions-update   writes that file
#   make bench-profile               prints what the instructions are spent on

BENCH = $(abspath $(BUILD))/bench
BENCH_CFLAGS = -std=gnu11 -g -O2 -W -Wall -Wextra -Wpointer-arith -Werror \
    -Isrc/wechatpay $(shell pkg-config --cflags libxml-2.0 jansson libcrypto)
BENCH_LDLIBS = $(shell pkg-config --libs libxml-2.0 jansson libcrypto)
BENCH_ENV = CC="$(CC)" BENCH_BUILD=$(BENCH) \
    REFUND_NOTIFY_MODULE=$(abspath $(MODULE))

BENCH_TOOLS = $(BENCH)/notifies $(BENCH)/keys/complete \
    $(BENCH)/node/node_modules/.package-lock.json

.PHONY: bench bench-quick bench-scaling bench-soak
.PHONY: bench-instructions bench-instructions-update bench-profile

# what is written by a look is no result

bench-quick: BENCH_ENV += BENCH_ROUNDS=1 BENCH_SECONDS=1 BENCH_COUNT=10000 \
    BENCH_RESULTS=$(BENCH)/results

bench bench-quick:
	@tools/install-dependencies.sh build bench
	@$(MAKE) -s all $(BENCH_TOOLS)
	@$(BENCH_ENV) bench/run.pl

# BENCH_PARTS: some of it only

bench-scaling bench-soak:
	@tools/install-dependencies.sh build bench
	@$(MAKE) -s all $(BENCH)/notifies $(BENCH)/keys/complete $(BENCH)/table
	@$(BENCH_ENV) bench/$(@:bench-%=%).pl $(BENCH_PARTS)

bench-instructions: BENCH_COMMAND = check
bench-instructions-update: BENCH_COMMAND = update
bench-profile: BENCH_COMMAND = profile

# the table is no part of it, but has to build with the store as it is

bench-instructions bench-instructions-update bench-profile:
	@tools/install-dependencies.sh build test
	@$(MAKE) -s all $(BENCH)/instructions $(BENCH)/notifies \
	    $(BENCH)/keys/complete $(BENCH)/table
	@$(BENCH_ENV) bench/instructions.pl $(BENCH_COMMAND)

$(BENCH)/instructions: bench/instructions.c bench/notify.c \
    $(wildcard src/wechatpay/*.c)
$(BENCH)/notifies: bench/notifies.c bench/notify.c

$(BENCH)/instructions $(BENCH)/notifies: bench/notify.h \
    $(wildcard src/wechatpay/*.h)
	@mkdir -p $(@D)
	@echo "$(CC) $@" && $(CC) $(BENCH_CFLAGS) -o $@ $(filter %.c,$^) \
	    $(BENCH_LDLIBS)

# the table alone, with the unit tests' stand-ins for nginx

$(BENCH)/table: $(MODULE)
$(BENCH)/table: bench/table.c t/unit/store/nginx.c \
    src/store/ngx_http_refund_store_table.c \
    $(wildcard src/store/*.h t/unit/store/*.h)
	@mkdir -p $(@D)
	@echo "$(CC) $@" && $(CC) $(UNIT_STORE_CFLAGS) -O2 -o $@ \
	    $(filter %.c,$^) $(UNIT_STORE_LDLIBS)

# a merchant, and the key of WeChat Pay that signs its notifies

$(BENCH)/keys/complete:
	@mkdir -p $(@D)
	@cd $(@D) && umask 077 \
	 && echo 1900000109 > mch_id \
	 && echo PUB_KEY_ID_0119000001092024101100111900000100 > serial \
	 && openssl rand -hex 16 > v2.key && openssl rand -hex 16 > v3.key \
	 && openssl genrsa -out wechatpay.key 2048 \
	 && openssl rsa -in wechatpay.key -pubout -out wechatpay.pem 2>openssl.log \
	 && openssl req -x509 -newkey rsa:2048 -noenc -days 3650 \
	     -subj "/CN=1900000109" -keyout apiclient_key.pem \
	     -out apiclient_cert.pem 2>openssl.log
	@touch $@

# npm takes the packages from its cache or its registry; the versions, and what
# they have to hash to, are those of package-lock.json

$(BENCH)/node/node_modules/.package-lock.json: $(addprefix \
    bench/peers/node/,package.json package-lock.json .npmrc server.js)
	@mkdir -p $(BENCH)/node
	@cp $^ $(BENCH)/node
	@echo "npm ci" && cd $(BENCH)/node && npm ci --silent
	@touch $@
