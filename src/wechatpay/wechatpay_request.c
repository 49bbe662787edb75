
/*
 * Copyright (C) the refund-notify authors
 */


#include <stdio.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

#include "wechatpay_request.h"
#include "wechatpay_field.h"
#include "wechatpay_json.h"
#include "wechatpay_merchant_internal.h"


#define WECHATPAY_NOTIFY_URL_MAX_LEN  256
#define WECHATPAY_URL_SCHEME          "https://"


typedef enum {
    WECHATPAY_MEMBER_ID = 0,        /* [0-9A-Za-z_-] */
    WECHATPAY_MEMBER_NUMBER,        /* [0-9A-Za-z_|*@-] */
    WECHATPAY_MEMBER_DIGITS,
    WECHATPAY_MEMBER_PRINTABLE,     /* ASCII without spaces */
    WECHATPAY_MEMBER_TEXT,          /* UTF-8 that XML can hold in one line */
    WECHATPAY_MEMBER_URL,
    WECHATPAY_MEMBER_WORD,          /* one of words */
    WECHATPAY_MEMBER_INTEGER,       /* 1 and more */
    WECHATPAY_MEMBER_OBJECT,
    WECHATPAY_MEMBER_ARRAY          /* of objects, at least one */
} wechatpay_member_form_e;


typedef struct wechatpay_members_s  wechatpay_members_t;

typedef struct {
    const char                 *name;
    wechatpay_member_form_e     form;
    size_t                      max;        /* bytes */
    unsigned                    required:1;
    unsigned                    v3:1;       /* v2 has no field for it */
    size_t                      offset;     /* in the request, or none */
    const char                 *invalid;
    const char                 *words[3];
    const wechatpay_members_t  *members;
} wechatpay_member_t;

struct wechatpay_members_s {
    const char                 *prefix;     /* of names in failures */
    const wechatpay_member_t   *members;
    size_t                      n;
};


/* What every step of the check below needs. */

typedef struct {
    const wechatpay_merchant_t  *merchant;
    wechatpay_memory_t          *memory;
    wechatpay_request_t         *request;
    wechatpay_failure_t         *failure;
} wechatpay_check_t;


static int wechatpay_request_parse(wechatpay_check_t *check,
    wechatpay_str_t body, json_t **object);
static int wechatpay_request_object(wechatpay_check_t *check, json_t *object,
    const wechatpay_members_t *members);
static int wechatpay_request_member(wechatpay_check_t *check, json_t *value,
    const wechatpay_member_t *member, const char *prefix);
static int wechatpay_request_string(const wechatpay_member_t *member,
    wechatpay_str_t value);
static int wechatpay_request_text(wechatpay_str_t value);
static int wechatpay_request_chars(wechatpay_member_form_e form,
    wechatpay_str_t value);
static int wechatpay_request_sum(wechatpay_check_t *check,
    const json_t *object);
static int wechatpay_request_sub_mch_id(wechatpay_check_t *check);
static int wechatpay_request_dump(wechatpay_check_t *check, json_t *object);
static int wechatpay_request_set(wechatpay_check_t *check, json_t *object,
    const char *name, wechatpay_str_t value);
static int wechatpay_request_encrypt(wechatpay_check_t *check, json_t *object,
    const char *name);
static void wechatpay_request_wipe(json_t *value);
static int wechatpay_request_invalid(wechatpay_check_t *check,
    const char *prefix, const char *name, const char *message);
static int wechatpay_request_failed(wechatpay_check_t *check);


#define wechatpay_request_value(member)  offsetof(wechatpay_request_t, member)
#define WECHATPAY_REQUEST_NO_VALUE       ((size_t) -1)

#define wechatpay_members(prefix, members)                                    \
    { prefix, members, sizeof(members) / sizeof(members[0]) }


static const wechatpay_member_t  wechatpay_from_members[] = {

    { "account", WECHATPAY_MEMBER_WORD, 16, 1, 1, WECHATPAY_REQUEST_NO_VALUE,
      "is neither AVAILABLE nor UNAVAILABLE", { "AVAILABLE", "UNAVAILABLE" },
      NULL },

    { "amount", WECHATPAY_MEMBER_INTEGER, 0, 1, 1, WECHATPAY_REQUEST_NO_VALUE,
      "is not an integer of at least 1 fen", { NULL }, NULL }
};

