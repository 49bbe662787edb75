
/*
 * Copyright (C) the refund-notify authors
 *
 * An answer of API v2, as WeChat Pay's pages on the refund and its query have
 * it: a flat XML with a signature among its fields.  return_code tells whether
 * the call was understood at all, result_code what became of it, err_code why.
 * A query's answer has the fields of refund n with _n behind their names, and
 * of its coupon m with _n_m.
 */


#include <stdlib.h>

#include "wechatpay_answer_internal.h"
#include "wechatpay_merchant_internal.h"
#include "wechatpay_parser.h"
#include "wechatpay_v2_refund.h"
#include "wechatpay_v2_sign.h"


#define WECHATPAY_V2_INDEX_MAX_DIGITS  7


/* A query's fields: those of refund n are from[n] to from[n + 1]. */

typedef struct {
    size_t                   nrefunds;
    wechatpay_xml_field_t   *order;         /* what tells the order */
    size_t                   norder;
    wechatpay_xml_field_t   *rest;          /* what else is said of it */
    size_t                   nrest;
    wechatpay_xml_field_t   *fields;        /* without the refund's index */
    size_t                  *from;
} wechatpay_v2_groups_t;


static const char *wechatpay_v2_answer_owner(
    const wechatpay_merchant_t *merchant, const wechatpay_request_t *request,
    const wechatpay_xml_t *xml, wechatpay_refund_t *owner);
static int wechatpay_v2_answer_created(wechatpay_xml_t *xml,
    wechatpay_memory_t *memory, wechatpay_answer_t *answer);
static int wechatpay_v2_answer_queried(const wechatpay_request_t *request,
    wechatpay_xml_t *xml, wechatpay_memory_t *memory,
    wechatpay_answer_t *answer);
static wechatpay_error_e wechatpay_v2_answer_list(
    const wechatpay_v2_groups_t *groups, wechatpay_memory_t *memory,
    wechatpay_refund_t *refunds);
static wechatpay_error_e wechatpay_v2_answer_single(
    const wechatpay_request_t *request, const wechatpay_v2_groups_t *groups,
    wechatpay_memory_t *memory, wechatpay_refund_t *refund);
static int wechatpay_v2_answer_asked(const wechatpay_request_t *request,
    const wechatpay_v2_groups_t *groups, size_t i);
static wechatpay_error_e wechatpay_v2_answer_order(
    const wechatpay_v2_groups_t *groups, wechatpay_memory_t *memory,
    wechatpay_refund_t *order);
static wechatpay_error_e wechatpay_v2_answer_group(const wechatpay_xml_t *xml,
    wechatpay_memory_t *memory, wechatpay_v2_groups_t *groups);
static size_t wechatpay_v2_answer_index(wechatpay_str_t name, size_t n,
    wechatpay_memory_t *memory, wechatpay_str_t *stripped);
static size_t wechatpay_v2_answer_suffix(wechatpay_str_t name, size_t *index);
static void wechatpay_v2_answer_strip(wechatpay_xml_t *xml);
static int wechatpay_v2_answer_is(wechatpay_str_t name,
    const wechatpay_str_t *names, size_t n);


/* What an answer says of itself, which is no part of the refund. */

static const wechatpay_str_t  wechatpay_v2_frame[] = {
    wechatpay_string("return_code"),
    wechatpay_string("return_msg"),
    wechatpay_string("result_code"),
    wechatpay_string("err_code"),
    wechatpay_string("err_code_des"),
    wechatpay_string("appid"),
    wechatpay_string("mch_id"),
    wechatpay_string("sub_appid"),
    wechatpay_string("sub_mch_id"),
    wechatpay_string("nonce_str"),
    wechatpay_string("sign"),
    wechatpay_string("sign_type"),
    wechatpay_string("refund_count"),
    wechatpay_string("total_refund_count")
};


/* What a query says once for all refunds of an order. */

static const wechatpay_str_t  wechatpay_v2_order[] = {
    wechatpay_string("transaction_id"),
    wechatpay_string("out_trade_no"),
    wechatpay_string("total_fee"),
    wechatpay_string("settlement_total_fee")
};

#define wechatpay_v2_count(array)  (sizeof(array) / sizeof((array)[0]))


