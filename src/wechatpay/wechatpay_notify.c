
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdlib.h>

#include "wechatpay_notify.h"
#include "wechatpay_parser.h"


wechatpay_parser_t *
wechatpay_parser_create(void)
{
    wechatpay_parser_t  *parser;

    parser = calloc(1, sizeof(wechatpay_parser_t));
    if (parser == NULL) {
        return NULL;
    }

    parser->xml = wechatpay_xml_parser_create();
    if (parser->xml == NULL) {
        free(parser);
        return NULL;
    }

    return parser;
}


void
wechatpay_parser_destroy(wechatpay_parser_t *parser)
{
    if (parser == NULL) {
        return;
    }

    wechatpay_xml_parser_destroy(parser->xml);
    free(parser);
}


wechatpay_version_e
wechatpay_notify_version(wechatpay_str_t body)
{
    size_t  i;

    for (i = 0; i < body.len; i++) {

        switch (body.data[i]) {

        case ' ':
        case '\t':
        case '\r':
        case '\n':
            continue;

        case '<':
            return WECHATPAY_V2;

        case '{':
            return WECHATPAY_V3;

        default:
            return WECHATPAY_VERSION_UNKNOWN;
        }
    }

    return WECHATPAY_VERSION_UNKNOWN;
}