static const wechatpay_members_t  wechatpay_from =
    wechatpay_members("amount.from[].", wechatpay_from_members);


static const wechatpay_member_t  wechatpay_amount_members[] = {

    { "refund", WECHATPAY_MEMBER_INTEGER, 0, 1, 0,
      wechatpay_request_value(refund),
      "is not an integer of at least 1 fen", { NULL }, NULL },

    { "total", WECHATPAY_MEMBER_INTEGER, 0, 1, 0,
      wechatpay_request_value(total),
      "is not an integer of at least 1 fen", { NULL }, NULL },

    { "currency", WECHATPAY_MEMBER_WORD, 3, 1, 0,
      wechatpay_request_value(currency),
      "is not CNY", { "CNY" }, NULL },

    { "from", WECHATPAY_MEMBER_ARRAY, 0, 0, 1, WECHATPAY_REQUEST_NO_VALUE,
      "is not an array of objects", { NULL }, &wechatpay_from }
};

static const wechatpay_members_t  wechatpay_amount =
    wechatpay_members("amount.", wechatpay_amount_members);


static const wechatpay_member_t  wechatpay_goods_members[] = {

    { "merchant_goods_id", WECHATPAY_MEMBER_TEXT, 32, 1, 1,
      WECHATPAY_REQUEST_NO_VALUE,
      "is not a string of 1 to 32 bytes", { NULL }, NULL },

    { "wechatpay_goods_id", WECHATPAY_MEMBER_TEXT, 32, 0, 1,
      WECHATPAY_REQUEST_NO_VALUE,
      "is not a string of 1 to 32 bytes", { NULL }, NULL },

    { "goods_name", WECHATPAY_MEMBER_TEXT, 256, 0, 1,
      WECHATPAY_REQUEST_NO_VALUE,
      "is not a string of 1 to 256 bytes", { NULL }, NULL },

    { "unit_price", WECHATPAY_MEMBER_INTEGER, 0, 1, 1,
      WECHATPAY_REQUEST_NO_VALUE,
      "is not an integer of at least 1 fen", { NULL }, NULL },

    { "refund_amount", WECHATPAY_MEMBER_INTEGER, 0, 1, 1,
      WECHATPAY_REQUEST_NO_VALUE,
      "is not an integer of at least 1 fen", { NULL }, NULL },

    { "refund_quantity", WECHATPAY_MEMBER_INTEGER, 0, 1, 1,
      WECHATPAY_REQUEST_NO_VALUE,
      "is not an integer of at least 1", { NULL }, NULL }
};

static const wechatpay_members_t  wechatpay_goods =
    wechatpay_members("goods_detail[].", wechatpay_goods_members);


#define WECHATPAY_OUT_REFUND_NO                                               \
    { "out_refund_no", WECHATPAY_MEMBER_NUMBER, 64, 1, 0,                     \
      wechatpay_request_value(out_refund_no),                                 \
      "is not of 1 to 64 digits, letters, \"_\", \"|\", \"*\", \"@\" or"      \
      " \"-\"", { NULL }, NULL }

#define WECHATPAY_SUB_MCH_ID                                                  \
    { "sub_mch_id", WECHATPAY_MEMBER_DIGITS, 32, 0, 0,                        \
      wechatpay_request_value(sub_mch_id),                                    \
      "is not of 1 to 32 digits", { NULL }, NULL }


