
/*
 * Copyright (C) the refund-notify authors
 */


#include "wechatpay_xml_plain.h"
#include "wechatpay_utf8.h"


#define WECHATPAY_XML_CDATA      "<![CDATA["
#define WECHATPAY_XML_CDATA_END  "]]>"

/* The bytes from p to end begin with the literal s. */

#define wechatpay_xml_starts(p, end, s)                                       \
    ((size_t) ((end) - (p)) >= sizeof(s) - 1                                  \
     && memcmp(p, s, sizeof(s) - 1) == 0)


static const unsigned char *wechatpay_xml_plain_space(const unsigned char *p,
    const unsigned char *end);
static const unsigned char *wechatpay_xml_plain_open(const unsigned char *p,
    const unsigned char *end, wechatpay_str_t *name);
static const unsigned char *wechatpay_xml_plain_value(const unsigned char *p,
    const unsigned char *end, wechatpay_str_t *value);
static const unsigned char *wechatpay_xml_plain_close(const unsigned char *p,
    const unsigned char *end, wechatpay_str_t name);
static int wechatpay_xml_plain_known(const wechatpay_xml_t *xml,
    wechatpay_str_t name);


int
wechatpay_xml_plain(wechatpay_str_t text, wechatpay_xml_t *xml)
{
    const unsigned char    *p, *end;
    wechatpay_xml_field_t  *field;

    if (!wechatpay_utf8_plain(text)) {
        return 0;
    }

    end = text.data + text.len;
    xml->nfields = 0;

    p = wechatpay_xml_plain_open(text.data, end, &xml->root);

    for ( ;; ) {

        if (p == NULL) {
            return 0;
        }

        p = wechatpay_xml_plain_space(p, end);

        if (wechatpay_xml_starts(p, end, "</")) {
            break;
        }

        if (xml->nfields == xml->max) {
            return 0;
        }

        field = &xml->fields[xml->nfields];

        p = wechatpay_xml_plain_open(p, end, &field->name);
        if (p == NULL || wechatpay_xml_plain_known(xml, field->name)) {
            return 0;
        }

        p = wechatpay_xml_plain_value(p, end, &field->value);
        if (p == NULL) {
            return 0;
        }

        p = wechatpay_xml_plain_close(p, end, field->name);

        xml->nfields++;
    }

    p = wechatpay_xml_plain_close(p, end, xml->root);

    return p != NULL && wechatpay_xml_plain_space(p, end) == end;
}


/* Each of these returns where what it reads ends, or NULL: it is not there. */

static const unsigned char *
wechatpay_xml_plain_space(const unsigned char *p, const unsigned char *end)
{
    while (p < end && (*p == ' ' || *p == '\n')) {
        p++;
    }

    return p;
}


static const unsigned char *
wechatpay_xml_plain_open(const unsigned char *p, const unsigned char *end,
    wechatpay_str_t *name)
{
    unsigned char  c;

    if (p == end || *p++ != '<') {
        return NULL;
    }

    name->data = p;

    for ( /* void */ ; p < end; p++) {
        c = *p | 0x20;

        if ((c < 'a' || c > 'z') && *p != '_'
            && (*p < '0' || *p > '9' || p == name->data))
        {
            break;
        }
    }

    name->len = (size_t) (p - name->data);

    if (p == end || *p != '>' || name->len == 0
        || name->len > WECHATPAY_XML_PLAIN_NAME_LEN)
    {
        return NULL;
    }

    return p + 1;
}


static const unsigned char *
wechatpay_xml_plain_value(const unsigned char *p, const unsigned char *end,
    wechatpay_str_t *value)
{
    const unsigned char  *last;

    if (wechatpay_xml_starts(p, end, WECHATPAY_XML_CDATA)) {
        p += sizeof(WECHATPAY_XML_CDATA) - 1;

        last = memchr(p, ']', (size_t) (end - p));

        if (last == NULL
            || !wechatpay_xml_starts(last, end, WECHATPAY_XML_CDATA_END))
        {
            return NULL;
        }

        value->data = p;
        value->len = (size_t) (last - p);

        return last + sizeof(WECHATPAY_XML_CDATA_END) - 1;
    }

    last = memchr(p, '<', (size_t) (end - p));
    if (last == NULL) {
        return NULL;
    }

    value->data = p;
    value->len = (size_t) (last - p);

    if (memchr(p, '&', value->len) != NULL
        || memchr(p, ']', value->len) != NULL)
    {
        return NULL;
    }

    return last;
}


static const unsigned char *
wechatpay_xml_plain_close(const unsigned char *p, const unsigned char *end,
    wechatpay_str_t name)
{
    if ((size_t) (end - p) < sizeof("</>") - 1 + name.len
        || p[0] != '<' || p[1] != '/'
        || memcmp(p + 2, name.data, name.len) != 0
        || p[2 + name.len] != '>')
    {
        return NULL;
    }

    return p + sizeof("</>") - 1 + name.len;
}


static int
wechatpay_xml_plain_known(const wechatpay_xml_t *xml, wechatpay_str_t name)
{
    size_t  i;

    for (i = 0; i < xml->nfields; i++) {
        if (wechatpay_str_equal(xml->fields[i].name, name)) {
            return 1;
        }
    }

    return 0;
}
