
/*
 * Copyright (C) the refund-notify authors
 *
 * The fields of a refund, as tables: what each is called, of which form it has
 * to be, and where it goes.
 */


#ifndef WECHATPAY_FIELD_H
#define WECHATPAY_FIELD_H


#include "wechatpay_error.h"


/* 2^53 - 1: what every JSON reader takes as an integer, RFC 8259, section 6 */

#define WECHATPAY_MONEY_MAX  INT64_C(9007199254740991)


typedef enum {
    WECHATPAY_FIELD_ID = 0,     /* 1 to 64 of [0-9A-Za-z_-] */
    WECHATPAY_FIELD_NUMBER,     /* 1 to 64 of printable ASCII */
    WECHATPAY_FIELD_TEXT,       /* 1 to 1024 bytes */
    WECHATPAY_FIELD_V2_TIME,    /* "YYYY-MM-DD HH:MM:SS" */
    WECHATPAY_FIELD_V3_TIME,    /* RFC 3339, at most 64 bytes */
    WECHATPAY_FIELD_MONEY       /* an int64_t, the others are spans */
} wechatpay_field_form_e;


typedef struct {
    wechatpay_str_t          name;
    wechatpay_field_form_e   form;
    size_t                   offset;
    wechatpay_error_e        missing;   /* WECHATPAY_OK: may be absent */

    /*
     * The error where it is of another form, or WECHATPAY_OK for what is there
     * to be read only: no refund is lost over that, it goes to extra.
     */
    wechatpay_error_e        invalid;
} wechatpay_field_t;


/* Returns the one of n fields that has the name, or NULL. */

const wechatpay_field_t *wechatpay_field_find(const wechatpay_field_t *fields,
    size_t n, wechatpay_str_t name);


/* Returns 1 if value is of the form, which is not that of money, else 0. */

int wechatpay_field_valid(wechatpay_field_form_e form, wechatpay_str_t value);


/* Where a field lies in the structure that its table was made for. */

#define wechatpay_field_str(field, base)                                      \
    ((wechatpay_str_t *) ((unsigned char *) (base) + (field)->offset))
#define wechatpay_field_money(field, base)                                    \
    ((int64_t *) ((unsigned char *) (base) + (field)->offset))


/*
 * Returns the error of the first field that must be there and is not:
 * a string with len 0, or WECHATPAY_AMOUNT_ABSENT.
 */

wechatpay_error_e wechatpay_field_missing(const wechatpay_field_t *fields,
    size_t n, void *base);


#endif /* WECHATPAY_FIELD_H */