static const wechatpay_member_t  wechatpay_create_members[] = {

    WECHATPAY_OUT_REFUND_NO,

    { "transaction_id", WECHATPAY_MEMBER_ID, 32, 0, 0,
      wechatpay_request_value(transaction_id),
      "is not of 1 to 32 digits, letters, \"_\" or \"-\"", { NULL }, NULL },

    { "out_trade_no", WECHATPAY_MEMBER_NUMBER, 32, 0, 0,
      wechatpay_request_value(out_trade_no),
      "is not of 1 to 32 digits, letters, \"_\", \"|\", \"*\", \"@\" or"
      " \"-\"", { NULL }, NULL },

    { "reason", WECHATPAY_MEMBER_TEXT, 80, 0, 0,
      wechatpay_request_value(reason),
      "is not a string of 1 to 80 bytes of text", { NULL }, NULL },

    { "notify_url", WECHATPAY_MEMBER_URL, WECHATPAY_NOTIFY_URL_MAX_LEN, 0, 0,
      wechatpay_request_value(notify_url),
      "is not an https URL without a query, of at most 256 bytes", { NULL },
      NULL },

    { "funds_account", WECHATPAY_MEMBER_WORD, 16, 0, 0,
      wechatpay_request_value(funds_account),
      "is neither AVAILABLE nor UNSETTLED", { "AVAILABLE", "UNSETTLED" },
      NULL },

    { "amount", WECHATPAY_MEMBER_OBJECT, 0, 1, 0, WECHATPAY_REQUEST_NO_VALUE,
      "is not an object", { NULL }, &wechatpay_amount },

    { "goods_detail", WECHATPAY_MEMBER_ARRAY, 0, 0, 1,
      WECHATPAY_REQUEST_NO_VALUE,
      "is not an array of objects", { NULL }, &wechatpay_goods },

    WECHATPAY_SUB_MCH_ID
};

static const wechatpay_members_t  wechatpay_create =
    wechatpay_members("", wechatpay_create_members);


/* A payee's account and name are never kept: no value. */

static const wechatpay_member_t  wechatpay_abnormal_members[] = {

    WECHATPAY_OUT_REFUND_NO,

    { "type", WECHATPAY_MEMBER_WORD, 32, 1, 1, WECHATPAY_REQUEST_NO_VALUE,
      "is neither USER_BANK_CARD nor MERCHANT_BANK_CARD",
      { "USER_BANK_CARD", "MERCHANT_BANK_CARD" }, NULL },

    { "bank_type", WECHATPAY_MEMBER_ID, 16, 0, 1, WECHATPAY_REQUEST_NO_VALUE,
      "is not of 1 to 16 digits, letters, \"_\" or \"-\"", { NULL }, NULL },

    { "bank_account", WECHATPAY_MEMBER_PRINTABLE, 64, 0, 1,
      WECHATPAY_REQUEST_NO_VALUE,
      "is not of 1 to 64 printable characters", { NULL }, NULL },

    { "real_name", WECHATPAY_MEMBER_TEXT, 128, 0, 1,
      WECHATPAY_REQUEST_NO_VALUE,
      "is not a string of 1 to 128 bytes of text", { NULL }, NULL },

    WECHATPAY_SUB_MCH_ID
};

static const wechatpay_members_t  wechatpay_abnormal =
    wechatpay_members("", wechatpay_abnormal_members);


/* The order is that of what decides. */

static const struct {
    wechatpay_member_t   member;
    size_t               offset;            /* in wechatpay_query_t */
} wechatpay_query_members[] = {

    { { "refund_id", WECHATPAY_MEMBER_ID, 64, 0, 0,
        wechatpay_request_value(refund_id),
        "is not of 1 to 64 digits, letters, \"_\" or \"-\"", { NULL }, NULL },
      offsetof(wechatpay_query_t, refund_id) },

    { WECHATPAY_OUT_REFUND_NO,
      offsetof(wechatpay_query_t, out_refund_no) },

    { { "transaction_id", WECHATPAY_MEMBER_ID, 32, 0, 0,
        wechatpay_request_value(transaction_id),
        "is not of 1 to 32 digits, letters, \"_\" or \"-\"", { NULL }, NULL },
      offsetof(wechatpay_query_t, transaction_id) },

    { { "out_trade_no", WECHATPAY_MEMBER_NUMBER, 32, 0, 0,
        wechatpay_request_value(out_trade_no),
        "is not of 1 to 32 digits, letters, \"_\", \"|\", \"*\", \"@\" or"
        " \"-\"", { NULL }, NULL },
      offsetof(wechatpay_query_t, out_trade_no) },

    { WECHATPAY_SUB_MCH_ID,
      offsetof(wechatpay_query_t, sub_mch_id) },

    { { "offset", WECHATPAY_MEMBER_DIGITS, 9, 0, 0,
        wechatpay_request_value(offset),
        "is not of 1 to 9 digits", { NULL }, NULL },
      offsetof(wechatpay_query_t, offset) }
};

