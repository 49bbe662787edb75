
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_json.h"


#define WECHATPAY_JSON_MAX_DEPTH  32


static int wechatpay_json_too_deep(wechatpay_str_t text);


wechatpay_error_e
wechatpay_json_parse(wechatpay_str_t text, json_t **object)
{
    json_t        *json;
    json_error_t   error;

    if (wechatpay_json_too_deep(text)) {
        return WECHATPAY_ERROR_JSON_TOO_DEEP;
    }

    json = json_loadb((const char *) text.data, text.len,
                      JSON_REJECT_DUPLICATES, &error);

    if (json == NULL) {
        switch (json_error_code(&error)) {

        case json_error_out_of_memory:
            return WECHATPAY_ERROR_NO_MEMORY;

        case json_error_duplicate_key:
            return WECHATPAY_ERROR_JSON_REPEATED;

        default:
            return WECHATPAY_ERROR_JSON_MALFORMED;
        }
    }

    if (!json_is_object(json)) {
        json_decref(json);
        return WECHATPAY_ERROR_JSON_NOT_OBJECT;
    }

    *object = json;

    return WECHATPAY_OK;
}


wechatpay_str_t
wechatpay_json_get(const json_t *object, const char *name)
{
    json_t           *member;
    wechatpay_str_t   value;

    member = json_object_get(object, name);

    value.data = (const unsigned char *) json_string_value(member);
    value.len = json_string_length(member);

    return value;
}


wechatpay_error_e
wechatpay_json_dump(const json_t *object, size_t flags,
    wechatpay_memory_t *memory, wechatpay_str_t *text)
{
    char    *p;
    size_t   size;

    flags |= JSON_COMPACT;

    size = json_dumpb(object, NULL, 0, flags);

    p = (size != 0) ? memory->alloc(memory->data, size) : NULL;
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    (void) json_dumpb(object, p, size, flags);

    text->data = (unsigned char *) p;
    text->len = size;

    return WECHATPAY_OK;
}


unsigned char *
wechatpay_json_escape(unsigned char *dst, wechatpay_str_t text)
{
    size_t         i;
    unsigned char  c;

    static const char  digits[] = "0123456789abcdef";

    for (i = 0; i < text.len; i++) {
        c = text.data[i];

        if (c >= 0x20 && c != '"' && c != '\\') {
            *dst++ = c;
            continue;
        }

        *dst++ = '\\';

        switch (c) {

        case '"':
        case '\\':
            *dst++ = c;
            break;

        case '\n':
            *dst++ = 'n';
            break;

        case '\r':
            *dst++ = 'r';
            break;

        case '\t':
            *dst++ = 't';
            break;

        default:
            *dst++ = 'u';
            *dst++ = '0';
            *dst++ = '0';
            *dst++ = (unsigned char) digits[c >> 4];
            *dst++ = (unsigned char) digits[c & 0x0f];
            break;
        }
    }

    return dst;
}


/*
 * Jansson recurses up to 2048 levels; brackets are counted first, as good as it
 * goes without parsing: text that this misreads is not JSON.
 */

static int
wechatpay_json_too_deep(wechatpay_str_t text)
{
    int        quoted;
    size_t     i;
    unsigned   depth;

    depth = 0;
    quoted = 0;

    for (i = 0; i < text.len; i++) {

        switch (text.data[i]) {

        case '"':
            quoted = !quoted;
            break;

        case '\\':
            if (quoted) {
                i++;
            }

            break;

        case '{':
        case '[':
            if (!quoted && ++depth > WECHATPAY_JSON_MAX_DEPTH) {
                return 1;
            }

            break;

        case '}':
        case ']':
            if (!quoted && depth != 0) {
                depth--;
            }

            break;
        }
    }

    return 0;
}
