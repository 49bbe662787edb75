# Copyright (C) the refund-notify authors
#
#   make            build/ngx_http_refund_notify_module.so, for the nginx found
#   make install    into that nginx' directory of modules
#   make demo       see it work (STORE=redis: with a Redis of its own)
#   make sandbox    a WeChat Pay to develop against (APP=URL of your app,
#                   SPEED=60: repeats come that many times faster)
#   make test       prove all of it, in less than 15 minutes
#   make fuzz       the parsers, for FUZZ_SECONDS=40, or each for FUZZ_EACH
#   make coverage   which lines and branches of the C the tests reach
#   make chaos      faults of all kinds at random, for SECONDS=60, by SEED=1
#   make soak       hours of chaos, of reloads and of fuzzing: t/soak/soak.mk
#   make torture    every call that can fail made to fail once
#   make bench      what a notify costs, and other figures: bench/bench.mk
#   make test-trixie    the suite in a Debian 13, which it makes
#   make deb            build/libnginx-mod-http-refund-notify_*.deb
#   make test-deb       installed, upgraded and purged in a Debian that it makes
#   make clean
#
# Each installs what it lacks on Debian.  NGINX_SRC=directory builds for an
# nginx source tree, CC=compiler with another compiler.

SHELL = /bin/bash
export PATH := $(PATH):/usr/sbin:/sbin

BUILD ?= build
FUZZ_SECONDS ?= 40
export NGINX_SRC STORE FUZZ_SECONDS

NAME = ngx_http_refund_notify_module.so
PACKAGE = libnginx-mod-http-refund-notify
MODULE = $(BUILD)/$(NAME)
SANITIZE = -fsanitize=address,undefined -fno-omit-frame-pointer
LOCK = $(addprefix -Wl$(comma)--wrap=,ngx_shmtx_lock ngx_shmtx_unlock \
           ngx_http_refund_stores_init_process)
comma = ,

# Where nginx looks for what make install puts there.  GNU make before 4.4 does
# not hand what is exported to $(shell).

nginx_path = $(shell PATH="$$PATH:/usr/sbin:/sbin" nginx -V 2>&1 \
                 | tr ' ' '\n' | sed -n 's/^--$(1)-path=//p')
MODULES_DIR ?= $(call nginx_path,modules)
CONF_DIR ?= $(addsuffix conf,$(dir $(call nginx_path,conf)))
no_directories = no nginx found that says where its modules and nginx.conf \
    are: make install MODULES_DIR=directory CONF_DIR=directory
SUDO = $(if $(DESTDIR)$(filter 0,$(shell id -u)),,sudo)

# the build runs in parallel; what is asked for here, in the order it is asked

ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

MAKEFLAGS += --no-print-directory