#define WECHATPAY_QUERY_NIDS  4

#define WECHATPAY_QUERY_NMEMBERS                                              \
    (sizeof(wechatpay_query_members) / sizeof(wechatpay_query_members[0]))


int
wechatpay_request_create(const wechatpay_merchant_t *merchant,
    wechatpay_version_e version, wechatpay_str_t body,
    wechatpay_str_t notify_url, wechatpay_memory_t *memory,
    wechatpay_request_t *request, wechatpay_failure_t *failure)
{
    int                 rc;
    json_t             *object;
    wechatpay_check_t   check = { merchant, memory, request, failure };

    memset(request, 0, sizeof(wechatpay_request_t));

    request->version = version;
    request->call = WECHATPAY_CALL_CREATE;

    if (wechatpay_request_parse(&check, body, &object) != 0) {
        return -1;
    }

    rc = wechatpay_request_object(&check, object, &wechatpay_create);

    if (rc == 0 && request->transaction_id.len == 0
        && request->out_trade_no.len == 0)
    {
        rc = wechatpay_request_invalid(&check, "", "transaction_id",
                                       "is missing, and so is out_trade_no");
    }

    if (rc == 0 && request->transaction_id.len != 0
        && request->out_trade_no.len != 0)
    {
        rc = wechatpay_request_invalid(&check, "", "out_trade_no",
                                       "stands beside transaction_id");
    }

    if (rc == 0 && request->refund > request->total) {
        rc = wechatpay_request_invalid(&check, "amount.", "refund",
                                       "is more than amount.total");
    }

    if (rc == 0) {
        rc = wechatpay_request_sum(&check, object);
    }

    if (rc == 0) {
        rc = wechatpay_request_sub_mch_id(&check);
    }

    if (rc == 0 && request->notify_url.len == 0) {
        request->notify_url = notify_url;

        if (notify_url.len != 0) {
            rc = wechatpay_request_set(&check, object, "notify_url",
                                       notify_url);
        }
    }

    if (rc == 0 && version == WECHATPAY_V3) {
        rc = wechatpay_request_dump(&check, object);
    }

    json_decref(object);

    return rc;
}


int
wechatpay_request_query(const wechatpay_merchant_t *merchant,
    wechatpay_version_e version, const wechatpay_query_t *query,
    wechatpay_memory_t *memory, wechatpay_request_t *request,
    wechatpay_failure_t *failure)
{
    int                        decided;
    size_t                     i;
    wechatpay_str_t            value;
    wechatpay_check_t          check = { merchant, memory, request, failure };
    const wechatpay_member_t  *member, *other;

    memset(request, 0, sizeof(wechatpay_request_t));

    request->version = version;
    request->call = WECHATPAY_CALL_QUERY;

    if (version == WECHATPAY_V3 && query->offset.len != 0) {
        return wechatpay_request_invalid(&check, "", "offset",
                                         "is not known to API v3");
    }

    decided = 0;
    other = NULL;

    for (i = 0; i < WECHATPAY_QUERY_NMEMBERS; i++) {
        member = &wechatpay_query_members[i].member;

        value = *(const wechatpay_str_t *) ((const unsigned char *) query
                                          + wechatpay_query_members[i].offset);
        if (value.len == 0) {
            continue;
        }

        if (i < WECHATPAY_QUERY_NIDS) {

            if (version == WECHATPAY_V3
                && member->offset != wechatpay_request_value(out_refund_no))
            {
                other = (other != NULL) ? other : member;
                continue;
            }

            if (decided) {
                continue;
            }

            decided = 1;
        }

        if (wechatpay_request_string(member, value) != 0) {
            return wechatpay_request_invalid(&check, "", member->name,
                                             member->invalid);
        }

        if (wechatpay_str_copy(value, memory,
                               wechatpay_field_str(member, request))
            != WECHATPAY_OK)
        {
            return wechatpay_request_failed(&check);
        }
    }

    if (!decided) {

        if (other != NULL) {
            return wechatpay_request_invalid(&check, "", other->name,
                                  "is not known to API v3, only out_refund_no");
        }

        return wechatpay_request_invalid(&check, "", "out_refund_no",
                                         "is missing");
    }

    return wechatpay_request_sub_mch_id(&check);
}


