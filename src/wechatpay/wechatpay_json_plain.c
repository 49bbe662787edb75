
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_json_plain.h"
#include "wechatpay_utf8.h"


/* So many digits always fit into the integers that any reader of JSON has. */

#define WECHATPAY_JSON_PLAIN_DIGITS  15


static const unsigned char *wechatpay_json_plain_object(const unsigned char *p,
    const unsigned char *end, wechatpay_json_plain_t *json, int nested);
static const unsigned char *wechatpay_json_plain_value(const unsigned char *p,
    const unsigned char *end, wechatpay_json_plain_t *json,
    wechatpay_json_member_t *member, int nested);
static const unsigned char *wechatpay_json_plain_string(const unsigned char *p,
    const unsigned char *end, wechatpay_str_t *string);
static const unsigned char *wechatpay_json_plain_integer(
    const unsigned char *p, const unsigned char *end, int64_t *integer);


int
wechatpay_json_plain(wechatpay_str_t text, wechatpay_json_plain_t *json)
{
    const unsigned char  *end;

    if (text.len == 0
        || memchr(text.data, '\\', text.len) != NULL
        || memchr(text.data, '\n', text.len) != NULL
        || !wechatpay_utf8_plain(text))
    {
        return 0;
    }

    end = text.data + text.len;
    json->nmembers = 0;

    return wechatpay_json_plain_object(text.data, end, json, 0) == end;
}


/* Each of these returns where what it reads ends, or NULL: it is not there. */

static const unsigned char *
wechatpay_json_plain_object(const unsigned char *p, const unsigned char *end,
    wechatpay_json_plain_t *json, int nested)
{
    wechatpay_json_member_t  *first, *member;

    first = &json->members[json->nmembers];

    if (p == end || *p != '{') {
        return NULL;
    }

    do {
        if (json->nmembers == WECHATPAY_JSON_PLAIN_MAX) {
            return NULL;
        }

        member = &json->members[json->nmembers++];
        member->text.data = ++p;
        member->nmembers = 0;

        p = wechatpay_json_plain_string(p, end, &member->name);

        if (p == NULL || p == end || *p != ':'
            || wechatpay_json_plain_find(first, (size_t) (member - first),
                                         member->name)
               != NULL)
        {
            return NULL;
        }

        p = wechatpay_json_plain_value(p + 1, end, json, member, nested);

        if (p == NULL || p == end) {
            return NULL;
        }

        member->text.len = (size_t) (p - member->text.data);

    } while (*p == ',');

    return (*p == '}') ? p + 1 : NULL;
}


static const unsigned char *
wechatpay_json_plain_value(const unsigned char *p, const unsigned char *end,
    wechatpay_json_plain_t *json, wechatpay_json_member_t *member, int nested)
{
    size_t  before;

    if (p == end) {
        return NULL;
    }

    if (*p == '"') {
        member->kind = WECHATPAY_JSON_STRING;
        return wechatpay_json_plain_string(p, end, &member->string);
    }

    if (*p != '{') {
        member->kind = WECHATPAY_JSON_INTEGER;
        return wechatpay_json_plain_integer(p, end, &member->integer);
    }

    if (nested) {
        return NULL;
    }

    before = json->nmembers;

    member->kind = WECHATPAY_JSON_OBJECT;
    p = wechatpay_json_plain_object(p, end, json, 1);
    member->nmembers = json->nmembers - before;

    return p;
}


/* There are no escapes: the next quote is its end. */

static const unsigned char *
wechatpay_json_plain_string(const unsigned char *p, const unsigned char *end,
    wechatpay_str_t *string)
{
    const unsigned char  *last;

    if (p == end || *p++ != '"') {
        return NULL;
    }

    last = memchr(p, '"', (size_t) (end - p));
    if (last == NULL) {
        return NULL;
    }

    string->data = p;
    string->len = (size_t) (last - p);

    return last + 1;
}


/* What follows the digits is the caller's to check. */

static const unsigned char *
wechatpay_json_plain_integer(const unsigned char *p, const unsigned char *end,
    int64_t *integer)
{
    int64_t               n;
    const unsigned char  *first;

    n = 0;

    for (first = p; p < end && *p >= '0' && *p <= '9'; p++) {

        if (p - first == WECHATPAY_JSON_PLAIN_DIGITS) {
            return NULL;
        }

        n = n * 10 + (*p - '0');
    }

    if (p == first || (*first == '0' && p - first > 1)) {
        return NULL;
    }

    *integer = n;

    return p;
}


const wechatpay_json_member_t *
wechatpay_json_plain_find(const wechatpay_json_member_t *first, size_t n,
    wechatpay_str_t name)
{
    const wechatpay_json_member_t  *end;

    for (end = first + n; first < end; first += 1 + first->nmembers) {
        if (wechatpay_str_equal(first->name, name)) {
            return first;
        }
    }

    return NULL;
}
