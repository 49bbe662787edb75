# Copyright (C) the refund-notify authors

.PHONY: model

model:
	@tools/install-dependencies.sh test
	@prove t/model
