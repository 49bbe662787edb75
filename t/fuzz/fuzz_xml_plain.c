
/*
 * Copyright (C) the refund-notify authors
 *
 * What is read as plain XML is what libxml2 reads too, field by field.  With
 * max 0 the text goes to libxml2 in any case.
 */


#include "fuzz.h"
#include "wechatpay_xml_plain.h"


#define FUZZ_FIELDS  16


static wechatpay_xml_parser_t  *fuzz_parser;


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t                 i;
    fuzz_memory_t          memory;
    wechatpay_str_t        text;
    wechatpay_xml_t        plain, xml;
    wechatpay_xml_field_t  fields[FUZZ_FIELDS];

    if (fuzz_parser == NULL) {
        fuzz_parser = wechatpay_xml_parser_create();
        fuzz_assert(fuzz_parser != NULL);
    }

    plain.fields = fields;
    plain.max = FUZZ_FIELDS;

    text.data = data;
    text.len = size;

    if (!wechatpay_xml_plain(text, &plain)) {
        return 0;
    }

    fuzz_memory_init(&memory);

    xml.max = 0;

    fuzz_assert(wechatpay_xml_parse(fuzz_parser, text, &memory.memory, &xml)
                == WECHATPAY_OK);
    fuzz_assert(wechatpay_str_equal(xml.root, plain.root));
    fuzz_assert(xml.nfields == plain.nfields);

    for (i = 0; i < xml.nfields; i++) {
        fuzz_assert(wechatpay_str_equal(xml.fields[i].name, fields[i].name));
        fuzz_assert(wechatpay_str_equal(xml.fields[i].value,
                                        fields[i].value));
    }

    fuzz_memory_free(&memory);

    return 0;
}
