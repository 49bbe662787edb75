
/*
 * Copyright (C) the refund-notify authors
 *
 * XML in the one form that WeChat Pay sends it in, read without libxml2, which
 * looks at each character of the base64 on its own.
 */


#ifndef WECHATPAY_XML_PLAIN_H
#define WECHATPAY_XML_PLAIN_H


#include "wechatpay_xml.h"


/* The longest name that is read, in bytes. */

#define WECHATPAY_XML_PLAIN_NAME_LEN  64


/*
 * Returns 1, and sets root, fields and nfields of xml as wechatpay_xml_parse()
 * would, to spans of text, if text is of this form:
 *
 *     <root><name>value</name><name><![CDATA[value]]></name></root>
 *
 * Names begin with a letter or "_" and go on with these and digits; none comes
 * twice.  A value has no "]", and outside of CDATA no "<" and no "&" either.
 * Spaces and line feeds may be between the fields and behind the root.  The
 * text is what wechatpay_utf8_plain() takes.
 *
 * Returns 0 for all else, right or wrong, which is wechatpay_xml_parse()'s to
 * tell.  xml->max must not be 0.
 */

int wechatpay_xml_plain(wechatpay_str_t text, wechatpay_xml_t *xml);


#endif /* WECHATPAY_XML_PLAIN_H */
