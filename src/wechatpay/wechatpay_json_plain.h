
/*
 * Copyright (C) the refund-notify authors
 *
 * JSON in the one form that WeChat Pay sends its notifies in, read without
 * Jansson, which takes the base64 byte by byte, and a hash table an object.
 */


#ifndef WECHATPAY_JSON_PLAIN_H
#define WECHATPAY_JSON_PLAIN_H


#include "wechatpay.h"


#define WECHATPAY_JSON_PLAIN_MAX  48


typedef enum {
    WECHATPAY_JSON_STRING = 0,
    WECHATPAY_JSON_INTEGER,
    WECHATPAY_JSON_OBJECT,

    /* never read as plain */
    WECHATPAY_JSON_NULL,
    WECHATPAY_JSON_OTHER
} wechatpay_json_kind_e;


/* Spans of the text; what is of another kind is not set. */

typedef struct {
    wechatpay_str_t         name;
    wechatpay_str_t         text;       /* "name":value, all of it */
    wechatpay_json_kind_e   kind;
    wechatpay_str_t         string;     /* without the quotes */
    int64_t                 integer;
    size_t                  nmembers;   /* of an object: those behind it */
} wechatpay_json_member_t;


typedef struct {
    wechatpay_json_member_t  members[WECHATPAY_JSON_PLAIN_MAX];
    size_t                   nmembers;  /* with those of objects */
} wechatpay_json_plain_t;


/*
 * Returns 1, and sets json, if text is one object of this form, and nothing
 * before or behind it:
 *
 *     {"name":"string","name":123,"name":{"name":"string","name":123}}
 *
 * No white space, no backslash, no object within that of a member, none empty,
 * no name twice in one, at most WECHATPAY_JSON_PLAIN_MAX members in all;
 * integers from 0, of at most 15 digits.  The text is what
 * wechatpay_utf8_plain() takes, without line feeds.  Then it is what Jansson
 * reads too, to the same members in the same order; and what Jansson would
 * write of them without white space is the text.
 *
 * Returns 0 for all else, right or wrong, which is Jansson's to tell.
 */

int wechatpay_json_plain(wechatpay_str_t text, wechatpay_json_plain_t *json);


/*
 * The member of that name of the object whose n members, with theirs, begin at
 * first, or NULL.
 */

const wechatpay_json_member_t *wechatpay_json_plain_find(
    const wechatpay_json_member_t *first, size_t n, wechatpay_str_t name);


#endif /* WECHATPAY_JSON_PLAIN_H */