ifneq ($(word 2,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

.DEFAULT_GOAL = all
.PHONY: all install demo sandbox clean FORCE
.PHONY: build-clang build-asan build-nginx-source
.PHONY: test test-builds test-counts
.PHONY: test-plain test-sanitize test-valgrind test-nginx-source
.PHONY: test-trixie deb test-deb test-newcomer


all: $(MODULE)

# a new file, for an nginx may run with the old one; and only if it is another,
# for an nginx may be about to load it

$(MODULE): $(BUILD)/gcc/$(NAME)
	@cmp -s $< $@ || install -m 644 $< $@
	@echo "built $@"

$(BUILD)/gcc/$(NAME): FORCE
	@tools/install-dependencies.sh build
	+@tools/build-module.sh $(@D) $(CC)

build-clang:
	@tools/install-dependencies.sh build test
	+@tools/build-module.sh $(BUILD)/clang clang

# Nginx is the one installed; only the module is built with the sanitizers, and
# lets nobody touch what is in shared memory without its lock.

build-asan:
	+@REFUND_NOTIFY_TEST_SRCS=t/shared-memory/ngx_refund_test_lock.c \
	tools/build-module.sh $(BUILD)/asan gcc "$(SANITIZE)" \
	    "$(SANITIZE) $(LOCK)"

# the nginx that Debian has, from its source

build-nginx-source:
	@tools/fetch-nginx-source.sh $(BUILD)/nginx
	+@NGINX_SRC=$(BUILD)/nginx tools/build-module.sh $(BUILD)/nginx-source


install: all
	$(if $(and $(MODULES_DIR),$(CONF_DIR)),,$(error $(no_directories)))
	$(SUDO) install -d $(DESTDIR)$(MODULES_DIR) $(DESTDIR)$(CONF_DIR)
	$(SUDO) install -m 644 $(MODULE) $(DESTDIR)$(MODULES_DIR)
	$(SUDO) install -m 644 conf/refund_*.conf conf/wechatpay_*.conf \
	    $(DESTDIR)$(CONF_DIR)
	@echo "load it in nginx.conf: load_module $(MODULES_DIR)/$(NAME);"


demo:
	@tools/install-dependencies.sh build demo
	@$(MAKE) all
	@REFUND_NOTIFY_MODULE=$(abspath $(MODULE)) tools/demo.pl

SPEED ?= 1
# not the environment's PORT, which is often an app's
PORT = 8600
PAGE = 8601
export APP SPEED

sandbox:
	@tools/install-dependencies.sh build sandbox
	@$(MAKE) all
	@REFUND_NOTIFY_MODULE=$(abspath $(MODULE)) \
	 tools/sandbox.pl start --app "$$APP" --speed "$$SPEED" \
	     --port '$(PORT)' --page '$(PAGE)'


# What is compiled, and what one process counts, goes on at the same time; what
# judges times does not.  The suite on the plain module comes last, so that its
# summary is what is seen.

started := $(shell date +%s)
heading = @t=$$(($$(date +%s) - $(started))); \
    printf '\n== [%d:%02d] %s\n\n' $$((t / 60)) $$((t % 60))
# most of the tests wait most of the time; the longest of them begin first, so
# that none is left to the end
prove = prove -It/lib -j5
longest = $(foreach n,45 38 40 30 34 39 37 22 20 41 36 50 96 97, \
              $(wildcard t/$n-*.t))
suite = $(longest) $(filter-out $(longest),$(wildcard t/*.t))
# harness, pages, documents and others' directives are the same, however the
# module is built
sanitize = $(filter-out t/0% t/53% t/81% t/82% t/9%,$(suite))

test:
	$(heading) "what the tests need"
	@tools/install-dependencies.sh build test
	$(heading) "built by gcc, by clang, with sanitizers, against nginx' source"
	@$(MAKE) test-builds
	$(heading) "the units of the protocol and the store, under the sanitizers too"
	@$(MAKE) unit unit-asan unit-store unit-redis
	$(heading) "a notify: its model, instructions, valgrind, nginx' source"
	@$(MAKE) --output-sync test-counts
	$(heading) "the parsers, fuzzed for $(FUZZ_SECONDS) s"
	@$(MAKE) fuzz
	$(heading) "the parsers, and a second implementation"
	@$(MAKE) differential
	$(heading) "the time that a wrong sign takes"
	@$(MAKE) timing TIMING_SAMPLES=200000
	$(heading) "a minute of chaos"
	@$(MAKE) chaos SECONDS=60 SEED=29
	$(heading) "the suite under the sanitizers"
	@$(MAKE) test-sanitize
	$(heading) "the suite"
	@$(MAKE) test-plain

test-builds: all build-clang build-asan build-nginx-source unit-build
test-counts: model bench-instructions test-valgrind test-nginx-source

test-plain:
	@REFUND_NOTIFY_MODULE=$(abspath $(MODULE)) $(prove) $(suite)

test-sanitize:
	@REFUND_NOTIFY_SANITIZE=1 \
	 REFUND_NOTIFY_MODULE=$(abspath $(BUILD)/asan/$(NAME)) \
	 $(prove) $(sanitize)

test-valgrind:
	@REFUND_NOTIFY_VALGRIND=1 \
	 REFUND_NOTIFY_MODULE=$(abspath $(MODULE)) $(prove) t/10-answers.t

test-nginx-source:
	@REFUND_NOTIFY_MODULE=$(abspath $(BUILD)/nginx-source/$(NAME)) \
	 $(prove) t/10-answers.t

# TESTS: some tests only

test-trixie:
	@tools/install-dependencies.sh trixie
	@tools/test-trixie.sh $(BUILD)/trixie $(TESTS)


# The package, for the nginx that is installed; and one of a higher version, to
# upgrade to.

deb:
	@tools/install-dependencies.sh build deb
	@tools/build-deb.sh $(BUILD)/deb
	@install -m 644 $(BUILD)/deb/$(PACKAGE)_*.deb $(BUILD)
	@echo "built $$(echo $(BUILD)/$(PACKAGE)_*.deb)"

test-deb: deb
	@tools/install-dependencies.sh suite test-deb
	@tools/build-deb.sh $(BUILD)/deb-next 99.0
	@lintian --allow-root -EI --fail-on error,warning,info \
	    $(BUILD)/deb/*.changes
	@tools/test-deb.sh $(BUILD)/test-deb $(BUILD)/deb $(BUILD)/deb-next

# what "make demo" takes where nothing is installed

test-newcomer:
	@tools/install-dependencies.sh trixie
	@tools/test-newcomer.sh $(BUILD)/test-deb


# the Debians made for the tests are root's

clean:
	$(if $(wildcard $(BUILD)/trixie $(BUILD)/test-deb),$(SUDO)) \
	    rm -rf $(BUILD)


include t/unit/unit.mk t/unit/store/store.mk t/unit/redis/redis.mk
include t/model/model.mk t/fuzz/fuzz.mk t/timing/timing.mk
include t/chaos/chaos.mk t/soak/soak.mk t/torture/torture.mk
include t/coverage/coverage.mk
include bench/bench.mk
