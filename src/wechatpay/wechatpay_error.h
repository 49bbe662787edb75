
/*
 * Copyright (C) the refund-notify authors
 *
 * What can be wrong with a notify: for each way one code, the result that it
 * leads to, and the fixed phrase that $refund_notify_reason and the error log
 * show.  A phrase never holds anything of the notify itself.
 */


#ifndef WECHATPAY_ERROR_H
#define WECHATPAY_ERROR_H


#include "wechatpay.h"


/* X(code, result, phrase); the order is about that of the checks */

#define WECHATPAY_ERRORS(X)                                                   \
    X(NO_MEMORY, STORE_ERROR, "out of memory")                                \
    X(FORMAT_UNKNOWN, MALFORMED, "neither XML nor JSON")                      \
    X(VERSION_NOT_ACCEPTED, MALFORMED,                                        \
      "a version of the API that is not accepted here")                       \
    X(BODY_TOO_LARGE, MALFORMED, "the body is longer than 1 MB")              \
                                                                              \
    X(XML_NOT_UTF8, MALFORMED, "the XML is not UTF-8")                        \
    X(XML_NOT_WELL_FORMED, MALFORMED, "the XML is not well-formed")           \
    X(XML_DOCTYPE, MALFORMED, "a DOCTYPE in the XML")                         \
    X(XML_INSTRUCTION, MALFORMED, "a processing instruction in the XML")      \
    X(XML_ATTRIBUTE, MALFORMED, "an attribute or a namespace in the XML")     \
    X(XML_NESTED, MALFORMED, "an element within a field of the XML")          \
    X(XML_MIXED, MALFORMED, "text between the fields of the XML")             \
    X(XML_REPEATED, MALFORMED, "a repeated field in the XML")                 \
    X(XML_TOO_MANY, MALFORMED, "too many fields in the XML")                  \
                                                                              \
    X(V2_ROOT, MALFORMED, "the root of the XML is not <xml>")                 \
    X(RETURN_CODE_MISSING, MALFORMED, "return_code is missing")               \
    X(RETURN_CODE, MALFORMED, "return_code is not SUCCESS")                   \
    X(REQ_INFO_MISSING, MALFORMED, "req_info is missing")                     \
    X(REQ_INFO_BASE64, MALFORMED, "req_info is not base64")                   \
    X(REQ_INFO_BLOCKS, UNDECRYPTABLE,                                         \
      "req_info is not a whole number of cipher blocks")                      \
    X(REQ_INFO_KEY, UNDECRYPTABLE, "no APIv2 key decrypts req_info")          \
    X(REQ_INFO_ROOT, MALFORMED, "the root of the decrypted XML is not <root>")\
                                                                              \
    X(TIMESTAMP_MISSING, MALFORMED, "Wechatpay-Timestamp is missing")         \
    X(TIMESTAMP_REPEATED, MALFORMED, "Wechatpay-Timestamp is repeated")       \
    X(TIMESTAMP_INVALID, MALFORMED,                                           \
      "Wechatpay-Timestamp is empty, too long or not a number")               \
    X(NONCE_MISSING, MALFORMED, "Wechatpay-Nonce is missing")                 \
    X(NONCE_REPEATED, MALFORMED, "Wechatpay-Nonce is repeated")               \
    X(NONCE_INVALID, MALFORMED,                                               \
      "Wechatpay-Nonce is empty, too long or not printable")                  \
    X(SIGNATURE_MISSING, MALFORMED, "Wechatpay-Signature is missing")         \
    X(SIGNATURE_REPEATED, MALFORMED, "Wechatpay-Signature is repeated")       \
    X(SIGNATURE_INVALID, MALFORMED,                                           \
      "Wechatpay-Signature is empty, too long or not printable")              \
    X(SERIAL_MISSING, MALFORMED, "Wechatpay-Serial is missing")               \
    X(SERIAL_REPEATED, MALFORMED, "Wechatpay-Serial is repeated")             \
    X(SERIAL_INVALID, MALFORMED,                                              \
      "Wechatpay-Serial is empty, too long or not printable")                 \
    X(SIGNATURE_TYPE_REPEATED, MALFORMED,                                     \
      "Wechatpay-Signature-Type is repeated")                                 \
    X(SIGNATURE_TYPE_INVALID, MALFORMED,                                      \
      "Wechatpay-Signature-Type is empty, too long or not printable")         \
                                                                              \
    X(SIGNATURE_TYPE_UNKNOWN, UNVERIFIED,                                     \
      "Wechatpay-Signature-Type is not WECHATPAY2-SHA256-RSA2048")            \
    X(SIGNATURE_PROBE, UNVERIFIED,                                            \
      "a probe of WeChat Pay's (WECHATPAY/SIGNTEST/)")                        \
    X(TIMESTAMP_STALE, UNVERIFIED,                                            \
      "Wechatpay-Timestamp is outside of the window")                         \
    X(SERIAL_UNKNOWN, UNVERIFIED, "no key with this Wechatpay-Serial")        \
    X(SIGNATURE_BASE64, UNVERIFIED,                                           \
      "Wechatpay-Signature is not base64 of the key's size")                  \
    X(SIGNATURE_WRONG, UNVERIFIED, "Wechatpay-Signature is wrong")            \
                                                                              \
    X(JSON_MALFORMED, MALFORMED, "the JSON is malformed")                     \
    X(JSON_REPEATED, MALFORMED, "a repeated member in the JSON")              \
    X(JSON_TOO_DEEP, MALFORMED, "the JSON is nested too deep")                \
    X(JSON_NOT_OBJECT, MALFORMED, "the JSON is not an object")                \
                                                                              \
    X(EVENT_TYPE_MISSING, MALFORMED, "event_type is missing or not a string") \
    X(RESOURCE_MISSING, MALFORMED, "resource is missing or not an object")    \
    X(ORIGINAL_TYPE_MISSING, MALFORMED,                                       \
      "resource.original_type is missing or not a string")                    \
    X(SECURITY_ECHO, IGNORED, "a test of WeChat Pay's (SECURITY_ECHO)")       \
    X(EVENT_TYPE_UNSUPPORTED, UNSUPPORTED, "event_type is not of a refund")   \
    X(ORIGINAL_TYPE, MALFORMED, "resource.original_type is not refund")       \
    X(NOTIFY_ID, MALFORMED, "id is missing, too long or of other characters") \
    X(CREATE_TIME, MALFORMED, "create_time is missing or not a time")         \
    X(RESOURCE_TYPE, MALFORMED, "resource_type is missing or not a string")   \
    X(ALGORITHM_MISSING, MALFORMED,                                           \
      "resource.algorithm is missing or not a string")                        \
    X(ALGORITHM_SM4, MALFORMED,                                               \
      "resource.algorithm is AEAD_SM4_GCM, which is not supported")           \
    X(ALGORITHM_UNKNOWN, MALFORMED,                                           \
      "resource.algorithm is not AEAD_AES_256_GCM")                           \
    X(RESOURCE_NONCE, MALFORMED, "resource.nonce is not 12 bytes long")       \
    X(ASSOCIATED_DATA, MALFORMED,                                             \
      "resource.associated_data is not a string")                             \
    X(CIPHERTEXT_MISSING, MALFORMED,                                          \
      "resource.ciphertext is missing or not a string")                       \
    X(CIPHERTEXT_BASE64, MALFORMED, "resource.ciphertext is not base64")      \
    X(CIPHERTEXT_SHORT, UNDECRYPTABLE,                                        \
      "resource.ciphertext is shorter than its tag")                          \
    X(RESOURCE_KEY, UNDECRYPTABLE, "no APIv3 key decrypts the resource")      \
                                                                              \
    X(MCH_ID_MISSING, MALFORMED, "mch_id is missing")                         \
    X(MCH_ID_INVALID, MALFORMED, "mch_id is not a string")                    \
    X(MCH_ID_MISMATCH, MISMATCH, "mch_id is not the merchant's")              \
    X(APP_ID_INVALID, MALFORMED, "appid or sub_appid is of another form")     \
    X(APP_ID_MISMATCH, MISMATCH, "appid is none of the merchant's")           \
    X(SUB_MCH_ID_MISSING, MALFORMED, "sub_mchid is missing")                  \
    X(SUB_MCH_ID_INVALID, MALFORMED, "sub_mch_id is of another form")         \
    X(SUB_MCH_ID_MISMATCH, MISMATCH, "sub_mch_id is none of the merchant's")  \
                                                                              \
    X(TRANSACTION_ID_MISSING, MALFORMED, "transaction_id is missing")         \
    X(TRANSACTION_ID_INVALID, MALFORMED, "transaction_id is of another form") \
    X(OUT_TRADE_NO_MISSING, MALFORMED, "out_trade_no is missing")             \
    X(OUT_TRADE_NO_INVALID, MALFORMED, "out_trade_no is of another form")     \
    X(REFUND_ID_MISSING, MALFORMED, "refund_id is missing")                   \
    X(REFUND_ID_INVALID, MALFORMED, "refund_id is of another form")           \
    X(OUT_REFUND_NO_MISSING, MALFORMED, "out_refund_no is missing")           \
    X(OUT_REFUND_NO_INVALID, MALFORMED, "out_refund_no is of another form")   \
    X(STATUS_MISSING, MALFORMED, "refund_status is missing")                  \
    X(STATUS_UNKNOWN, MALFORMED, "refund_status is unknown")                  \
    X(STATUS_MISMATCH, MISMATCH, "refund_status is not what event_type says") \
    X(AMOUNT_MISSING, MALFORMED, "amount is missing or not an object")        \
    X(TOTAL_MISSING, MALFORMED, "the order's total is missing")               \
    X(REFUND_MISSING, MALFORMED, "the refund's amount is missing")            \
    X(MONEY_INVALID, MALFORMED, "an amount is not a count of fen")

typedef enum {
    WECHATPAY_OK = 0,
#define X(name, result, phrase)  WECHATPAY_ERROR_##name,
    WECHATPAY_ERRORS(X)
#undef X
    WECHATPAY_ERROR_COUNT
} wechatpay_error_e;


/* The result that an error leads to; error is never WECHATPAY_OK. */

wechatpay_result_e wechatpay_error_result(wechatpay_error_e error);


/* The phrase of an error, static, ended by a NUL; "" for WECHATPAY_OK. */

const char *wechatpay_error_phrase(wechatpay_error_e error);


/* Copies value, which may be empty, into memory. */

wechatpay_error_e wechatpay_str_copy(wechatpay_str_t value,
    wechatpay_memory_t *memory, wechatpay_str_t *copy);


#endif /* WECHATPAY_ERROR_H */
