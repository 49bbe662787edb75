
/*
 * Copyright (C) the refund-notify authors
 */


#ifndef WECHATPAY_JSON_H
#define WECHATPAY_JSON_H


#include <jansson.h>

#include "wechatpay_error.h"


/*
 * Parses one JSON object as RFC 8259 has it, and stricter: no member twice, no
 * NUL in a string, at most 32 levels, nothing behind it.  The caller drops
 * *object by json_decref().
 */

wechatpay_error_e wechatpay_json_parse(wechatpay_str_t text, json_t **object);


/*
 * The string member of that name, whose bytes are the object's; a string with
 * len 0 where there is none, or where it is of another type.
 */

wechatpay_str_t wechatpay_json_get(const json_t *object, const char *name);


/*
 * Writes object without white space into memory; flags: JSON_EMBED leaves out
 * the braces, or 0.  Reals of up to 15 digits are written with the digits that
 * they were parsed from, unless beside one that needs more.
 */

wechatpay_error_e wechatpay_json_dump(const json_t *object, size_t flags,
    wechatpay_memory_t *memory, wechatpay_str_t *text);


/* The room that len bytes of text can take within the quotes of JSON. */

#define wechatpay_json_escaped_length(len)  ((len) * 6)


/*
 * Writes text, UTF-8, to dst as it stands within the quotes of a JSON string,
 * and returns the end of what was written.
 */

unsigned char *wechatpay_json_escape(unsigned char *dst, wechatpay_str_t text);


#endif /* WECHATPAY_JSON_H */
