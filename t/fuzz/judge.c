
/*
 * Copyright (C) the refund-notify authors
 *
 *   judge public-key.pem < lines
 *
 * What src/wechatpay makes of files, for differential.t: for each line,
 * "kind path", one is written, why the file is refused, or nothing, a tab, and
 * what it was taken for: JSON, or bytes in hex, those of XML as "root name=value
 * name=value".  What is signed begins with the headers, "name: value" a line
 * each, and an empty line.
 */


#include <openssl/crypto.h>

#include "fuzz.h"
#include "wechatpay_base64.h"
#include "wechatpay_v2_req_info.h"
#include "wechatpay_xml.h"


#define JUDGE_NOW         1528425296
#define JUDGE_SKEW        300
#define JUDGE_MAX_FIELDS  256


typedef struct {
    const char  *kind;
    void       (*judge)(wechatpay_str_t text, fuzz_memory_t *memory);
} judge_t;


static void judge_base64(wechatpay_str_t text, fuzz_memory_t *memory);
static void judge_req_info(wechatpay_str_t text, fuzz_memory_t *memory);
static void judge_xml(wechatpay_str_t text, fuzz_memory_t *memory);
static void judge_v2_notify(wechatpay_str_t text, fuzz_memory_t *memory);
static void judge_v3_notify(wechatpay_str_t text, fuzz_memory_t *memory);
static void judge_notify(wechatpay_error_e error,
    const wechatpay_refund_t *refund, fuzz_memory_t *memory);
static void judge_v2_answer(wechatpay_str_t text, fuzz_memory_t *memory);
static void judge_v3_answer(wechatpay_str_t text, fuzz_memory_t *memory);
static void judge_answer(wechatpay_version_e version,
    const wechatpay_response_t *response, fuzz_memory_t *memory);
static wechatpay_str_t judge_headers(wechatpay_str_t text,
    wechatpay_headers_t *headers);
static void judge_hex(wechatpay_str_t text);
static wechatpay_str_t judge_read(const char *path);


static wechatpay_parser_t      *judge_parser;
static wechatpay_xml_parser_t  *judge_xml_parser;
static wechatpay_merchant_t    *judge_shop;
static EVP_CIPHER_CTX          *judge_cipher;

static const judge_t            judges[] = {
    { "base64", judge_base64 },
    { "req_info", judge_req_info },
    { "xml", judge_xml },
    { "v2_notify", judge_v2_notify },
    { "v3_notify", judge_v3_notify },
    { "v2_answer", judge_v2_answer },
    { "v3_answer", judge_v3_answer }
};


int
main(int argc, char **argv)
{
    char             kind[16], path[1024];
    size_t           i;
    fuzz_memory_t    memory;
    wechatpay_str_t  text;

    fuzz_assert(argc == 2);

    judge_parser = wechatpay_parser_create();
    judge_xml_parser = wechatpay_xml_parser_create();
    judge_cipher = wechatpay_v2_req_info_cipher(
                                            (const unsigned char *) FUZZ_KEY);
    judge_shop = fuzz_merchant();

    fuzz_assert(judge_parser && judge_xml_parser && judge_cipher);

    text = judge_read(argv[1]);

    fuzz_assert(wechatpay_merchant_add_app_id(judge_shop,
                                              fuzz_str(FUZZ_APP_ID))
                == NULL);
    fuzz_assert(wechatpay_merchant_add_public_key(judge_shop,
                                                  fuzz_str(FUZZ_SERIAL), text)
                == NULL);

    free((void *) text.data);

    while (scanf("%15s %1023s", kind, path) == 2) {

        text = judge_read(path);
        fuzz_memory_init(&memory);

        for (i = 0; strcmp(judges[i].kind, kind) != 0; i++) {
            fuzz_assert(i + 1 < sizeof(judges) / sizeof(judges[0]));
        }

        judges[i].judge(text, &memory);
        printf("\n");

        fuzz_memory_free(&memory);
        free((void *) text.data);
    }

    wechatpay_parser_destroy(judge_parser);
    wechatpay_xml_parser_destroy(judge_xml_parser);
    wechatpay_merchant_destroy(judge_shop);
    EVP_CIPHER_CTX_free(judge_cipher);

    return 0;
}


static void
judge_base64(wechatpay_str_t text, fuzz_memory_t *memory)
{
    size_t            len;
    unsigned char    *p;
    wechatpay_str_t   decoded;

    p = memory->memory.alloc(memory,
                             wechatpay_base64_decoded_length(text.len));

    if (wechatpay_base64_decode(text, p, &len) != 0) {
        printf("not base64\t");
        return;
    }

    decoded.data = p;
    decoded.len = len;

    printf("\t");
    judge_hex(decoded);
}


static void
judge_req_info(wechatpay_str_t text, fuzz_memory_t *memory)
{
    unsigned char      *p;
    wechatpay_str_t     blocks;
    wechatpay_error_e   error;

    error = wechatpay_v2_req_info_decode(text, &memory->memory, &blocks);

    if (error == WECHATPAY_OK) {
        p = memory->memory.alloc(memory, blocks.len);
        text.data = p;
        error = wechatpay_v2_req_info_decrypt(judge_cipher, blocks, p,
                                              &text.len);
    }

    printf("%s\t", wechatpay_error_phrase(error));

    if (error == WECHATPAY_OK) {
        judge_hex(text);
    }
}


