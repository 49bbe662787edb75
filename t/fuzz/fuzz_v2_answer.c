
/*
 * Copyright (C) the refund-notify authors
 *
 * The input is taken as an answer, whose signature must then be wrong; and as
 * the fields of one, a line each, "name=value", which is then signed: appid and
 * mch_id are right where it does not say otherwise.
 */


#include "fuzz.h"
#include "wechatpay_answer.h"
#include "wechatpay_merchant_internal.h"
#include "wechatpay_v2_sign.h"


#define FUZZ_MAX_FIELDS  1024


static void fuzz_v2_signed(const uint8_t *data, size_t size,
    fuzz_memory_t *memory);
static size_t fuzz_v2_fields(const uint8_t *data, size_t size,
    wechatpay_xml_field_t *fields);


static wechatpay_parser_t    *fuzz_parser;
static wechatpay_merchant_t  *fuzz_shop;


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_memory_t          memory;
    wechatpay_answer_t     answer;
    wechatpay_response_t   response;

    if (fuzz_parser == NULL) {
        fuzz_parser = wechatpay_parser_create();
        fuzz_shop = fuzz_merchant();
        fuzz_outbound(fuzz_shop);
    }

    fuzz_memory_init(&memory);

    memset(&response, 0, sizeof(wechatpay_response_t));

    response.status = 200;
    response.body.data = data;
    response.body.len = size;

    fuzz_answer(fuzz_parser, fuzz_shop, WECHATPAY_V2, WECHATPAY_CALL_CREATE,
                &response, &memory, &answer);
    fuzz_assert(wechatpay_str_equal(answer.failure.code,
                                    fuzz_str("UNVERIFIED_RESPONSE")));

    fuzz_v2_signed(data, size, &memory);

    fuzz_memory_free(&memory);

    return 0;
}


static void
fuzz_v2_signed(const uint8_t *data, size_t size, fuzz_memory_t *memory)
{
    size_t                   i, n, len;
    unsigned char           *p, sign[WECHATPAY_V2_SIGN_MAX_LEN];
    wechatpay_answer_t       answer;
    wechatpay_response_t     response;
    wechatpay_xml_field_t   *fields;

    fields = memory->memory.alloc(memory, (FUZZ_MAX_FIELDS + 8)
                                          * sizeof(wechatpay_xml_field_t));

    n = fuzz_v2_fields(data, size, fields);

    fuzz_assert(wechatpay_v2_sign(fuzz_shop, fields, n, &memory->memory, sign,
                                  &len)
                == 0);

    fields[n].name = fuzz_str("sign");
    fields[n].value.data = sign;
    fields[n++].value.len = len;

    for (i = 0, len = sizeof("<xml></xml>"); i < n; i++) {
        len += fields[i].name.len * 2 + fields[i].value.len
               + sizeof("<><![CDATA[]]></>");
    }

    p = memory->memory.alloc(memory, len);

    memset(&response, 0, sizeof(wechatpay_response_t));

    response.status = 200;
    response.body.data = p;

    p += sprintf((char *) p, "<xml>");

    for (i = 0; i < n; i++) {
        p += sprintf((char *) p, "<%.*s><![CDATA[%.*s]]></%.*s>",
                     (int) fields[i].name.len, fields[i].name.data,
                     (int) fields[i].value.len, fields[i].value.data,
                     (int) fields[i].name.len, fields[i].name.data);
    }

    p += sprintf((char *) p, "</xml>");

    response.body.len = (size_t) (p - response.body.data);

    for (i = WECHATPAY_CALL_CREATE; i <= WECHATPAY_CALL_QUERY; i++) {
        fuzz_answer(fuzz_parser, fuzz_shop, WECHATPAY_V2, i, &response,
                    memory, &answer);
        fuzz_assert(!wechatpay_str_equal(answer.failure.code,
                                         fuzz_str("UNVERIFIED_RESPONSE")));
    }

    fuzz_answer_order(fuzz_parser, fuzz_shop, &response, memory, &answer);
}


/* Sorted, each name once, and only of what XML leaves as it is. */

static size_t
fuzz_v2_fields(const uint8_t *data, size_t size, wechatpay_xml_field_t *fields)
{
    size_t           i, n, m;
    const uint8_t   *lf, *equals;

    static const char  *always[][2] = {
        { "return_code", "SUCCESS" },
        { "appid", FUZZ_APP_ID },
        { "mch_id", FUZZ_MCH_ID }
    };

    n = 0;

    while (size != 0 && n < FUZZ_MAX_FIELDS) {
        lf = memchr(data, '\n', size);
        lf = lf ? lf : data + size;

        equals = memchr(data, '=', (size_t) (lf - data));

        if (equals != NULL && equals != data) {
            fields[n].name.data = data;
            fields[n].name.len = (size_t) (equals - data);
            fields[n].value.data = equals + 1;
            fields[n].value.len = (size_t) (lf - equals - 1);

            for (i = 0; i < fields[n].name.len; i++) {
                if (data[i] != '_' && (data[i] < 'a' || data[i] > 'z')
                    && (i == 0 || data[i] < '0' || data[i] > '9'))
                {
                    break;
                }
            }

            m = i;

            for (i = 0; i < fields[n].value.len; i++) {
                if (equals[1 + i] < 0x20 || equals[1 + i] >= 0x7f
                    || equals[1 + i] == ']')
                {
                    break;
                }
            }

            if (m == fields[n].name.len && i == fields[n].value.len
                && !wechatpay_str_equal(fields[n].name, fuzz_str("sign"))
                && !wechatpay_str_equal(fields[n].name,
                                        fuzz_str("return_code")))
            {
                n++;
            }
        }

        size -= (size_t) (lf - data);
        data = lf;

        if (size != 0) {
            data++;
            size--;
        }
    }

    for (i = 0; i < 3; i++) {

        for (m = 0; m < n; m++) {
            if (wechatpay_str_equal(fields[m].name, fuzz_str(always[i][0]))) {
                break;
            }
        }

        if (m == n) {
            fields[n].name = fuzz_str(always[i][0]);
            fields[n++].value = fuzz_str(always[i][1]);
        }
    }

    qsort(fields, n, sizeof(wechatpay_xml_field_t), wechatpay_xml_compare);

    for (i = 1, m = 1; i < n; i++) {
        if (!wechatpay_str_equal(fields[m - 1].name, fields[i].name)) {
            fields[m++] = fields[i];
        }
    }

    return m;
}
