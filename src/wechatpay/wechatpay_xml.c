
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdlib.h>

#include <libxml/parser.h>

#include "wechatpay_xml.h"
#include "wechatpay_utf8.h"
#include "wechatpay_xml_plain.h"


#if (LIBXML_VERSION >= 21200)
typedef const xmlError  *wechatpay_xml_error_t;
#else
typedef xmlErrorPtr      wechatpay_xml_error_t;
#endif


/*
 * libxml2 keeps every name that it meets in the context's dictionary, and
 * anybody can send names: past this size, in bytes, the context is made anew.
 */

#define WECHATPAY_XML_MAX_DICTIONARY  (64 * 1024)


struct wechatpay_xml_parser_s {
    xmlParserCtxtPtr        ctxt;

    /* of the document that is being parsed */
    wechatpay_xml_t        *xml;
    wechatpay_xml_field_t  *field;
    wechatpay_memory_t     *memory;
    size_t                  room;           /* fields; 0: the caller's max */
    wechatpay_error_e       error;
    unsigned                depth;
    unsigned char          *last;
    unsigned char          *end;
};


static int wechatpay_xml_has_attribute(wechatpay_str_t text);
static const unsigned char *wechatpay_xml_behind(const unsigned char *p,
    const unsigned char *end, unsigned char c);
static xmlParserCtxtPtr wechatpay_xml_context(wechatpay_xml_parser_t *parser);
static void wechatpay_xml_fail(wechatpay_xml_parser_t *parser,
    wechatpay_error_e error);
static wechatpay_str_t wechatpay_xml_copy(wechatpay_xml_parser_t *parser,
    const xmlChar *data, size_t len);

static wechatpay_error_e wechatpay_xml_grow(wechatpay_xml_parser_t *parser);
static wechatpay_error_e wechatpay_xml_sort(wechatpay_xml_parser_t *parser);

static void wechatpay_xml_doctype(void *data, const xmlChar *name,
    const xmlChar *external_id, const xmlChar *system_id);
static void wechatpay_xml_start(void *data, const xmlChar *name,
    const xmlChar *prefix, const xmlChar *uri, int nnamespaces,
    const xmlChar **namespaces, int nattributes, int ndefaulted,
    const xmlChar **attributes);
static void wechatpay_xml_end(void *data, const xmlChar *name,
    const xmlChar *prefix, const xmlChar *uri);
static void wechatpay_xml_text(void *data, const xmlChar *text, int len);
static void wechatpay_xml_instruction(void *data, const xmlChar *target,
    const xmlChar *text);
static void wechatpay_xml_broken(void *data, wechatpay_xml_error_t error);


/*
 * No handler that builds a tree, resolves an entity or loads anything.  With
 * one handler for both kinds of text libxml2 does not guess which is blank.
 */

static const xmlSAXHandler  wechatpay_xml_handler = {
    .internalSubset = wechatpay_xml_doctype,
    .characters = wechatpay_xml_text,
    .ignorableWhitespace = wechatpay_xml_text,
    .cdataBlock = wechatpay_xml_text,
    .processingInstruction = wechatpay_xml_instruction,
    .initialized = XML_SAX2_MAGIC,
    .startElementNs = wechatpay_xml_start,
    .endElementNs = wechatpay_xml_end,
    .serror = wechatpay_xml_broken
};


wechatpay_xml_parser_t *
wechatpay_xml_parser_create(void)
{
    wechatpay_xml_parser_t  *parser;

    parser = calloc(1, sizeof(wechatpay_xml_parser_t));
    if (parser == NULL) {
        return NULL;
    }

    xmlInitParser();

    if (wechatpay_xml_context(parser) == NULL) {
        free(parser);
        return NULL;
    }

    return parser;
}


void
wechatpay_xml_parser_destroy(wechatpay_xml_parser_t *parser)
{
    if (parser == NULL) {
        return;
    }

    xmlFreeParserCtxt(parser->ctxt);
    free(parser);
}


