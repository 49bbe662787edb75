# Copyright (C) the refund-notify authors
#
#   make timing     does the time tell how much of a secret was right?
#
# By the method of dudect (Reparaz, Balasch, Verbauwhede: "Dude, is my code
# constant time?", 2017), of TIMING_SAMPLES: in two rounds of at most three |t| is
# below 10, dudect's limit for what leaks for certain; of a million samples and
# more, as in make soak, below 4.5, its limit for what may.
#
# What src compares with a secret that a stranger may send is one thing: the
# sign of an answer under APIv2 (wechatpay_v2_sign.c).  GCM's tag is OpenSSL's to
# compare, a signature of RSA is verified by what is public, keys are compared
# when the configuration is read, and owners of records come from Redis only.  The
# padding of req_info has no comparison that could be made to leak, and is not
# measured: wechatpay_v2_req_info.c looks at all of it by its form.

TIMING = $(BUILD)/timing
TIMING_SAMPLES = 1000000
TIMING_OBJECTS = $(patsubst %.c,$(UNIT)/plain/%.o, \
    $(notdir $(wildcard src/wechatpay/*.c)))

.PHONY: timing

timing: $(TIMING)/timing
	@$< $(TIMING_SAMPLES)

$(TIMING)/timing: t/timing/timing.c $(TIMING_OBJECTS)
	@mkdir -p $(@D)
	@echo "$(CC) $@" && $(CC) $(UNIT_CFLAGS) -O2 -Wl,--wrap=CRYPTO_memcmp \
	    -o $@ $^ $(UNIT_LDLIBS) -lm