void
wechatpay_v2_answer(wechatpay_parser_t *parser,
    const wechatpay_merchant_t *merchant, const wechatpay_request_t *request,
    const wechatpay_response_t *response, wechatpay_memory_t *memory,
    wechatpay_answer_t *answer)
{
    int                  rc;
    size_t               i;
    const char          *reason;
    wechatpay_xml_t      xml;
    wechatpay_str_t      value, none;
    wechatpay_error_e    error;
    wechatpay_refund_t   owner;

    static const wechatpay_str_t  root = wechatpay_string("xml");
    static const wechatpay_str_t  success = wechatpay_string("SUCCESS");
    static const wechatpay_str_t  fail = wechatpay_string("FAIL");

    xml.fields = NULL;
    xml.max = 0;

    error = wechatpay_xml_parse(parser->xml, response->body, memory, &xml);

    if (error == WECHATPAY_OK && !wechatpay_str_equal(xml.root, root)) {
        error = WECHATPAY_ERROR_V2_ROOT;
    }

    if (error == WECHATPAY_OK
        && !wechatpay_str_equal(wechatpay_xml_get(&xml, "return_code"),
                                success))
    {
        error = WECHATPAY_ERROR_RETURN_CODE;
    }

    if (error != WECHATPAY_OK) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_UNVERIFIED_RESPONSE,
                               error);
        return;
    }

    error = wechatpay_v2_sign_verify(merchant, xml.sorted, xml.nfields,
                                     memory);

    if (error == WECHATPAY_ERROR_SIGNATURE_WRONG) {

        /* its phrase is of v3's header */

        wechatpay_answer_fail(answer, WECHATPAY_CODE_UNVERIFIED_RESPONSE,
                              "sign is missing or wrong");
        return;
    }

    if (error != WECHATPAY_OK) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_UNVERIFIED_RESPONSE,
                               error);
        return;
    }

    reason = wechatpay_v2_answer_owner(merchant, request, &xml, &owner);
    if (reason != NULL) {
        wechatpay_answer_fail(answer, WECHATPAY_CODE_MISMATCHED_RESPONSE,
                              reason);
        return;
    }

    value = wechatpay_xml_get(&xml, "result_code");

    if (wechatpay_str_equal(value, fail)
        && wechatpay_xml_get(&xml, "err_code").len != 0)
    {
        none.data = NULL;
        none.len = 0;

        wechatpay_answer_fail_provider(answer,
                                       wechatpay_xml_get(&xml, "err_code"),
                                       200,
                                       wechatpay_xml_get(&xml, "err_code_des"),
                                       none);
        return;
    }

    if (!wechatpay_str_equal(value, success)) {
        wechatpay_answer_fail(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                              "result_code or err_code is missing or unknown");
        return;
    }

    rc = (request->call == WECHATPAY_CALL_CREATE)
         ? wechatpay_v2_answer_created(&xml, memory, answer)
         : wechatpay_v2_answer_queried(request, &xml, memory, answer);

    if (rc != 0) {
        return;
    }

    answer->order.mch_id = owner.mch_id;
    answer->order.sub_mch_id = owner.sub_mch_id;
    answer->order.app_id = owner.app_id;
    answer->order.sub_app_id = owner.sub_app_id;

    for (i = 0; i < answer->nrefunds; i++) {
        answer->refunds[i].mch_id = owner.mch_id;
        answer->refunds[i].sub_mch_id = owner.sub_mch_id;
        answer->refunds[i].app_id = owner.app_id;
        answer->refunds[i].sub_app_id = owner.sub_app_id;
    }

    reason = wechatpay_answer_mismatch(request, answer->list
                                                ? &answer->order
                                                : &answer->refunds[0]);
    if (reason != NULL) {
        wechatpay_answer_fail(answer, WECHATPAY_CODE_MISMATCHED_RESPONSE,
                              reason);
        return;
    }

    answer->outcome = WECHATPAY_ACCEPTED;
}


static const char *
wechatpay_v2_answer_owner(const wechatpay_merchant_t *merchant,
    const wechatpay_request_t *request, const wechatpay_xml_t *xml,
    wechatpay_refund_t *owner)
{
    wechatpay_str_t    app_id;
    wechatpay_error_e  error;

    owner->mch_id = wechatpay_xml_get(xml, "mch_id");
    owner->sub_mch_id = wechatpay_xml_get(xml, "sub_mch_id");
    owner->app_id = wechatpay_xml_get(xml, "appid");
    owner->sub_app_id = wechatpay_xml_get(xml, "sub_appid");

    app_id.data = merchant->app_id.data;
    app_id.len = merchant->app_id.len;

    if (!wechatpay_str_equal(owner->app_id, app_id)) {
        return "appid is not the one that was sent";
    }

    if (owner->sub_mch_id.len == 0) {
        owner->sub_mch_id = request->sub_mch_id;
    }

    error = wechatpay_merchant_check(merchant, owner->mch_id, owner->app_id,
                                     owner->sub_mch_id);

    return (error == WECHATPAY_OK) ? NULL : wechatpay_error_phrase(error);
}


