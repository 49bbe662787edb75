
/*
 * Copyright (C) the refund-notify authors
 *
 * Runs src/wechatpay over notifies of each kind, so that callgrind can count
 * the instructions of one: those of bench_measured(), and a dump after each
 * bench_scenario().
 *
 *     instructions directory list          the names, one a line, in order
 *     instructions directory run count     count notifies of each
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/pem.h>

#include "notify.h"
#include "wechatpay_event.h"
#include "wechatpay_notify.h"


/* before the first that is counted: what is made only once */
#define BENCH_WARM_UP  5

/* wall clock of all signatures */
#define BENCH_NOW      1528425296


typedef struct {
    const char           *name;
    wechatpay_version_e   version;
    wechatpay_error_e     error;
    size_t                extra;
    bench_bend_e          bend;
} bench_scenario_t;


typedef struct {
    unsigned char         data[1024 * 1024];
    size_t                used;
} bench_arena_t;


static wechatpay_merchant_t *bench_merchant(const bench_merchant_t *sender);
static void bench_check(wechatpay_key_error_t error);
static void bench_scenario(const bench_scenario_t *scenario,
    bench_merchant_t *sender, wechatpay_merchant_t *merchant, uint64_t count);
static void bench_header(wechatpay_headers_t *headers, const char *name,
    const char *value);
static wechatpay_error_e bench_run(wechatpay_version_e version,
    wechatpay_merchant_t *merchant, const wechatpay_headers_t *headers,
    wechatpay_str_t body, wechatpay_memory_t *memory);
static wechatpay_error_e bench_measured(wechatpay_version_e version,
    wechatpay_merchant_t *merchant, const wechatpay_headers_t *headers,
    wechatpay_str_t body, wechatpay_memory_t *memory);
static void *bench_alloc(void *data, size_t size);
static wechatpay_str_t bench_str(const char *text);


static const bench_scenario_t  bench_scenarios[] = {

    { "v2, accepted", WECHATPAY_V2, WECHATPAY_OK, 0, BENCH_GENUINE },

    { "v2, accepted, 16 KB more", WECHATPAY_V2, WECHATPAY_OK, 16384,
      BENCH_GENUINE },

    { "v2, under another key", WECHATPAY_V2, WECHATPAY_ERROR_REQ_INFO_KEY, 0,
      BENCH_OTHER_KEY },

    { "v2, without req_info", WECHATPAY_V2, WECHATPAY_ERROR_REQ_INFO_MISSING,
      0, BENCH_NO_REQ_INFO },

    { "v3, accepted", WECHATPAY_V3, WECHATPAY_OK, 0, BENCH_GENUINE },

    { "v3, accepted, 16 KB more", WECHATPAY_V3, WECHATPAY_OK, 16384,
      BENCH_GENUINE },

    { "v3, forged signature", WECHATPAY_V3, WECHATPAY_ERROR_SIGNATURE_WRONG,
      0, BENCH_FORGED },

    { "v3, unknown serial", WECHATPAY_V3, WECHATPAY_ERROR_SERIAL_UNKNOWN, 0,
      BENCH_OTHER_SERIAL }
};

#define BENCH_NSCENARIOS                                                      \
    (sizeof(bench_scenarios) / sizeof(bench_scenarios[0]))


static wechatpay_parser_t  *bench_parser;
static bench_notify_t       bench_notify;
static bench_arena_t        bench_arena;


int
main(int argc, char **argv)
{
    size_t                 i;
    uint64_t               count;
    bench_merchant_t       sender;
    wechatpay_merchant_t  *merchant;

    if (argc == 3 && strcmp(argv[2], "list") == 0) {
        for (i = 0; i < BENCH_NSCENARIOS; i++) {
            puts(bench_scenarios[i].name);
        }

        return 0;
    }

    if (argc != 4 || strcmp(argv[2], "run") != 0) {
        bench_die("usage: instructions directory list | run count");
    }

    count = strtoull(argv[3], NULL, 10);

    bench_merchant_read(&sender, argv[1]);
    merchant = bench_merchant(&sender);

    bench_parser = wechatpay_parser_create();

    if (bench_parser == NULL) {
        bench_die("no memory for the parsers");
    }

    for (i = 0; i < BENCH_NSCENARIOS; i++) {
        bench_scenario(&bench_scenarios[i], &sender, merchant, count);
    }

    wechatpay_parser_destroy(bench_parser);
    wechatpay_merchant_destroy(merchant);
    bench_merchant_free(&sender);

    return 0;
}


