
/*
 * Copyright (C) the refund-notify authors
 */


#include <openssl/evp.h>

#include "fuzz.h"
#include "wechatpay_json.h"


static void *
fuzz_memory_alloc(void *data, size_t size)
{
    void           *p;
    fuzz_memory_t  *memory = data;

    p = malloc(size);

    fuzz_assert(p != NULL);
    fuzz_assert(memory->npieces
                < sizeof(memory->pieces) / sizeof(memory->pieces[0]));

    memory->pieces[memory->npieces++] = p;

    return p;
}


void
fuzz_memory_init(fuzz_memory_t *memory)
{
    memory->npieces = 0;
    memory->memory.alloc = fuzz_memory_alloc;
    memory->memory.data = memory;
}


void
fuzz_memory_free(fuzz_memory_t *memory)
{
    while (memory->npieces != 0) {
        free(memory->pieces[--memory->npieces]);
    }
}


wechatpay_str_t
fuzz_str(const char *text)
{
    wechatpay_str_t  str;

    str.data = (const unsigned char *) text;
    str.len = strlen(text);

    return str;
}


wechatpay_merchant_t *
fuzz_merchant(void)
{
    wechatpay_merchant_t  *merchant;

    merchant = wechatpay_merchant_create();

    fuzz_assert(merchant != NULL);
    fuzz_assert(wechatpay_merchant_set_mch_id(merchant, fuzz_str(FUZZ_MCH_ID))
                == NULL);
    fuzz_assert(wechatpay_merchant_add_sub_mch_id(merchant, fuzz_str("*"))
                == NULL);
    fuzz_assert(wechatpay_merchant_add_v2_key(merchant, fuzz_str(FUZZ_KEY))
                == NULL);
    fuzz_assert(wechatpay_merchant_add_v3_key(merchant, fuzz_str(FUZZ_KEY))
                == NULL);

    return merchant;
}


wechatpay_str_t
fuzz_base64(const unsigned char *data, size_t size, fuzz_memory_t *memory)
{
    unsigned char    *p;
    wechatpay_str_t   text;

    p = memory->memory.alloc(memory, (size + 2) / 3 * 4 + 1);

    text.data = p;
    text.len = (size_t) EVP_EncodeBlock(p, data, (int) size);

    return text;
}


void
fuzz_check(const wechatpay_refund_t *refund, fuzz_memory_t *memory)
{
    size_t           i;
    json_t          *event, *data;
    json_error_t     error;
    wechatpay_str_t  id, json;

    fuzz_assert(refund->status <= WECHATPAY_REFUND_CLOSED);
    fuzz_assert(wechatpay_str_equal(refund->mch_id, fuzz_str(FUZZ_MCH_ID)));
    fuzz_assert(refund->amount.total >= 0);
    fuzz_assert(refund->amount.refund >= 0);
    fuzz_assert(refund->refund_id.len >= 1 && refund->refund_id.len <= 64);

    fuzz_assert(wechatpay_event_id(refund, &memory->memory, &id)
                == WECHATPAY_OK);
    fuzz_assert(id.len <= WECHATPAY_EVENT_ID_MAX_LEN);

    for (i = 0; i < id.len; i++) {
        fuzz_assert(id.data[i] > 0x20 && id.data[i] < 0x7f);
        fuzz_assert(id.data[i] != '{' && id.data[i] != '}');
    }

    fuzz_assert(wechatpay_event_json(refund, id, fuzz_str("shop"), 1528425296,
                                     &memory->memory, &json)
                == WECHATPAY_OK);

    event = json_loadb((const char *) json.data, json.len,
                       JSON_REJECT_DUPLICATES, &error);

    fuzz_assert(event != NULL);
    fuzz_assert(json_object_size(event) == 7);
    fuzz_assert(wechatpay_str_equal(wechatpay_json_get(event, "id"), id));
    fuzz_assert(wechatpay_json_get(event, "timestamp").len != 0);

    data = json_object_get(event, "data");

    fuzz_assert(wechatpay_str_equal(wechatpay_json_get(data, "refund_id"),
                                    refund->refund_id));
    fuzz_assert(wechatpay_str_equal(wechatpay_json_get(data, "out_refund_no"),
                                    refund->out_refund_no));
    fuzz_assert(json_integer_value(json_object_get(
                                json_object_get(data, "amount"), "refund"))
                == refund->amount.refund);

    json_decref(event);
}
