
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <jansson.h>
#include "ngx_http_refund_acknowledgement.h"
#include "ngx_http_refund_delivery.h"


const char *
ngx_http_refund_acknowledgement(ngx_str_t *answer)
{
    json_t      *root, *code;
    const char  *reason;

    if (answer->len > NGX_HTTP_REFUND_DELIVERY_ANSWER_SIZE) {
        return "its answer is longer than 4096 bytes";
    }

    if (answer->len == 0) {
        return "its answer is empty";
    }

    root = json_loadb((char *) answer->data, answer->len,
                      JSON_REJECT_DUPLICATES, NULL);
    if (root == NULL) {
        return "its answer is not JSON";
    }

    code = json_object_get(root, "code");

    if (code == NULL) {
        reason = "its answer has no \"code\"";

    } else if (!json_is_string(code)
               || strcmp(json_string_value(code), "SUCCESS") != 0)
    {
        reason = "its answer's \"code\" is not \"SUCCESS\"";

    } else {
        reason = NULL;
    }

    json_decref(root);

    return reason;
}