int
wechatpay_request_abnormal(const wechatpay_merchant_t *merchant,
    wechatpay_version_e version, wechatpay_str_t refund_id,
    wechatpay_str_t body, wechatpay_memory_t *memory,
    wechatpay_request_t *request, wechatpay_failure_t *failure)
{
    int                        rc;
    size_t                     i;
    json_t                    *object, *value;
    const char                *key;
    wechatpay_check_t          check = { merchant, memory, request, failure };
    const wechatpay_member_t  *member;

    static const char             *needed[] = { "bank_type", "bank_account",
                                                "real_name" };
    static const wechatpay_str_t   user = wechatpay_string("USER_BANK_CARD");

    memset(request, 0, sizeof(wechatpay_request_t));

    request->version = version;
    request->call = WECHATPAY_CALL_ABNORMAL;

    if (version != WECHATPAY_V3) {
        wechatpay_failure_set(failure, WECHATPAY_CODE_NOT_FOUND);
        return -1;
    }

    member = &wechatpay_query_members[0].member;

    if (wechatpay_request_string(member, refund_id) != 0) {
        return wechatpay_request_invalid(&check, "", member->name,
                                         member->invalid);
    }

    if (wechatpay_str_copy(refund_id, memory, &request->refund_id)
        != WECHATPAY_OK)
    {
        return wechatpay_request_failed(&check);
    }

    if (wechatpay_request_parse(&check, body, &object) != 0) {
        return -1;
    }

    rc = wechatpay_request_object(&check, object, &wechatpay_abnormal);

    /* WeChat Pay's page: all of a card is needed where it is the user's */

    for (i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (rc == 0
            && wechatpay_str_equal(wechatpay_json_get(object, "type"), user)
            && json_object_get(object, needed[i]) == NULL)
        {
            rc = wechatpay_request_invalid(&check, "", needed[i],
                                           "is missing for USER_BANK_CARD");
        }
    }

    if (rc == 0) {
        rc = wechatpay_request_sub_mch_id(&check);
    }

    if (rc == 0) {
        rc = wechatpay_request_encrypt(&check, object, "bank_account");
    }

    if (rc == 0) {
        rc = wechatpay_request_encrypt(&check, object, "real_name");
    }

    if (rc == 0) {
        rc = wechatpay_request_dump(&check, object);
    }

    /* all strings, for an account under a wrong name is one too */

    json_object_foreach(object, key, value) {
        wechatpay_request_wipe(value);
    }

    json_decref(object);

    return rc;
}


const char *
wechatpay_request_notify_url(wechatpay_str_t url)
{
    size_t  i, scheme;

    scheme = sizeof(WECHATPAY_URL_SCHEME) - 1;

    if (url.len <= scheme
        || memcmp(url.data, WECHATPAY_URL_SCHEME, scheme) != 0
        || url.data[scheme] == '/' || url.data[scheme] == ':')
    {
        return "is not an https URL";
    }

    if (url.len > WECHATPAY_NOTIFY_URL_MAX_LEN) {
        return "is longer than 256 bytes";
    }

    for (i = 0; i < url.len; i++) {

        if (url.data[i] <= 0x20 || url.data[i] >= 0x7f) {
            return "holds other than printable ASCII characters";
        }

        if (url.data[i] == '?' || url.data[i] == '#') {
            return "has a query or a fragment";
        }
    }

    return NULL;
}