/* Returns 0, or -1: what is wrong is in the answer; so does the next. */

static int
wechatpay_v2_answer_created(wechatpay_xml_t *xml, wechatpay_memory_t *memory,
    wechatpay_answer_t *answer)
{
    wechatpay_error_e  error;

    wechatpay_v2_answer_strip(xml);

    answer->refunds = memory->alloc(memory->data, sizeof(wechatpay_refund_t));
    if (answer->refunds == NULL) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                               WECHATPAY_ERROR_NO_MEMORY);
        return -1;
    }

    error = wechatpay_v2_refund(WECHATPAY_V2_CREATED, xml->fields,
                                xml->nfields, memory, answer->refunds);
    if (error != WECHATPAY_OK) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                               error);
        return -1;
    }

    answer->nrefunds = 1;

    return 0;
}


static int
wechatpay_v2_answer_queried(const wechatpay_request_t *request,
    wechatpay_xml_t *xml, wechatpay_memory_t *memory,
    wechatpay_answer_t *answer)
{
    int                    list;
    int64_t                count;
    wechatpay_str_t        value;
    wechatpay_error_e      error;
    wechatpay_v2_groups_t  groups;

    value = wechatpay_xml_get(xml, "refund_count");

    /* each refund has fields of its own, so that there are more of these */

    if (wechatpay_v2_refund_integer(value, &count) != 0
        || count > (int64_t) xml->nfields)
    {
        wechatpay_answer_fail(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                              "refund_count is missing or wrong");
        return -1;
    }

    value = wechatpay_xml_get(xml, "total_refund_count");

    if (value.len != 0
        && wechatpay_v2_refund_integer(value, &answer->total_refund_count)
           != 0)
    {
        wechatpay_answer_fail(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                              "total_refund_count is not a number");
        return -1;
    }

    /* an id of a refund's tells one refund, an order's all of them */

    list = (request->refund_id.len == 0 && request->out_refund_no.len == 0);

    if (count == 0 && !list) {
        wechatpay_answer_fail(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                              "refund_count is 0");
        return -1;
    }

    groups.nrefunds = (size_t) count;

    wechatpay_v2_answer_strip(xml);

    answer->nrefunds = list ? groups.nrefunds : 1;
    answer->list = list ? 1 : 0;

    answer->refunds = memory->alloc(memory->data,
                                    (answer->nrefunds + 1)
                                    * sizeof(wechatpay_refund_t));
    if (answer->refunds == NULL) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                               WECHATPAY_ERROR_NO_MEMORY);
        return -1;
    }

    error = wechatpay_v2_answer_group(xml, memory, &groups);

    if (error == WECHATPAY_OK) {
        error = list ? wechatpay_v2_answer_list(&groups, memory,
                                                answer->refunds)
                     : wechatpay_v2_answer_single(request, &groups, memory,
                                                  answer->refunds);
    }

    if (error == WECHATPAY_OK && list) {
        error = wechatpay_v2_answer_order(&groups, memory, &answer->order);
    }

    if (error != WECHATPAY_OK) {
        wechatpay_answer_error(answer, WECHATPAY_CODE_MALFORMED_RESPONSE,
                               error);
        return -1;
    }

    return 0;
}


/* A refund's own fields come behind the order's, and so before them. */

