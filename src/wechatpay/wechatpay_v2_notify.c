
/*
 * Copyright (C) the refund-notify authors
 *
 * The v2 refund notify, as WeChat Pay's page on it has it: <xml> with who it is
 * for, and in it req_info, which decrypts to <root> with the refund.  It has no
 * signature: that req_info decrypts is all that proves it.
 */


#include "wechatpay_notify.h"
#include "wechatpay_field.h"
#include "wechatpay_merchant_internal.h"
#include "wechatpay_parser.h"
#include "wechatpay_v2_refund.h"
#include "wechatpay_v2_req_info.h"


#define WECHATPAY_V2_MAX_FIELDS  64


static wechatpay_error_e wechatpay_v2_notify_decrypt(
    wechatpay_parser_t *parser, wechatpay_merchant_t *merchant,
    wechatpay_str_t req_info, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund);
static wechatpay_error_e wechatpay_v2_notify_root(wechatpay_parser_t *parser,
    wechatpay_str_t text, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund);


wechatpay_error_e
wechatpay_v2_notify(wechatpay_parser_t *parser, wechatpay_merchant_t *merchant,
    wechatpay_str_t body, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund)
{
    wechatpay_xml_t        xml;
    wechatpay_str_t        mch_id, sub_mch_id, app_id, sub_app_id, value;
    wechatpay_error_e      error;
    wechatpay_xml_field_t  fields[WECHATPAY_V2_MAX_FIELDS];

    static const wechatpay_str_t  root = wechatpay_string("xml");
    static const wechatpay_str_t  success = wechatpay_string("SUCCESS");

    if (wechatpay_notify_version(body) != WECHATPAY_V2) {
        return WECHATPAY_ERROR_FORMAT_UNKNOWN;
    }

    if (!wechatpay_merchant_accepts(merchant, WECHATPAY_V2)) {
        return WECHATPAY_ERROR_VERSION_NOT_ACCEPTED;
    }

    xml.fields = fields;
    xml.max = WECHATPAY_V2_MAX_FIELDS;

    error = wechatpay_xml_parse(parser->xml, body, memory, &xml);
    if (error != WECHATPAY_OK) {
        return error;
    }

    if (!wechatpay_str_equal(xml.root, root)) {
        return WECHATPAY_ERROR_V2_ROOT;
    }

    value = wechatpay_xml_get(&xml, "return_code");

    if (value.len == 0) {
        return WECHATPAY_ERROR_RETURN_CODE_MISSING;
    }

    if (!wechatpay_str_equal(value, success)) {
        return WECHATPAY_ERROR_RETURN_CODE;
    }

    mch_id = wechatpay_xml_get(&xml, "mch_id");

    if (mch_id.len == 0) {
        return WECHATPAY_ERROR_MCH_ID_MISSING;
    }

    app_id = wechatpay_xml_get(&xml, "appid");
    sub_mch_id = wechatpay_xml_get(&xml, "sub_mch_id");

    error = wechatpay_merchant_check(merchant, mch_id, app_id, sub_mch_id);
    if (error != WECHATPAY_OK) {
        return error;
    }

    sub_app_id = wechatpay_xml_get(&xml, "sub_appid");

    if (sub_app_id.len != 0
        && !wechatpay_field_valid(WECHATPAY_FIELD_ID, sub_app_id))
    {
        return WECHATPAY_ERROR_APP_ID_INVALID;
    }

    value = wechatpay_xml_get(&xml, "req_info");

    if (value.len == 0) {
        return WECHATPAY_ERROR_REQ_INFO_MISSING;
    }

    error = wechatpay_v2_notify_decrypt(parser, merchant, value, memory,
                                        refund);
    if (error != WECHATPAY_OK) {
        return error;
    }

    /* these may lie in body, the rest lies in what req_info decrypted to */

    if (wechatpay_str_copy(mch_id, memory, &refund->mch_id) != WECHATPAY_OK
        || wechatpay_str_copy(sub_mch_id, memory, &refund->sub_mch_id)
           != WECHATPAY_OK
        || wechatpay_str_copy(app_id, memory, &refund->app_id) != WECHATPAY_OK
        || wechatpay_str_copy(sub_app_id, memory, &refund->sub_app_id)
           != WECHATPAY_OK)
    {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    return WECHATPAY_OK;
}


/*
 * A wrong key leaves valid padding once in 256 times, so that a key is the
 * right one only when what it yields is a refund.
 */

static wechatpay_error_e
wechatpay_v2_notify_decrypt(wechatpay_parser_t *parser,
    wechatpay_merchant_t *merchant, wechatpay_str_t req_info,
    wechatpay_memory_t *memory, wechatpay_refund_t *refund)
{
    size_t              i;
    unsigned char      *plaintext;
    wechatpay_str_t     blocks, text;
    wechatpay_error_e   error, first;

    error = wechatpay_v2_req_info_decode(req_info, memory, &blocks);
    if (error != WECHATPAY_OK) {
        return error;
    }

    plaintext = memory->alloc(memory->data, blocks.len);
    if (plaintext == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    first = WECHATPAY_ERROR_REQ_INFO_KEY;

    for (i = 0; i < merchant->nv2_keys; i++) {

        text.data = plaintext;

        error = wechatpay_v2_req_info_decrypt(merchant->v2_keys[i].cipher,
                                              blocks, plaintext, &text.len);

        if (error == WECHATPAY_ERROR_NO_MEMORY) {
            return error;
        }

        if (error != WECHATPAY_OK || text.len == 0) {
            continue;
        }

        error = wechatpay_v2_notify_root(parser, text, memory, refund);

        if (error == WECHATPAY_OK || error == WECHATPAY_ERROR_NO_MEMORY) {
            return error;
        }

        /* what does not begin as XML tells of no more than a wrong key */

        if (first == WECHATPAY_ERROR_REQ_INFO_KEY && text.data[0] == '<') {
            first = error;
        }
    }

    return first;
}


static wechatpay_error_e
wechatpay_v2_notify_root(wechatpay_parser_t *parser, wechatpay_str_t text,
    wechatpay_memory_t *memory, wechatpay_refund_t *refund)
{
    wechatpay_xml_t        xml;
    wechatpay_error_e      error;
    wechatpay_xml_field_t  fields[WECHATPAY_V2_MAX_FIELDS];

    static const wechatpay_str_t  root = wechatpay_string("root");

    xml.fields = fields;
    xml.max = WECHATPAY_V2_MAX_FIELDS;

    error = wechatpay_xml_parse(parser->xml, text, memory, &xml);
    if (error != WECHATPAY_OK) {
        return error;
    }

    if (!wechatpay_str_equal(xml.root, root)) {
        return WECHATPAY_ERROR_REQ_INFO_ROOT;
    }

    return wechatpay_v2_refund(WECHATPAY_V2_NOTIFIED, fields, xml.nfields,
                               memory, refund);
}