int
wechatpay_request_digest(const wechatpay_request_t *request,
    unsigned char digest[WECHATPAY_REQUEST_DIGEST_LEN])
{
    int               len;
    char              text[256];
    size_t            i;
    unsigned char     sha256[SHA256_DIGEST_LENGTH];
    wechatpay_str_t   id;

    static const char  digits[] = "0123456789abcdef";

    id = request->transaction_id.len ? request->transaction_id
                                     : request->out_trade_no;

    /* all but the numbers was checked to have no line feed */

    len = snprintf(text, sizeof(text), "%s\n%.*s\n%lld\n%lld\n%.*s\n%.*s\n",
                   request->transaction_id.len ? "transaction_id"
                                               : "out_trade_no",
                   (int) id.len, (const char *) id.data,
                   (long long) request->refund, (long long) request->total,
                   (int) request->currency.len,
                   (const char *) request->currency.data,
                   (int) request->sub_mch_id.len,
                   request->sub_mch_id.len
                       ? (const char *) request->sub_mch_id.data : "");

    if (len < 0 || (size_t) len >= sizeof(text)
        || EVP_Digest(text, (size_t) len, sha256, NULL, EVP_sha256(), NULL)
           != 1)
    {
        ERR_clear_error();
        return -1;
    }

    for (i = 0; i < sizeof(sha256); i++) {
        digest[i * 2] = (unsigned char) digits[sha256[i] >> 4];
        digest[i * 2 + 1] = (unsigned char) digits[sha256[i] & 0x0f];
    }

    return 0;
}


static int
wechatpay_request_parse(wechatpay_check_t *check, wechatpay_str_t body,
    json_t **object)
{
    const char         *message;
    wechatpay_error_e   error;

    if (body.len > WECHATPAY_REQUEST_MAX_BODY) {
        wechatpay_failure_set(check->failure, WECHATPAY_CODE_BODY_TOO_LARGE);
        return -1;
    }

    error = wechatpay_json_parse(body, object);

    if (error == WECHATPAY_OK) {
        return 0;
    }

    if (error == WECHATPAY_ERROR_NO_MEMORY) {
        return wechatpay_request_failed(check);
    }

    wechatpay_failure_set(check->failure, WECHATPAY_CODE_PARAM_ERROR);

    message = wechatpay_error_phrase(error);

    check->failure->message.data = (const unsigned char *) message;
    check->failure->message.len = strlen(message);

    return -1;
}


static int
wechatpay_request_object(wechatpay_check_t *check, json_t *object,
    const wechatpay_members_t *members)
{
    size_t       i;
    json_t      *value;
    const char  *key;

    json_object_foreach(object, key, value) {

        for (i = 0; i < members->n; i++) {
            if (strcmp(members->members[i].name, key) == 0) {
                break;
            }
        }

        if (i == members->n) {
            return wechatpay_request_invalid(check, members->prefix, key,
                                             "is not known");
        }

        if (wechatpay_request_member(check, value, &members->members[i],
                                     members->prefix)
            != 0)
        {
            return -1;
        }
    }

    for (i = 0; i < members->n; i++) {
        if (members->members[i].required
            && json_object_get(object, members->members[i].name) == NULL)
        {
            return wechatpay_request_invalid(check, members->prefix,
                                             members->members[i].name,
                                             "is missing");
        }
    }

    return 0;
}


static int
wechatpay_request_member(wechatpay_check_t *check, json_t *value,
    const wechatpay_member_t *member, const char *prefix)
{
    int               valid;
    size_t            i;
    json_t           *element;
    json_int_t        integer;
    wechatpay_str_t   text;

    if (member->v3 && check->request->version != WECHATPAY_V3) {
        return wechatpay_request_invalid(check, prefix, member->name,
                                         "has no place in API v2");
    }

    switch (member->form) {

    case WECHATPAY_MEMBER_OBJECT:

        if (!json_is_object(value)) {
            break;
        }

        return wechatpay_request_object(check, value, member->members);

    case WECHATPAY_MEMBER_ARRAY:

        if (json_array_size(value) == 0) {
            break;
        }

        json_array_foreach(value, i, element) {
            if (!json_is_object(element)) {
                return wechatpay_request_invalid(check, prefix, member->name,
                                                 member->invalid);
            }

            if (wechatpay_request_object(check, element, member->members)
                != 0)
            {
                return -1;
            }
        }

        return 0;

    case WECHATPAY_MEMBER_INTEGER:

        integer = json_integer_value(value);

        if (integer < 1 || integer > WECHATPAY_MONEY_MAX) {
            break;
        }

        if (member->offset != WECHATPAY_REQUEST_NO_VALUE) {
            *wechatpay_field_money(member, check->request) = integer;
        }

        return 0;

    default:

        text.data = (const unsigned char *) json_string_value(value);
        text.len = json_string_length(value);

        valid = json_is_string(value)
                && wechatpay_request_string(member, text) == 0;

        if (!valid) {
            break;
        }

        if (member->offset != WECHATPAY_REQUEST_NO_VALUE
            && wechatpay_str_copy(text, check->memory,
                                  wechatpay_field_str(member, check->request))
               != WECHATPAY_OK)
        {
            return wechatpay_request_failed(check);
        }

        return 0;
    }

    return wechatpay_request_invalid(check, prefix, member->name,
                                     member->invalid);
}


