
/*
 * Copyright (C) the refund-notify authors
 *
 * The XML of WeChat Pay's API v2: one root element with fields in it, nothing
 * else.  What is more than that is refused, not skipped, for no notify of
 * WeChat Pay has it, and each has been an attack on its users before.
 */


#ifndef WECHATPAY_XML_H
#define WECHATPAY_XML_H


#include "wechatpay_error.h"


#define WECHATPAY_XML_MAX_SIZE  (1024 * 1024)


typedef struct {
    wechatpay_str_t         name;
    wechatpay_str_t         value;
} wechatpay_xml_field_t;


/*
 * fields and max are the caller's; the rest is set by the parser.  With max 0
 * there are as many fields as the text has: the parser puts them into memory,
 * and beside them the same in the order of their names' bytes.
 */

typedef struct {
    wechatpay_xml_field_t  *fields;
    size_t                  max;
    size_t                  nfields;
    wechatpay_str_t         root;
    wechatpay_xml_field_t  *sorted;         /* max 0 only */
} wechatpay_xml_t;


typedef struct wechatpay_xml_parser_s  wechatpay_xml_parser_t;


/*
 * Makes a parser's context on the heap, which is reused for each document, or
 * returns NULL.  The caller owns it, and destroys it, or NULL; what it has
 * parsed lives on.
 */

wechatpay_xml_parser_t *wechatpay_xml_parser_create(void);
void wechatpay_xml_parser_destroy(wechatpay_xml_parser_t *parser);


/*
 * Parses text of at most WECHATPAY_XML_MAX_SIZE bytes.  Names and values are
 * spans of text, or of one piece of memory as long as it, with max 0 always the
 * latter; character references, the five entities and CDATA are resolved in
 * them.  UTF-8 only, whatever the XML declaration says.  Refused: a DOCTYPE, a
 * processing instruction, attributes, namespaces, a third level, text between
 * the fields, a field twice, more than max fields, where that is not 0.
 * Comments are skipped.
 */

wechatpay_error_e wechatpay_xml_parse(wechatpay_xml_parser_t *parser,
    wechatpay_str_t text, wechatpay_memory_t *memory, wechatpay_xml_t *xml);


/* For qsort() of fields: in the order of their names' bytes. */

int wechatpay_xml_compare(const void *one, const void *two);


/* The value of a field, or a string with len 0: empty counts as absent. */

wechatpay_str_t wechatpay_xml_get(const wechatpay_xml_t *xml,
    const char *name);


#endif /* WECHATPAY_XML_H */
