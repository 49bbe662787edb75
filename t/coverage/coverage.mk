# Copyright (C) the refund-notify authors
#
# What of the C the tests reach: make coverage runs the units and the suite on a
# build that counts, and tools/coverage.pl says what came of it.  Without TESTS
# that is all of the suite; make coverage-tests TESTS=t/20-duplicates.t adds a
# test to what was counted, and make coverage-report prints it.

COVERAGE = $(BUILD)/coverage
COVERAGE_FLAGS = -O0 --coverage -fprofile-update=atomic -fprofile-abs-path
COVERAGE_WRAP = -Wl,--wrap=ngx_http_refund_stores_init_process
COVERAGE_MAKE = $(MAKE) BUILD=$(COVERAGE) NGINX_OBJS=$(COVERAGE)/module \
    UNIT_PLAIN="$(COVERAGE_FLAGS)" UNIT_STORE_ASAN="$(COVERAGE_FLAGS)"

.PHONY: coverage coverage-build coverage-tests coverage-torture
.PHONY: coverage-report

coverage:
	@tools/install-dependencies.sh build test coverage
	@$(MAKE) coverage-build
	@find $(COVERAGE) -name '*.gcda' -delete
	@rc=0; $(MAKE) coverage-tests || rc=1; $(MAKE) coverage-torture; \
	$(MAKE) coverage-report || rc=1; \
	exit $$rc

coverage-build:
	+@REFUND_NOTIFY_TEST_SRCS=t/coverage/ngx_refund_test_counts.c \
	tools/build-module.sh $(COVERAGE)/module gcc "$(COVERAGE_FLAGS)" \
	    "--coverage $(COVERAGE_WRAP)"

# Each process adds its counts to the files when it ends, under a lock.  The
# verdict of the torture is make torture's: here it makes the counting fail, too.

coverage-tests:
	@rc=0; $(COVERAGE_MAKE) unit unit-store unit-redis || rc=1; \
	REFUND_NOTIFY_MODULE=$(abspath $(COVERAGE)/module/$(NAME)) \
	$(prove) $(or $(TESTS),t) || rc=1; \
	exit $$rc

coverage-torture:
	@TORTURE_FULL=1 \
	 REFUND_NOTIFY_MODULE=$(abspath $(COVERAGE)/module/$(NAME)) \
	 prove -It/lib $(wildcard t/45-torture.t) \
	     >$(COVERAGE)/torture.log 2>&1 || true

# A branch that gcc made where the source has none, as for a closing brace, is
# not counted.

coverage-report:
	@gcovr --root . --filter src/ --filter ngx_http_refund_notify_module.c \
	    --exclude-unreachable-branches --json $(COVERAGE)/coverage.json \
	    $(COVERAGE)
	@tools/coverage.pl $(COVERAGE)/coverage.json t/coverage/unreached.txt