static wechatpay_error_e
wechatpay_v2_answer_list(const wechatpay_v2_groups_t *groups,
    wechatpay_memory_t *memory, wechatpay_refund_t *refunds)
{
    size_t                  i, n;
    wechatpay_error_e       error;
    wechatpay_xml_field_t  *fields;

    fields = memory->alloc(memory->data,
                           (groups->norder + groups->from[groups->nrefunds]
                            + 1)
                           * sizeof(wechatpay_xml_field_t));
    if (fields == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    for (i = 0; i < groups->norder; i++) {
        fields[i] = groups->order[i];
    }

    for (i = 0; i < groups->nrefunds; i++) {
        n = groups->from[i + 1] - groups->from[i];

        memcpy(&fields[groups->norder], &groups->fields[groups->from[i]],
               n * sizeof(wechatpay_xml_field_t));

        error = wechatpay_v2_refund(WECHATPAY_V2_QUERIED, fields,
                                    groups->norder + n, memory, &refunds[i]);
        if (error != WECHATPAY_OK) {
            return error;
        }
    }

    return WECHATPAY_OK;
}


/* The refund that was asked for, with all that is said of its order. */

static wechatpay_error_e
wechatpay_v2_answer_single(const wechatpay_request_t *request,
    const wechatpay_v2_groups_t *groups, wechatpay_memory_t *memory,
    wechatpay_refund_t *refund)
{
    size_t                  i, n, nown;
    wechatpay_xml_field_t  *fields, *own;

    fields = memory->alloc(memory->data,
                           (groups->norder + groups->nrest
                            + groups->from[groups->nrefunds] + 1)
                           * sizeof(wechatpay_xml_field_t));
    if (fields == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    for (i = 0; i + 1 < groups->nrefunds; i++) {
        if (wechatpay_v2_answer_asked(request, groups, i)) {
            break;
        }
    }

    own = &groups->fields[groups->from[i]];
    nown = groups->from[i + 1] - groups->from[i];

    qsort(own, nown, sizeof(wechatpay_xml_field_t), wechatpay_xml_compare);

    for (n = 0; n < groups->norder; n++) {
        fields[n] = groups->order[n];
    }

    /* no member twice: a sum over all refunds is called as what it sums up */

    for (i = 0; i < groups->nrest; i++) {
        if (bsearch(&groups->rest[i], own, nown,
                    sizeof(wechatpay_xml_field_t), wechatpay_xml_compare)
            == NULL)
        {
            fields[n++] = groups->rest[i];
        }
    }

    memcpy(&fields[n], own, nown * sizeof(wechatpay_xml_field_t));

    return wechatpay_v2_refund(WECHATPAY_V2_QUERIED, fields, n + nown, memory,
                               refund);
}


static int
wechatpay_v2_answer_asked(const wechatpay_request_t *request,
    const wechatpay_v2_groups_t *groups, size_t i)
{
    size_t                        j;
    wechatpay_str_t               id;
    const wechatpay_xml_field_t  *field;

    static const wechatpay_str_t  names[] = {
        wechatpay_string("refund_id"),
        wechatpay_string("out_refund_no")
    };

    id = request->refund_id.len ? request->refund_id : request->out_refund_no;

    for (j = groups->from[i]; j < groups->from[i + 1]; j++) {
        field = &groups->fields[j];

        if (wechatpay_str_equal(field->name,
                                names[request->refund_id.len == 0])
            && wechatpay_str_equal(field->value, id))
        {
            return 1;
        }
    }

    return 0;
}


static wechatpay_error_e
wechatpay_v2_answer_order(const wechatpay_v2_groups_t *groups,
    wechatpay_memory_t *memory, wechatpay_refund_t *order)
{
    size_t                         i;
    const wechatpay_xml_field_t  **rest;

    for (i = 0; i < groups->norder; i++) {

        if (wechatpay_str_equal(groups->order[i].name, wechatpay_v2_order[0]))
        {
            order->transaction_id = groups->order[i].value;
        }

        if (wechatpay_str_equal(groups->order[i].name, wechatpay_v2_order[1]))
        {
            order->out_trade_no = groups->order[i].value;
        }
    }

    rest = memory->alloc(memory->data, (groups->nrest + 1)
                                       * sizeof(wechatpay_xml_field_t *));
    if (rest == NULL) {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    for (i = 0; i < groups->nrest; i++) {
        rest[i] = &groups->rest[i];
    }

    return wechatpay_v2_refund_extra(rest, groups->nrest, memory,
                                     &order->extra);
}


/* Parts the fields by the refund that they are about: a sort by counting. */

static wechatpay_error_e
wechatpay_v2_answer_group(const wechatpay_xml_t *xml,
    wechatpay_memory_t *memory, wechatpay_v2_groups_t *groups)
{
    size_t                        i, n, *next;
    wechatpay_str_t               name;
    const wechatpay_xml_field_t  *field;

    n = xml->nfields + 1;

    groups->order = memory->alloc(memory->data,
                                  n * sizeof(wechatpay_xml_field_t));
    groups->rest = memory->alloc(memory->data,
                                 n * sizeof(wechatpay_xml_field_t));
    groups->fields = memory->alloc(memory->data,
                                   n * sizeof(wechatpay_xml_field_t));
    groups->from = memory->alloc(memory->data, (groups->nrefunds + 1)
                                               * sizeof(size_t));
    next = memory->alloc(memory->data, (groups->nrefunds + 1)
                                       * sizeof(size_t));

    if (groups->order == NULL || groups->rest == NULL || groups->fields == NULL
        || groups->from == NULL || next == NULL)
    {
        return WECHATPAY_ERROR_NO_MEMORY;
    }

    memset(next, 0, (groups->nrefunds + 1) * sizeof(size_t));

    for (i = 0; i < xml->nfields; i++) {
        next[wechatpay_v2_answer_index(xml->fields[i].name,
                                       groups->nrefunds, NULL, NULL)]++;
    }

    for (i = 0, n = 0; i <= groups->nrefunds; i++) {
        groups->from[i] = n;
        n += next[i];
        next[i] = groups->from[i];
    }

    groups->norder = 0;
    groups->nrest = 0;

    for (i = 0; i < xml->nfields; i++) {
        field = &xml->fields[i];

        n = wechatpay_v2_answer_index(field->name, groups->nrefunds, memory,
                                      &name);

        if (name.data == NULL) {
            return WECHATPAY_ERROR_NO_MEMORY;
        }

        if (n < groups->nrefunds) {
            groups->fields[next[n]].name = name;
            groups->fields[next[n]++].value = field->value;

        } else if (wechatpay_v2_answer_is(name, wechatpay_v2_order,
                                       wechatpay_v2_count(wechatpay_v2_order)))
        {
            groups->order[groups->norder++] = *field;

        } else {
            groups->rest[groups->nrest++] = *field;
        }
    }

    return WECHATPAY_OK;
}


/*
 * Returns the refund that a field is about, less than n, or n: it is the
 * order's.  With memory, *stripped is the name without the refund's index, or
 * NULL where there is no memory.
 */

static size_t
wechatpay_v2_answer_index(wechatpay_str_t name, size_t n,
    wechatpay_memory_t *memory, wechatpay_str_t *stripped)
{
    size_t            last, index, base, coupon, len;
    unsigned char    *p;
    wechatpay_str_t   rest;

    base = wechatpay_v2_answer_suffix(name, &last);
    coupon = name.len;
    index = last;

    if (base != name.len) {
        rest.data = name.data;
        rest.len = base;

        len = wechatpay_v2_answer_suffix(rest, &index);

        if (len == rest.len) {
            index = last;

        } else {
            coupon = base;
            base = len;
        }
    }

    if (base == name.len || index >= n) {
        base = name.len;
        coupon = name.len;
        index = n;
    }

    if (memory == NULL) {
        return index;
    }

    *stripped = name;
    stripped->len = base;

    if (coupon != name.len) {

        /* coupon_type_0_1 is the coupon_type_1 of refund 0 */

        p = memory->alloc(memory->data, base + name.len - coupon);

        stripped->data = p;
        stripped->len = base + name.len - coupon;

        if (p != NULL) {
            memcpy(p, name.data, base);
            memcpy(p + base, name.data + coupon, name.len - coupon);
        }
    }

    return index;
}


/* Returns the length without "_" and an index, or all of it: there is none. */

static size_t
wechatpay_v2_answer_suffix(wechatpay_str_t name, size_t *index)
{
    size_t  i, j, digits;

    for (i = name.len; i != 0; i--) {
        if (name.data[i - 1] < '0' || name.data[i - 1] > '9') {
            break;
        }
    }

    digits = name.len - i;

    /* an index has one way to be written, so that no two names become one */

    if (digits == 0 || digits > WECHATPAY_V2_INDEX_MAX_DIGITS || i < 2
        || name.data[i - 1] != '_' || (digits > 1 && name.data[i] == '0'))
    {
        return name.len;
    }

    *index = 0;

    for (j = i; j < name.len; j++) {
        *index = *index * 10 + (size_t) (name.data[j] - '0');
    }

    return i - 1;
}


static void
wechatpay_v2_answer_strip(wechatpay_xml_t *xml)
{
    size_t  i, n;

    n = 0;

    for (i = 0; i < xml->nfields; i++) {
        if (!wechatpay_v2_answer_is(xml->fields[i].name, wechatpay_v2_frame,
                                    wechatpay_v2_count(wechatpay_v2_frame)))
        {
            xml->fields[n++] = xml->fields[i];
        }
    }

    xml->nfields = n;
}


static int
wechatpay_v2_answer_is(wechatpay_str_t name, const wechatpay_str_t *names,
    size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        if (wechatpay_str_equal(name, names[i])) {
            return 1;
        }
    }

    return 0;
}