static int
wechatpay_request_string(const wechatpay_member_t *member,
    wechatpay_str_t value)
{
    size_t  i;

    if (value.len == 0 || value.len > member->max) {
        return -1;
    }

    switch (member->form) {

    case WECHATPAY_MEMBER_WORD:

        for (i = 0; member->words[i] != NULL; i++) {
            if (value.len == strlen(member->words[i])
                && memcmp(value.data, member->words[i], value.len) == 0)
            {
                return 0;
            }
        }

        return -1;

    case WECHATPAY_MEMBER_URL:

        return wechatpay_request_notify_url(value) == NULL ? 0 : -1;

    case WECHATPAY_MEMBER_TEXT:

        return wechatpay_request_text(value);

    default:

        return wechatpay_request_chars(member->form, value);
    }
}


/*
 * No control characters, and not the two of Unicode that XML has no way to
 * write; that it is UTF-8 was seen by the JSON parser, or is no matter.
 */

static int
wechatpay_request_text(wechatpay_str_t value)
{
    size_t  i;

    for (i = 0; i < value.len; i++) {

        if (value.data[i] < 0x20 || value.data[i] == 0x7f) {
            return -1;
        }

        if (value.len - i >= 3 && value.data[i] == 0xef
            && value.data[i + 1] == 0xbf && value.data[i + 2] >= 0xbe)
        {
            return -1;
        }
    }

    return 0;
}


static int
wechatpay_request_chars(wechatpay_member_form_e form, wechatpay_str_t value)
{
    size_t         i;
    unsigned char  c;

    for (i = 0; i < value.len; i++) {
        c = value.data[i];

        if (c >= '0' && c <= '9') {
            continue;
        }

        if (form == WECHATPAY_MEMBER_DIGITS || c <= 0x20 || c >= 0x7f) {
            return -1;
        }

        if (form == WECHATPAY_MEMBER_PRINTABLE
            || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
            || c == '_' || c == '-')
        {
            continue;
        }

        if (form != WECHATPAY_MEMBER_NUMBER
            || (c != '|' && c != '*' && c != '@'))
        {
            return -1;
        }
    }

    return 0;
}


/*
 * WeChat Pay's page on the refund: what the accounts give is the refund in all,
 * and none of them gives twice.
 */

static int
wechatpay_request_sum(wechatpay_check_t *check, const json_t *object)
{
    size_t            i;
    int64_t           left;
    json_t           *from, *element;
    wechatpay_str_t   account, first;

    from = json_object_get(json_object_get(object, "amount"), "from");

    if (from == NULL) {
        return 0;
    }

    left = check->request->refund;

    first.data = NULL;
    first.len = 0;

    json_array_foreach(from, i, element) {
        account = wechatpay_json_get(element, "account");

        /* there are two of them, so that a third is one of the two again */

        if (i > 1 || wechatpay_str_equal(account, first)) {
            return wechatpay_request_invalid(check, "amount.from[].",
                                             "account", "is repeated");
        }

        first = account;

        left -= json_integer_value(json_object_get(element, "amount"));
    }

    if (left != 0) {
        return wechatpay_request_invalid(check, "amount.", "from",
                                         "does not add up to amount.refund");
    }

    return 0;
}


static int
wechatpay_request_sub_mch_id(wechatpay_check_t *check)
{
    wechatpay_str_t  none;

    none.data = NULL;
    none.len = 0;

    if (check->request->sub_mch_id.len == 0
        && wechatpay_merchant_is_provider(check->merchant))
    {
        return wechatpay_request_invalid(check, "", "sub_mch_id",
                                         "is missing: the merchant is a "
                                         "service provider");
    }

    if (wechatpay_merchant_check(check->merchant,
                                 wechatpay_merchant_mch_id(check->merchant),
                                 none, check->request->sub_mch_id)
        != WECHATPAY_OK)
    {
        return wechatpay_request_invalid(check, "", "sub_mch_id",
                                         "is none of the merchant's");
    }

    return 0;
}


