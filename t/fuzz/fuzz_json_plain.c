
/*
 * Copyright (C) the refund-notify authors
 *
 * What is read as plain JSON is what Jansson reads too, member by member and in
 * the same order, it would write it as it came; and the refund that it holds is
 * the same, or fails for the same reason.
 */


#include "fuzz.h"
#include "wechatpay_json.h"
#include "wechatpay_json_plain.h"
#include "wechatpay_v3_refund.h"


static void fuzz_json_members(const wechatpay_json_member_t *member, size_t n,
    json_t *object);
static void fuzz_json_refund(wechatpay_v3_source_e source,
    const wechatpay_json_plain_t *plain, wechatpay_str_t text, json_t *object,
    fuzz_memory_t *memory);
static void fuzz_json_str(size_t offset, const wechatpay_v3_values_t *one,
    const wechatpay_v3_values_t *other);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t                  *object;
    fuzz_memory_t            memory;
    wechatpay_str_t          text, dump;
    wechatpay_json_plain_t   plain;

    text.data = data;
    text.len = size;

    if (!wechatpay_json_plain(text, &plain)) {
        return 0;
    }

    fuzz_memory_init(&memory);

    fuzz_assert(wechatpay_json_parse(text, &object) == WECHATPAY_OK);

    fuzz_json_members(plain.members, plain.nmembers, object);

    fuzz_assert(wechatpay_json_dump(object, 0, &memory.memory, &dump)
                == WECHATPAY_OK);
    fuzz_assert(wechatpay_str_equal(dump, text));

    fuzz_json_refund(WECHATPAY_V3_NOTIFIED, &plain, text, object, &memory);
    fuzz_json_refund(WECHATPAY_V3_ANSWERED, &plain, text, object, &memory);

    json_decref(object);
    fuzz_memory_free(&memory);

    return 0;
}


static void
fuzz_json_members(const wechatpay_json_member_t *member, size_t n,
    json_t *object)
{
    json_t                         *json;
    const char                     *key;
    wechatpay_str_t                 string;
    const wechatpay_json_member_t  *end;

    end = member + n;

    json_object_foreach(object, key, json) {

        fuzz_assert(member < end);
        fuzz_assert(wechatpay_str_equal(member->name, fuzz_str(key)));

        switch (member->kind) {

        case WECHATPAY_JSON_STRING:
            fuzz_assert(json_is_string(json));

            string.data = (const unsigned char *) json_string_value(json);
            string.len = json_string_length(json);

            fuzz_assert(wechatpay_str_equal(member->string, string));
            break;

        case WECHATPAY_JSON_INTEGER:
            fuzz_assert(json_is_integer(json));
            fuzz_assert(json_integer_value(json) == member->integer);
            break;

        default:
            fuzz_assert(member->kind == WECHATPAY_JSON_OBJECT);
            fuzz_assert(json_is_object(json));

            fuzz_json_members(member + 1, member->nmembers, json);
        }

        member += 1 + member->nmembers;
    }

    fuzz_assert(member == end);
}


static void
fuzz_json_refund(wechatpay_v3_source_e source,
    const wechatpay_json_plain_t *plain, wechatpay_str_t text, json_t *object,
    fuzz_memory_t *memory)
{
    size_t                  i;
    wechatpay_error_e       error;
    wechatpay_v3_values_t   one, other;

#define fuzz_value(member)  offsetof(wechatpay_v3_values_t, member)

    static const size_t  strings[] = {
        fuzz_value(sp_mch_id), fuzz_value(status), fuzz_value(refund.mch_id),
        fuzz_value(refund.sub_mch_id), fuzz_value(refund.app_id),
        fuzz_value(refund.sub_app_id), fuzz_value(refund.transaction_id),
        fuzz_value(refund.out_trade_no), fuzz_value(refund.refund_id),
        fuzz_value(refund.out_refund_no), fuzz_value(refund.success_time),
        fuzz_value(refund.user_received_account),
        fuzz_value(refund.funds_account), fuzz_value(refund.request_source),
        fuzz_value(refund.amount.currency), fuzz_value(refund.extra),
        fuzz_value(refund.create_time), fuzz_value(refund.channel),
        fuzz_value(refund.notify_id)
    };

#undef fuzz_value

    error = wechatpay_v3_refund_read(source, object, &memory->memory, &one);

    fuzz_assert(wechatpay_v3_refund_read_plain(source, plain, text,
                                               &memory->memory, &other)
                == error);

    if (error != WECHATPAY_OK) {
        return;
    }

    for (i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        fuzz_json_str(strings[i], &one, &other);
    }

    fuzz_assert(one.amount == other.amount);
    fuzz_assert(one.refund.version == other.refund.version);

    /* the money, which comes before the currency */

    fuzz_assert(memcmp(&one.refund.amount, &other.refund.amount,
                       offsetof(wechatpay_amount_t, currency))
                == 0);

    error = wechatpay_v3_refund_check(source, &one);

    fuzz_assert(wechatpay_v3_refund_check(source, &other) == error);
    fuzz_assert(error != WECHATPAY_OK
                || one.refund.status == other.refund.status);
}


static void
fuzz_json_str(size_t offset, const wechatpay_v3_values_t *one,
    const wechatpay_v3_values_t *other)
{
    const wechatpay_str_t  *a, *b;

    a = (const wechatpay_str_t *) ((const unsigned char *) one + offset);
    b = (const wechatpay_str_t *) ((const unsigned char *) other + offset);

    fuzz_assert(wechatpay_str_equal(*a, *b));
}
