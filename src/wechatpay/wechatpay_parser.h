
/*
 * Copyright (C) the refund-notify authors
 *
 * What a parser is made of, for the files here only.  JSON needs no context.
 */


#ifndef WECHATPAY_PARSER_H
#define WECHATPAY_PARSER_H


#include "wechatpay_xml.h"


struct wechatpay_parser_s {
    wechatpay_xml_parser_t  *xml;
};


#endif /* WECHATPAY_PARSER_H */