static wechatpay_merchant_t *
bench_merchant(const bench_merchant_t *sender)
{
    BIO                   *bio;
    wechatpay_str_t        pem;
    wechatpay_merchant_t  *merchant;

    merchant = wechatpay_merchant_create();
    bio = BIO_new(BIO_s_mem());

    if (merchant == NULL || bio == NULL
        || PEM_write_bio_PUBKEY(bio, sender->key) != 1)
    {
        bench_die("no memory for the merchant");
    }

    pem.len = (size_t) BIO_get_mem_data(bio, &pem.data);

    bench_check(wechatpay_merchant_set_mch_id(merchant,
                                              bench_str(sender->mch_id)));
    bench_check(wechatpay_merchant_add_v2_key(merchant,
                                              bench_str(sender->v2_key)));
    bench_check(wechatpay_merchant_add_v3_key(merchant,
                                              bench_str(sender->v3_key)));
    bench_check(wechatpay_merchant_add_public_key(merchant,
                                            bench_str(sender->serial), pem));
    BIO_free(bio);

    return merchant;
}


static void
bench_check(wechatpay_key_error_t error)
{
    if (error) {
        bench_die("something of the merchant's %s", error);
    }
}


static __attribute__ ((noinline)) void
bench_scenario(const bench_scenario_t *scenario, bench_merchant_t *sender,
    wechatpay_merchant_t *merchant, uint64_t count)
{
    uint64_t              n;
    wechatpay_str_t       body;
    wechatpay_error_e     error;
    wechatpay_memory_t    memory;
    wechatpay_headers_t   headers;

    memory.alloc = bench_alloc;
    memory.data = &bench_arena;

    for (n = 0; n < BENCH_WARM_UP + count; n++) {
        memset(&headers, 0, sizeof(wechatpay_headers_t));

        if (scenario->version == WECHATPAY_V2) {
            bench_v2_notify(sender, scenario->bend, n, scenario->extra,
                            &bench_notify);

        } else {
            bench_v3_notify(sender, scenario->bend, n, scenario->extra,
                            BENCH_NOW, &bench_notify);

            bench_header(&headers, "wechatpay-timestamp",
                         bench_notify.timestamp);
            bench_header(&headers, "wechatpay-nonce", bench_notify.nonce);
            bench_header(&headers, "wechatpay-serial", bench_notify.serial);
            bench_header(&headers, "wechatpay-signature",
                         bench_notify.signature);
        }

        body.data = (unsigned char *) bench_notify.body;
        body.len = bench_notify.len;

        bench_arena.used = 0;

        if (n < BENCH_WARM_UP) {
            error = bench_run(scenario->version, merchant, &headers, body,
                              &memory);

        } else {
            error = bench_measured(scenario->version, merchant, &headers,
                                   body, &memory);
        }

        if (error != scenario->error) {
            bench_die("%s: \"%s\"", scenario->name,
                      wechatpay_error_phrase(error));
        }
    }
}


static void
bench_header(wechatpay_headers_t *headers, const char *name, const char *value)
{
    (void) wechatpay_headers_add(headers, bench_str(name), bench_str(value));
}


/* All of a notify, down to what the business app receives. */

static __attribute__ ((noinline)) wechatpay_error_e
bench_run(wechatpay_version_e version, wechatpay_merchant_t *merchant,
    const wechatpay_headers_t *headers, wechatpay_str_t body,
    wechatpay_memory_t *memory)
{
    wechatpay_str_t      id, json;
    wechatpay_error_e    error;
    wechatpay_refund_t   refund;

    error = version == WECHATPAY_V2
            ? wechatpay_v2_notify(bench_parser, merchant, body, memory,
                                  &refund)
            : wechatpay_v3_notify(bench_parser, merchant, headers, body,
                                  BENCH_NOW, 300, memory, &refund);

    if (error == WECHATPAY_OK) {
        error = wechatpay_event_id(&refund, memory, &id);
    }

    if (error == WECHATPAY_OK) {
        error = wechatpay_event_json(&refund, id, bench_str("shop"), BENCH_NOW,
                                     memory, &json);
    }

    return error;
}


/* What callgrind counts: a call that is more than a jump. */

static __attribute__ ((noinline)) wechatpay_error_e
bench_measured(wechatpay_version_e version, wechatpay_merchant_t *merchant,
    const wechatpay_headers_t *headers, wechatpay_str_t body,
    wechatpay_memory_t *memory)
{
    wechatpay_error_e  error;

    error = bench_run(version, merchant, headers, body, memory);

    __asm__ volatile ("" : : : "memory");

    return error;
}


static void *
bench_alloc(void *data, size_t size)
{
    void           *p;
    bench_arena_t  *arena = data;

    size = (size + 15) & ~(size_t) 15;

    if (size > sizeof(arena->data) - arena->used) {
        return NULL;
    }

    p = arena->data + arena->used;
    arena->used += size;

    return p;
}


static wechatpay_str_t
bench_str(const char *text)
{
    wechatpay_str_t  str;

    str.data = (const unsigned char *) text;
    str.len = strlen(text);

    return str;
}
