# Copyright (C) the refund-notify authors
#
#   make torture    every call that can fail made to fail, under the sanitizers;
#                   build/torture.txt: each call, and what came of it

.PHONY: torture

torture: build-asan
	@tools/install-dependencies.sh suite
	@TORTURE_FULL=1 TORTURE_TABLE=$(abspath $(BUILD))/torture.txt \
	 REFUND_NOTIFY_SANITIZE=1 \
	 REFUND_NOTIFY_MODULE=$(abspath $(BUILD)/asan/$(NAME)) \
	 prove -v -It/lib t/45-torture.t
