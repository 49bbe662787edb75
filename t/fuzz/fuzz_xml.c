
/*
 * Copyright (C) the refund-notify authors
 *
 * What is taken, libxml2 takes too when it builds a tree of it, and the fields
 * are the same.
 */


#include <libxml/parser.h>
#include <libxml/tree.h>

#include "fuzz.h"
#include "wechatpay_xml.h"


#define FUZZ_FIELDS  16


static void fuzz_xml_compare(wechatpay_str_t text, const wechatpay_xml_t *xml);


static wechatpay_xml_parser_t  *fuzz_parser;


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_memory_t          memory;
    wechatpay_str_t        text;
    wechatpay_xml_t        xml;
    wechatpay_xml_field_t  fields[FUZZ_FIELDS];

    if (fuzz_parser == NULL) {
        fuzz_parser = wechatpay_xml_parser_create();
        fuzz_assert(fuzz_parser != NULL);
    }

    fuzz_memory_init(&memory);

    xml.fields = fields;
    xml.max = FUZZ_FIELDS;

    text.data = data;
    text.len = size;

    if (wechatpay_xml_parse(fuzz_parser, text, &memory.memory, &xml)
        == WECHATPAY_OK)
    {
        fuzz_xml_compare(text, &xml);
    }

    fuzz_memory_free(&memory);

    return 0;
}


static void
fuzz_xml_compare(wechatpay_str_t text, const wechatpay_xml_t *xml)
{
    size_t      i;
    xmlChar    *content;
    xmlDocPtr   doc;
    xmlNodePtr  root, node;

    while (strchr(" \t\r\n", *text.data) && *text.data != '\0') {
        text.data++;
        text.len--;
    }

    doc = xmlReadMemory((const char *) text.data, (int) text.len, NULL, NULL,
                        XML_PARSE_NONET|XML_PARSE_IGNORE_ENC|XML_PARSE_NOERROR
                        |XML_PARSE_NOWARNING|XML_PARSE_NOENT);
    fuzz_assert(doc != NULL);
    fuzz_assert(doc->intSubset == NULL);

    root = xmlDocGetRootElement(doc);

    fuzz_assert(root != NULL && root->properties == NULL && root->ns == NULL);
    fuzz_assert(wechatpay_str_equal(xml->root,
                                    fuzz_str((const char *) root->name)));

    i = 0;

    for (node = root->children; node != NULL; node = node->next) {

        if (node->type != XML_ELEMENT_NODE) {
            fuzz_assert(node->type == XML_COMMENT_NODE
                        || xmlIsBlankNode(node)
                        || node->type == XML_CDATA_SECTION_NODE);
            continue;
        }

        fuzz_assert(i < xml->nfields);
        fuzz_assert(wechatpay_str_equal(xml->fields[i].name,
                                        fuzz_str((const char *) node->name)));

        /* comments are no part of an element's content */

        content = xmlNodeGetContent(node);
        fuzz_assert(content != NULL);
        fuzz_assert(wechatpay_str_equal(xml->fields[i].value,
                                        fuzz_str((const char *) content)));
        xmlFree(content);

        i++;
    }

    fuzz_assert(i == xml->nfields);

    xmlFreeDoc(doc);
}
