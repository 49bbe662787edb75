
/*
 * Copyright (C) the refund-notify authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include <arpa/inet.h>

#include "ngx_refund_redis_numeric.h"


ngx_uint_t
ngx_refund_redis_numeric(const ngx_str_t *host)
{
    char    text[INET6_ADDRSTRLEN];
    u_char  address[16];

    if (host->len >= sizeof(text)) {
        return 0;
    }

    ngx_memcpy(text, host->data, host->len);
    text[host->len] = '\0';

    return inet_pton(AF_INET, text, address) == 1
           || inet_pton(AF_INET6, text, address) == 1;
}