wechatpay_error_e
wechatpay_xml_parse(wechatpay_xml_parser_t *parser, wechatpay_str_t text,
    wechatpay_memory_t *memory, wechatpay_xml_t *xml)
{
    xmlDocPtr         doc;
    xmlParserCtxtPtr  ctxt;

    if (text.len > WECHATPAY_XML_MAX_SIZE) {
        return WECHATPAY_ERROR_BODY_TOO_LARGE;
    }

    /* libxml2 takes white space before anything but the XML declaration */

    while (text.len != 0 && memchr(" \t\r\n", text.data[0], 4) != NULL) {
        text.data++;
        text.len--;
    }

    if (xml->max != 0 && wechatpay_xml_plain(text, xml)) {
        return WECHATPAY_OK;
    }

    xml->nfields = 0;
    xml->root.len = 0;

    if (!wechatpay_utf8_text(text)) {
        return WECHATPAY_ERROR_XML_NOT_UTF8;
    }

    if (text.len == 0) {
        return WECHATPAY_ERROR_XML_NOT_WELL_FORMED;
    }

    if (wechatpay_xml_has_attribute(text)) {
        return WECHATPAY_ERROR_XML_ATTRIBUTE;
    }

    ctxt = wechatpay_xml_context(parser);
    if (ctxt == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    /* what is resolved is never longer than what it was resolved from */

    parser->last = memory->alloc(memory->data, text.len);
    if (parser->last == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    parser->end = parser->last + text.len;
    parser->xml = xml;
    parser->field = NULL;
    parser->memory = memory;
    parser->room = 0;
    parser->depth = 0;
    parser->error = WECHATPAY_OK;

    doc = xmlCtxtReadMemory(ctxt, (const char *) text.data, (int) text.len,
                            NULL, NULL,
                            XML_PARSE_NONET|XML_PARSE_IGNORE_ENC);

    if (doc != NULL) {
        xmlFreeDoc(doc);
    }

    if (parser->error != WECHATPAY_OK) {
        return parser->error;
    }

    /* where it has no memory to begin with, libxml2 says nothing at all */

    if (ctxt->errNo == XML_ERR_NO_MEMORY
        || (ctxt->errNo == XML_ERR_OK && xml->root.len == 0))
    {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    /* without the document's end nothing else proves that it was read */

    if (!ctxt->wellFormed || xml->root.len == 0 || parser->depth != 0) {
        return WECHATPAY_ERROR_XML_NOT_WELL_FORMED;
    }

    return (xml->max != 0) ? WECHATPAY_OK : wechatpay_xml_sort(parser);
}


int
wechatpay_xml_compare(const void *one, const void *two)
{
    int                           rc;
    size_t                        len;
    const wechatpay_xml_field_t  *a = one;
    const wechatpay_xml_field_t  *b = two;

    len = (a->name.len < b->name.len) ? a->name.len : b->name.len;

    rc = memcmp(a->name.data, b->name.data, len);

    if (rc != 0) {
        return rc;
    }

    return (a->name.len < b->name.len) ? -1 : (a->name.len > b->name.len);
}


wechatpay_str_t
wechatpay_xml_get(const wechatpay_xml_t *xml, const char *name)
{
    size_t           i;
    wechatpay_str_t  key, none;

    key.data = (const unsigned char *) name;
    key.len = strlen(name);

    for (i = 0; i < xml->nfields; i++) {
        if (wechatpay_str_equal(xml->fields[i].name, key)) {
            return xml->fields[i].value;
        }
    }

    none.data = NULL;
    none.len = 0;

    return none;
}


/*
 * libxml2 compares each attribute of a tag with all the others before it calls
 * a handler: seconds for 1 MB of them.  So a tag with a "=" in it is refused
 * before; a ">" between quotes does not hide one, for the "=" comes first.
 * What begins as a comment or CDATA within an instruction or a DOCTYPE does not
 * hide one either, though it is none: libxml2 is stopped there.
 */

static int
wechatpay_xml_has_attribute(wechatpay_str_t text)
{
    const unsigned char  *p, *end;

    p = text.data;
    end = p + text.len;

#define wechatpay_xml_starts(s)                                               \
    ((size_t) (end - p) >= sizeof(s) - 1 && memcmp(p, s, sizeof(s) - 1) == 0)

    while (p < end) {

        p = memchr(p, '<', (size_t) (end - p));
        if (p == NULL) {
            return 0;
        }

        if (wechatpay_xml_starts("<![CDATA[")) {
            p = wechatpay_xml_behind(p + sizeof("<![CDATA[") - 1, end, ']');
            continue;
        }

        if (wechatpay_xml_starts("<!--")) {
            p = wechatpay_xml_behind(p + sizeof("<!--") - 1, end, '-');
            continue;
        }

        if (wechatpay_xml_starts("<!") || wechatpay_xml_starts("<?")) {
            p += 2;
            continue;
        }

        for (p++; p < end && *p != '<' && *p != '>'; p++) {
            if (*p == '=') {
                return 1;
            }
        }
    }

#undef wechatpay_xml_starts

    return 0;
}


/* Returns where the text behind the first ">" after two of c begins, or end. */

static const unsigned char *
wechatpay_xml_behind(const unsigned char *p, const unsigned char *end,
    unsigned char c)
{
    if (end - p < 3) {
        return end;
    }

    for (p += 2; p < end; p++) {

        p = memchr(p, '>', (size_t) (end - p));
        if (p == NULL) {
            return end;
        }

        if (p[-1] == c && p[-2] == c) {
            return p + 1;
        }
    }

    return end;
}


static xmlParserCtxtPtr
wechatpay_xml_context(wechatpay_xml_parser_t *parser)
{
    if (parser->ctxt != NULL) {

        /*
         * The catalogues that an instruction names are read by nobody here, but
         * libxml2 notes them, and frees them with the context only.
         */

        if (parser->ctxt->catalogs == NULL
            && xmlDictGetUsage(parser->ctxt->dict)
               < WECHATPAY_XML_MAX_DICTIONARY)
        {
            return parser->ctxt;
        }

        xmlFreeParserCtxt(parser->ctxt);
    }

    parser->ctxt = xmlNewParserCtxt();

    if (parser->ctxt != NULL) {
        *parser->ctxt->sax = wechatpay_xml_handler;
        parser->ctxt->userData = parser;
    }

    return parser->ctxt;
}


static void
wechatpay_xml_fail(wechatpay_xml_parser_t *parser, wechatpay_error_e error)
{
    if (parser->error == WECHATPAY_OK) {
        parser->error = error;
        xmlStopParser(parser->ctxt);
    }
}


static wechatpay_str_t
wechatpay_xml_copy(wechatpay_xml_parser_t *parser, const xmlChar *data,
    size_t len)
{
    wechatpay_str_t  str;

    str.data = parser->last;
    str.len = 0;

    if (len > (size_t) (parser->end - parser->last)) {
        wechatpay_xml_fail(parser, WECHATPAY_ERROR_XML_NOT_WELL_FORMED);
        return str;
    }

    memcpy(parser->last, data, len);
    parser->last += len;
    str.len = len;

    return str;
}


static wechatpay_error_e
wechatpay_xml_grow(wechatpay_xml_parser_t *parser)
{
    size_t                  room;
    wechatpay_xml_t        *xml;
    wechatpay_xml_field_t  *fields;

    xml = parser->xml;

    if (xml->nfields < parser->room) {
        return WECHATPAY_OK;
    }

    room = (parser->room != 0) ? parser->room * 2 : 64;

    fields = parser->memory->alloc(parser->memory->data,
                                   room * sizeof(wechatpay_xml_field_t));
    if (fields == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    if (xml->nfields != 0) {
        memcpy(fields, xml->fields,
               xml->nfields * sizeof(wechatpay_xml_field_t));
    }

    xml->fields = fields;
    parser->room = room;

    return WECHATPAY_OK;
}


/* A field twice is found so in less time than the square of their number. */

static wechatpay_error_e
wechatpay_xml_sort(wechatpay_xml_parser_t *parser)
{
    size_t            i;
    wechatpay_xml_t  *xml;

    xml = parser->xml;

    if (xml->nfields == 0) {
        return WECHATPAY_OK;
    }

    xml->sorted = parser->memory->alloc(parser->memory->data,
                                 xml->nfields * sizeof(wechatpay_xml_field_t));
    if (xml->sorted == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    memcpy(xml->sorted, xml->fields,
           xml->nfields * sizeof(wechatpay_xml_field_t));

    qsort(xml->sorted, xml->nfields, sizeof(wechatpay_xml_field_t),
          wechatpay_xml_compare);

    for (i = 1; i < xml->nfields; i++) {
        if (wechatpay_str_equal(xml->sorted[i - 1].name, xml->sorted[i].name))
        {
            return WECHATPAY_ERROR_XML_REPEATED;
        }
    }

    return WECHATPAY_OK;
}


static void
wechatpay_xml_doctype(void *data, const xmlChar *name,
    const xmlChar *external_id, const xmlChar *system_id)
{
    /* called before anything within the DOCTYPE is parsed */

    (void) name;
    (void) external_id;
    (void) system_id;

    wechatpay_xml_fail(data, WECHATPAY_ERROR_XML_DOCTYPE);
}


static void
wechatpay_xml_start(void *data, const xmlChar *name, const xmlChar *prefix,
    const xmlChar *uri, int nnamespaces, const xmlChar **namespaces,
    int nattributes, int ndefaulted, const xmlChar **attributes)
{
    size_t                   i;
    wechatpay_str_t          key;
    wechatpay_xml_t         *xml;
    wechatpay_error_e        error;
    wechatpay_xml_parser_t  *parser = data;

    (void) uri;
    (void) namespaces;
    (void) ndefaulted;
    (void) attributes;

    if (parser->error != WECHATPAY_OK) {
        return;
    }

    if (prefix != NULL || nnamespaces != 0 || nattributes != 0) {
        wechatpay_xml_fail(parser, WECHATPAY_ERROR_XML_ATTRIBUTE);
        return;
    }

    xml = parser->xml;

    switch (parser->depth) {

    case 0:
        xml->root = wechatpay_xml_copy(parser, name,
                                       strlen((const char *) name));
        break;

    case 1:
        if (xml->max == 0) {
            error = wechatpay_xml_grow(parser);
            if (error != WECHATPAY_OK) {
                wechatpay_xml_fail(parser, error);
                return;
            }

        } else if (xml->nfields == xml->max) {
            wechatpay_xml_fail(parser, WECHATPAY_ERROR_XML_TOO_MANY);
            return;
        }

        key = wechatpay_xml_copy(parser, name, strlen((const char *) name));

        for (i = 0; xml->max != 0 && i < xml->nfields; i++) {
            if (wechatpay_str_equal(xml->fields[i].name, key)) {
                wechatpay_xml_fail(parser, WECHATPAY_ERROR_XML_REPEATED);
                return;
            }
        }

        parser->field = &xml->fields[xml->nfields++];
        parser->field->name = key;
        parser->field->value.data = parser->last;
        parser->field->value.len = 0;
        break;

    default:
        wechatpay_xml_fail(parser, WECHATPAY_ERROR_XML_NESTED);
        return;
    }

    parser->depth++;
}


static void
wechatpay_xml_end(void *data, const xmlChar *name, const xmlChar *prefix,
    const xmlChar *uri)
{
    wechatpay_xml_parser_t  *parser = data;

    (void) name;
    (void) prefix;
    (void) uri;

    if (parser->error != WECHATPAY_OK) {
        return;
    }

    parser->depth--;
    parser->field = NULL;
}


static void
wechatpay_xml_text(void *data, const xmlChar *text, int len)
{
    int                      i;
    wechatpay_str_t          part;
    wechatpay_xml_parser_t  *parser = data;

    if (parser->error != WECHATPAY_OK) {
        return;
    }

    if (parser->field != NULL) {
        part = wechatpay_xml_copy(parser, text, (size_t) len);
        parser->field->value.len += part.len;
        return;
    }

    for (i = 0; i < len; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\n'
            && text[i] != '\r')
        {
            wechatpay_xml_fail(parser, WECHATPAY_ERROR_XML_MIXED);
            return;
        }
    }
}


static void
wechatpay_xml_instruction(void *data, const xmlChar *target,
    const xmlChar *text)
{
    (void) target;
    (void) text;

    wechatpay_xml_fail(data, WECHATPAY_ERROR_XML_INSTRUCTION);
}


/*
 * Without a handler libxml2 would print to the standard error stream, as 2.9
 * does all the same where it has no memory for a buffer of its input.
 */

static void
wechatpay_xml_broken(void *data, wechatpay_xml_error_t error)
{
    wechatpay_xml_parser_t  *parser = data;

    if (error->level != XML_ERR_FATAL) {
        return;
    }

    if (parser->error == WECHATPAY_OK) {
        parser->error = (error->code == XML_ERR_NO_MEMORY)
                        ? WECHATPAY_ERROR_NO_MEMORY
                        : WECHATPAY_ERROR_XML_NOT_WELL_FORMED;
    }

    /*
     * Else libxml2 goes on to all the errors that there are, and words each.
     * This is all that xmlStopParser() does since 2.13; before, it frees the
     * text too, which whoever found the error may still be reading.
     */

    parser->ctxt->instate = XML_PARSER_EOF;
    parser->ctxt->disableSAX = 2;
}