static void
judge_xml(wechatpay_str_t text, fuzz_memory_t *memory)
{
    size_t                 i;
    wechatpay_xml_t        xml;
    wechatpay_error_e      error;
    wechatpay_xml_field_t  fields[JUDGE_MAX_FIELDS];

    xml.fields = fields;
    xml.max = JUDGE_MAX_FIELDS;

    error = wechatpay_xml_parse(judge_xml_parser, text, &memory->memory, &xml);

    printf("%s\t", wechatpay_error_phrase(error));

    if (error != WECHATPAY_OK) {
        return;
    }

    judge_hex(xml.root);

    for (i = 0; i < xml.nfields; i++) {
        printf(" ");
        judge_hex(fields[i].name);
        printf("=");
        judge_hex(fields[i].value);
    }
}


static void
judge_v2_notify(wechatpay_str_t text, fuzz_memory_t *memory)
{
    wechatpay_error_e   error;
    wechatpay_refund_t  refund;

    error = wechatpay_v2_notify(judge_parser, judge_shop, text,
                                &memory->memory, &refund);

    judge_notify(error, &refund, memory);
}


static void
judge_v3_notify(wechatpay_str_t text, fuzz_memory_t *memory)
{
    wechatpay_str_t       body;
    wechatpay_error_e     error;
    wechatpay_refund_t    refund;
    wechatpay_headers_t   headers;

    body = judge_headers(text, &headers);

    error = wechatpay_v3_notify(judge_parser, judge_shop, &headers, body,
                                JUDGE_NOW, JUDGE_SKEW, &memory->memory,
                                &refund);

    judge_notify(error, &refund, memory);
}


static void
judge_notify(wechatpay_error_e error, const wechatpay_refund_t *refund,
    fuzz_memory_t *memory)
{
    wechatpay_str_t  id, json;

    printf("%s\t", wechatpay_error_phrase(error));

    if (error != WECHATPAY_OK) {
        return;
    }

    fuzz_assert(wechatpay_event_id(refund, &memory->memory, &id)
                == WECHATPAY_OK);
    fuzz_assert(wechatpay_event_json(refund, id, fuzz_str("shop"), JUDGE_NOW,
                                     &memory->memory, &json)
                == WECHATPAY_OK);

    printf("%.*s", (int) json.len, (const char *) json.data);
}


static void
judge_v2_answer(wechatpay_str_t text, fuzz_memory_t *memory)
{
    wechatpay_response_t  response;

    memset(&response, 0, sizeof(wechatpay_response_t));

    response.body = text;

    judge_answer(WECHATPAY_V2, &response, memory);
}


static void
judge_v3_answer(wechatpay_str_t text, fuzz_memory_t *memory)
{
    wechatpay_headers_t   headers;
    wechatpay_response_t  response;

    response.body = judge_headers(text, &headers);
    response.headers = &headers;

    judge_answer(WECHATPAY_V3, &response, memory);
}


/* As to a query of the refund whose out_refund_no is "1". */

static void
judge_answer(wechatpay_version_e version, const wechatpay_response_t *given,
    fuzz_memory_t *memory)
{
    wechatpay_str_t       json;
    wechatpay_answer_t    answer;
    wechatpay_request_t   request;
    wechatpay_response_t  response;

    response = *given;
    response.status = 200;
    response.now = JUDGE_NOW;
    response.skew = JUDGE_SKEW;

    memset(&request, 0, sizeof(wechatpay_request_t));

    request.version = version;
    request.call = WECHATPAY_CALL_QUERY;
    request.out_refund_no = fuzz_str("1");

    wechatpay_answer(judge_parser, judge_shop, &request, &response,
                     &memory->memory, &answer);

    if (answer.outcome != WECHATPAY_ACCEPTED) {
        printf("%.*s: %s\t", (int) answer.failure.code.len,
               (const char *) answer.failure.code.data, answer.reason);
        return;
    }

    fuzz_assert(wechatpay_answer_json(&answer, fuzz_str("shop"),
                                      &memory->memory, &json)
                == WECHATPAY_OK);

    printf("\t%.*s", (int) json.len, (const char *) json.data);
}


/* The rest is the body. */

static wechatpay_str_t
judge_headers(wechatpay_str_t text, wechatpay_headers_t *headers)
{
    const unsigned char  *lf, *colon;
    wechatpay_str_t       name, value;

    memset(headers, 0, sizeof(wechatpay_headers_t));

    for ( ;; ) {
        lf = memchr(text.data, '\n', text.len);
        fuzz_assert(lf != NULL);

        colon = memchr(text.data, ':', (size_t) (lf - text.data));

        if (colon != NULL) {
            name.data = text.data;
            name.len = (size_t) (colon - text.data);
            value.data = colon + 2;
            value.len = (size_t) (lf - value.data);

            fuzz_assert(wechatpay_headers_add(headers, name, value));
        }

        text.len -= (size_t) (lf + 1 - text.data);
        text.data = lf + 1;

        if (colon == NULL) {
            return text;
        }
    }
}


static void
judge_hex(wechatpay_str_t text)
{
    size_t  i;

    for (i = 0; i < text.len; i++) {
        printf("%02x", text.data[i]);
    }
}


/* On the heap, just as long as it is, so that the sanitizers see its end. */

static wechatpay_str_t
judge_read(const char *path)
{
    FILE             *file;
    unsigned char    *p;
    wechatpay_str_t   text;

    static unsigned char  buf[2 * 1024 * 1024];

    file = fopen(path, "rb");
    fuzz_assert(file != NULL);

    text.len = fread(buf, 1, sizeof(buf), file);
    fuzz_assert(text.len < sizeof(buf));
    (void) fclose(file);

    p = malloc(text.len ? text.len : 1);
    fuzz_assert(p != NULL);

    memcpy(p, buf, text.len);
    text.data = p;

    return text;
}
