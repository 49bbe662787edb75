
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdio.h>
#include <stdlib.h>

#include "wechatpay_json.h"


#define WECHATPAY_JSON_MAX_DEPTH  32

/*
 * Once memory has run out, Jansson 2.14 is given only what is of a size that
 * the buffer of a token may have: 32, 64, 128 ...  So much of all that it could
 * make of len bytes of text: at most four times their number for that buffer,
 * and seven for an array of "true"; a key and its string, of which each part is
 * of such a size, take less than five.
 */

#define WECHATPAY_JSON_MIN_BUFFER      32
#define wechatpay_json_reserved(len)  (16 * ((len) + 64))

/* eight times the byte n */
#define WECHATPAY_JSON_EIGHT(n)   (UINT64_C(0x0101010101010101) * (n))


static inline int wechatpay_json_escaped(uint64_t word);
static void wechatpay_json_watch(void);
static void *wechatpay_json_alloc(size_t size);
static void wechatpay_json_free(void *p);
static int wechatpay_json_too_deep(wechatpay_str_t text);
static int wechatpay_json_precision(const json_t *value, int precision);


/*
 * What allocates for Jansson, whose hooks have no context and are the process',
 * and whether it failed since a parse began.  Texts are parsed in the event
 * loop only; a thread that uses Jansson by itself may at worst have one told
 * that there was no memory.
 */

static json_malloc_t  wechatpay_json_malloc;
static json_free_t    wechatpay_json_release;
static volatile int   wechatpay_json_exhausted;

/* what is left for the parse in this thread, and where all of it is */

static __thread size_t          wechatpay_json_left;
static __thread unsigned char  *wechatpay_json_next;
static unsigned char           *wechatpay_json_reserve;
static size_t                   wechatpay_json_reserve_size;


wechatpay_error_e
wechatpay_json_parse(wechatpay_str_t text, json_t **object)
{
    int            exhausted;
    json_t        *json;
    size_t         reserved;
    json_error_t   error;

    if (wechatpay_json_too_deep(text)) {
        return WECHATPAY_ERROR_JSON_TOO_DEEP;
    }

    if (wechatpay_json_malloc == NULL) {
        wechatpay_json_watch();
    }

    /*
     * Where the buffer of a token cannot grow Jansson 2.14 writes and reads
     * behind it, so that it must not lack memory in the midst of one.
     */

    reserved = wechatpay_json_reserved(text.len);

    wechatpay_json_reserve = wechatpay_json_malloc(reserved);
    if (wechatpay_json_reserve == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    wechatpay_json_reserve_size = reserved;
    wechatpay_json_next = wechatpay_json_reserve;
    wechatpay_json_left = reserved;
    wechatpay_json_exhausted = 0;

    json = json_loadb((const char *) text.data, text.len,
                      JSON_REJECT_DUPLICATES, &error);

    exhausted = wechatpay_json_exhausted;

    if (exhausted) {
        json_decref(json);
    }

    wechatpay_json_left = 0;
    wechatpay_json_reserve_size = 0;
    wechatpay_json_release(wechatpay_json_reserve);

    if (exhausted) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    if (json == NULL) {
        switch (json_error_code(&error)) {

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


/*
 * Jansson 2.14 does not look at each allocation: where one fails a string may
 * lack bytes, or be called invalid.  So it is looked at here: set once, and for
 * good, for whatever else uses Jansson in this process may allocate meanwhile.
 */

static void
wechatpay_json_watch(void)
{
    json_get_alloc_funcs(&wechatpay_json_malloc, &wechatpay_json_release);
    json_set_alloc_funcs(wechatpay_json_alloc, wechatpay_json_free);
}


static void *
wechatpay_json_alloc(size_t size)
{
    void  *p;

    p = wechatpay_json_malloc(size);

    if (p == NULL) {
        wechatpay_json_exhausted = 1;

        if (size >= WECHATPAY_JSON_MIN_BUFFER && (size & (size - 1)) == 0
            && size <= wechatpay_json_left)
        {
            p = wechatpay_json_next;
            wechatpay_json_next += size;
            wechatpay_json_left -= size;
        }
    }

    return p;
}


static void
wechatpay_json_free(void *p)
{
    /* what is of the reserve goes with it */

    if ((uintptr_t) p - (uintptr_t) wechatpay_json_reserve
        < wechatpay_json_reserve_size)
    {
        return;
    }

    wechatpay_json_release(p);
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

    flags |= JSON_COMPACT
             |JSON_REAL_PRECISION(wechatpay_json_precision(object, 15));

    size = json_dumpb(object, NULL, 0, flags);

    p = (size != 0) ? memory->alloc(memory->data, size) : NULL;
    if (p == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    /* it allocates, and writes nothing when it cannot */

    if (json_dumpb(object, p, size, flags) != size) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    text->data = (unsigned char *) p;
    text->len = size;

    return WECHATPAY_OK;
}


unsigned char *
wechatpay_json_escape(unsigned char *dst, wechatpay_str_t text)
{
    uint64_t              word;
    unsigned char         c;
    const unsigned char  *p, *last;

    static const char  digits[] = "0123456789abcdef";

    p = text.data;
    last = p + text.len;

    while (p < last) {

        if (last - p >= (ptrdiff_t) sizeof(word)) {

            memcpy(&word, p, sizeof(word));

            if (!wechatpay_json_escaped(word)) {
                memcpy(dst, &word, sizeof(word));
                p += sizeof(word);
                dst += sizeof(word);
                continue;
            }
        }

        c = *p++;

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


/* Whether one of eight bytes is a quote, a backslash or below 0x20. */

static inline int
wechatpay_json_escaped(uint64_t word)
{
    uint64_t  quote, backslash;

    quote = word ^ WECHATPAY_JSON_EIGHT('"');
    backslash = word ^ WECHATPAY_JSON_EIGHT('\\');

    /*
     * A byte from which more is taken than it holds ends with its high bit set.
     * One from 0x80 may end so as well, and is no hit: & ~ drops it.
     */

    return ((((word - WECHATPAY_JSON_EIGHT(0x20)) & ~word)
             | ((quote - WECHATPAY_JSON_EIGHT(1)) & ~quote)
             | ((backslash - WECHATPAY_JSON_EIGHT(1)) & ~backslash))
            & WECHATPAY_JSON_EIGHT(0x80))
           != 0;
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


/*
 * The digits, 15 to 17 and not less than precision, that the reals in value
 * need to be read as what they are.  Up to 15 come out as they were received;
 * Jansson's own 17 make 0.10000000000000001 of 0.1.
 */

static int
wechatpay_json_precision(const json_t *value, int precision)
{
    char         text[32];
    size_t       i;
    double       real;
    json_t      *element;
    const char  *key;

    if (json_is_real(value)) {
        real = json_real_value(value);

        while (precision < 17) {
            (void) snprintf(text, sizeof(text), "%.*g", precision, real);

            if (strtod(text, NULL) == real) {
                break;
            }

            precision++;
        }

    } else if (json_is_array(value)) {
        json_array_foreach(value, i, element) {
            precision = wechatpay_json_precision(element, precision);
        }

    } else if (json_is_object(value)) {
        json_object_foreach((json_t *) value, key, element) {
            precision = wechatpay_json_precision(element, precision);
        }
    }

    return precision;
}