/* The checked object itself goes out: v3 takes it as it is, but for a name. */

static int
wechatpay_request_dump(wechatpay_check_t *check, json_t *object)
{
    if (check->request->sub_mch_id.len != 0) {

        if (wechatpay_request_set(check, object, "sub_mchid",
                                  check->request->sub_mch_id)
            != 0)
        {
            return -1;
        }

        (void) json_object_del(object, "sub_mch_id");
    }

    if (wechatpay_json_dump(object, 0, check->memory, &check->request->json)
        != WECHATPAY_OK)
    {
        return wechatpay_request_failed(check);
    }

    return 0;
}


static int
wechatpay_request_set(wechatpay_check_t *check, json_t *object,
    const char *name, wechatpay_str_t value)
{
    if (json_object_set_new(object, name,
                            json_stringn((const char *) value.data, value.len))
        != 0)
    {
        return wechatpay_request_failed(check);
    }

    return 0;
}


static int
wechatpay_request_encrypt(wechatpay_check_t *check, json_t *object,
    const char *name)
{
    size_t                          len;
    json_t                         *value;
    unsigned char                  *p, blocks[512];
    EVP_PKEY_CTX                   *ctx;
    wechatpay_str_t                 base64;
    const wechatpay_v3_verifier_t  *verifier;

    value = json_object_get(object, name);

    if (!json_is_string(value)) {
        return 0;
    }

    verifier = wechatpay_merchant_named(check->merchant);

    ctx = verifier ? EVP_PKEY_CTX_new(verifier->key, NULL) : NULL;

    p = NULL;
    len = sizeof(blocks);

    if (ctx != NULL
        && EVP_PKEY_encrypt_init(ctx) == 1
        && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1
        && EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha1()) == 1
        && EVP_PKEY_encrypt(ctx, blocks, &len,
                            (const unsigned char *) json_string_value(value),
                            json_string_length(value))
           == 1)
    {
        p = check->memory->alloc(check->memory->data, (len + 2) / 3 * 4 + 1);
    }

    EVP_PKEY_CTX_free(ctx);

    if (p == NULL) {
        ERR_clear_error();
        return wechatpay_request_failed(check);
    }

    base64.data = p;
    base64.len = (size_t) EVP_EncodeBlock(p, blocks, (int) len);

    wechatpay_request_wipe(value);

    return wechatpay_request_set(check, object, name, base64);
}


/* The object's own bytes, where they are. */

static void
wechatpay_request_wipe(json_t *value)
{
    if (json_is_string(value)) {
        OPENSSL_cleanse((void *) json_string_value(value),
                        json_string_length(value));
    }
}


static int
wechatpay_request_invalid(wechatpay_check_t *check, const char *prefix,
    const char *name, const char *message)
{
    size_t           len, prefix_len;
    unsigned char   *p;

    /* an unknown name is the caller's: it is cut where a character begins */

    len = strlen(name);

    if (len > 64) {
        len = 64;

        while ((name[len] & 0xc0) == 0x80) {
            len--;
        }
    }

    prefix_len = strlen(prefix);

    p = check->memory->alloc(check->memory->data, prefix_len + len + 1);
    if (p == NULL) {
        return wechatpay_request_failed(check);
    }

    memcpy(p, prefix, prefix_len);
    memcpy(p + prefix_len, name, len);

    wechatpay_failure_set(check->failure, WECHATPAY_CODE_PARAM_ERROR);

    check->failure->field.data = p;
    check->failure->field.len = prefix_len + len;
    check->failure->message.data = (const unsigned char *) message;
    check->failure->message.len = strlen(message);

    return -1;
}


static int
wechatpay_request_failed(wechatpay_check_t *check)
{
    wechatpay_failure_set(check->failure, WECHATPAY_CODE_INTERNAL_ERROR);

    return -1;
}
