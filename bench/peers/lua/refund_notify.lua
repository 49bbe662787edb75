-- Copyright (C) the refund-notify authors
--
-- The same job in Lua, as users of lua-nginx-module write it: one compiled
-- pattern for the XML, lua-cjson, libcrypto by FFI, Redis over a cosocket that is kept, and a
-- subrequest to the business app.

local cjson = require "cjson.safe"
local ffi = require "ffi"

ffi.cdef [[
    typedef struct evp_cipher_st EVP_CIPHER;
    typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
    typedef struct evp_md_st EVP_MD;
    typedef struct evp_md_ctx_st EVP_MD_CTX;
    typedef struct evp_pkey_st EVP_PKEY;
    typedef struct bio_st BIO;

    const EVP_CIPHER *EVP_aes_256_ecb(void);
    const EVP_CIPHER *EVP_aes_256_gcm(void);
    const EVP_MD *EVP_sha256(void);

    EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void);
    int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *ctx, int type, int arg,
                            void *ptr);
    int EVP_DecryptInit_ex(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher,
                           void *engine, const char *key, const char *iv);
    int EVP_DecryptUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl,
                          const char *in, int inl);
    int EVP_DecryptFinal_ex(EVP_CIPHER_CTX *ctx, unsigned char *out,
                            int *outl);

    EVP_MD_CTX *EVP_MD_CTX_new(void);
    int EVP_MD_CTX_reset(EVP_MD_CTX *ctx);
    int EVP_DigestVerifyInit(EVP_MD_CTX *ctx, void **pctx, const EVP_MD *type,
                             void *engine, EVP_PKEY *key);
    int EVP_DigestVerify(EVP_MD_CTX *ctx, const char *signature, size_t len,
                         const char *text, size_t text_len);

    BIO *BIO_new_mem_buf(const void *buf, int len);
    int BIO_free(BIO *bio);
    EVP_PKEY *PEM_read_bio_PUBKEY(BIO *bio, EVP_PKEY **key, void *callback,
                                  void *data);
]]

local C = ffi.C

local GCM_SET_TAG = 0x11
local TAG = 16
local SIZE = 65536

-- as wide as the benchmark prepares its notifies for
local CLOCK_SKEW = 3600

local LEASE = 10 * 1000
local RETAIN = 72 * 3600 * 1000

local TYPE = {
    SUCCESS = "refund.succeeded",
    ABNORMAL = "refund.abnormal",
    CLOSED = "refund.closed",
}

local V2_STATUS = {
    SUCCESS = "SUCCESS",
    CHANGE = "ABNORMAL",
    REFUNDCLOSE = "CLOSED",
}

local V2_ACCOUNT = {
    REFUND_SOURCE_RECHARGE_FUNDS = "AVAILABLE",
    REFUND_SOURCE_UNSETTLED_FUNDS = "UNSETTLED",
}

local FIELD = [=[<(\w+)>(?:<!\[CDATA\[([^\]]*)\]\]>|([^<]*))</\1>]=]

local buffer = ffi.new("unsigned char[?]", SIZE)
local length = ffi.new("int[1]")
local cipher, digest, public_key
local mch_id, serial, v2_key, v3_key, redis_port

local _M = {}


local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end


function _M.init(keys, port)
    local line = function(name)
        return (read(keys .. "/" .. name):gsub("%s+$", ""))
    end

    mch_id, serial, v3_key = line("mch_id"), line("serial"), line("v3.key")
    v2_key = ngx.md5(line("v2.key"))
    redis_port = port

    local pem = read(keys .. "/wechatpay.pem")
    local bio = C.BIO_new_mem_buf(pem, #pem)

    public_key = C.PEM_read_bio_PUBKEY(bio, nil, nil, nil)
    C.BIO_free(bio)

    cipher = C.EVP_CIPHER_CTX_new()
    digest = C.EVP_MD_CTX_new()

    assert(public_key ~= nil and cipher ~= nil and digest ~= nil)
end


local function ecb_decrypt(text)
    if #text + TAG > SIZE
       or C.EVP_DecryptInit_ex(cipher, C.EVP_aes_256_ecb(), nil, v2_key, nil)
          ~= 1
       or C.EVP_DecryptUpdate(cipher, buffer, length, text, #text) ~= 1
    then
        return nil
    end

    local size = length[0]

    if C.EVP_DecryptFinal_ex(cipher, buffer + size, length) ~= 1 then
        return nil
    end

    return ffi.string(buffer, size + length[0])
end


local function gcm_decrypt(text, nonce, aad)
    local size = #text - TAG

    if size < 0 or size + TAG > SIZE or #nonce ~= 12
       or C.EVP_DecryptInit_ex(cipher, C.EVP_aes_256_gcm(), nil, v3_key,
                               nonce) ~= 1
       or C.EVP_DecryptUpdate(cipher, nil, length, aad, #aad) ~= 1
       or C.EVP_DecryptUpdate(cipher, buffer, length, text, size) ~= 1
       or C.EVP_CIPHER_CTX_ctrl(cipher, GCM_SET_TAG, TAG,
                                ffi.cast("char *", text) + size) ~= 1
       or C.EVP_DecryptFinal_ex(cipher, buffer + size, length) ~= 1
    then
        return nil
    end

    return ffi.string(buffer, size)
end


local function verify(text, signature)
    C.EVP_MD_CTX_reset(digest)

    return signature ~= nil
           and C.EVP_DigestVerifyInit(digest, nil, C.EVP_sha256(), nil,
                                      public_key) == 1
           and C.EVP_DigestVerify(digest, signature, #signature, text, #text)
               == 1
end


local function xml(text)
    local fields = {}

    for match in ngx.re.gmatch(text, FIELD, "jo") do
        fields[match[1]] = match[2] or match[3]
    end

    return fields
end


-- nil where it is absent, false where it is no count of fen

local function fen(text)
    return text and #text <= 15 and text:find("^%d+$") ~= nil
           and tonumber(text)
end


local function event(version, status, refund_id, timestamp, data)
    return {
        type = TYPE[status],
        timestamp = timestamp,
        id = "wechatpay:" .. mch_id .. ":" .. refund_id .. ":" .. status,
        provider = "wechatpay",
        api_version = version,
        merchant = "shop",
        data = data,
    }
end


local function from_v2(body)
    local outer = xml(body)

    if outer.return_code ~= "SUCCESS" or not outer.req_info then
        return nil, "malformed", 400
    end

    if outer.mch_id ~= mch_id then
        return nil, "mismatch", 403
    end

    local encrypted = ngx.decode_base64(outer.req_info)
    local plaintext = encrypted and ecb_decrypt(encrypted)

    if not plaintext then
        return nil, "undecryptable", 400
    end

    local root = xml(plaintext)
    local status = V2_STATUS[root.refund_status]

    if not status or not root.refund_id or not root.out_refund_no
       or not root.transaction_id or not root.out_trade_no
    then
        return nil, "malformed", 400
    end

    local amount = {
        total = fen(root.total_fee),
        refund = fen(root.refund_fee),
        settlement_total = fen(root.settlement_total_fee),
        settlement_refund = fen(root.settlement_refund_fee),
    }

    if not amount.total or not amount.refund
       or amount.settlement_total == false
       or amount.settlement_refund == false
    then
        return nil, "malformed", 400
    end

    local time = root.success_time
                 and root.success_time:gsub(" ", "T") .. "+08:00"

    return event("v2", status, root.refund_id, time, {
        mch_id = mch_id,
        app_id = outer.appid,
        transaction_id = root.transaction_id,
        out_trade_no = root.out_trade_no,
        refund_id = root.refund_id,
        out_refund_no = root.out_refund_no,
        status = status,
        success_time = time,
        user_received_account = root.refund_recv_accout,
        funds_account = V2_ACCOUNT[root.refund_account]
                        or root.refund_account,
        request_source = root.refund_request_source,
        amount = amount,
    })
end


local function from_v3(body)
    local headers = ngx.req.get_headers()
    local timestamp = headers["wechatpay-timestamp"]
    local nonce = headers["wechatpay-nonce"]
    local signature = headers["wechatpay-signature"]

    if not timestamp or not nonce or not signature
       or headers["wechatpay-serial"] ~= serial
       or math.abs(ngx.time() - (tonumber(timestamp) or 0)) > CLOCK_SKEW
       or not verify(timestamp .. "\n" .. nonce .. "\n" .. body .. "\n",
                     ngx.decode_base64(signature))
    then
        return nil, "unverified", 401
    end

    local envelope = cjson.decode(body)
    local resource = envelope and envelope.resource
    local encrypted = resource and ngx.decode_base64(resource.ciphertext)

    if not encrypted then
        return nil, "malformed", 400
    end

    local refund = cjson.decode(gcm_decrypt(encrypted, resource.nonce,
                                            resource.associated_data or "")
                                or "")

    if not refund then
        return nil, "undecryptable", 400
    end

    local status = refund.refund_status

    if refund.mchid ~= mch_id or envelope.event_type ~= "REFUND." .. status
    then
        return nil, "mismatch", 403
    end

    if not TYPE[status] or not refund.refund_id or not refund.out_refund_no
       or not refund.transaction_id or not refund.out_trade_no
       or not refund.amount or type(refund.amount.total) ~= "number"
       or type(refund.amount.refund) ~= "number"
    then
        return nil, "malformed", 400
    end

    return event("v3", status, refund.refund_id, envelope.create_time, {
        mch_id = mch_id,
        transaction_id = refund.transaction_id,
        out_trade_no = refund.out_trade_no,
        refund_id = refund.refund_id,
        out_refund_no = refund.out_refund_no,
        status = status,
        success_time = refund.success_time,
        user_received_account = refund.user_received_account,
        amount = refund.amount,
    })
end


local function redis(...)
    local words = { ... }
    local command = { "*" .. #words .. "\r\n" }

    for i = 1, #words do
        local word = tostring(words[i])
        command[i + 1] = "$" .. #word .. "\r\n" .. word .. "\r\n"
    end

    local socket = ngx.socket.tcp()

    socket:settimeout(200)

    if not socket:connect("127.0.0.1", redis_port)
       or not socket:send(command)
    then
        return nil, "store_error"
    end

    local line = socket:receive()

    if not line then
        return nil, "store_error"
    end

    local reply = line:sub(2)

    if line:byte() == 36 then
        local size = tonumber(reply)

        reply = size >= 0 and socket:receive(size + 2) or nil
        reply = reply and reply:sub(1, size) or ngx.null

    elseif line:byte() == 45 then
        return nil, "store_error"
    end

    socket:setkeepalive(60000, 64)

    return reply
end


-- The claim, the delivery and the mark that it was accepted.

local function deliver(refund)
    local key = "lua:" .. refund.id
    local reply = redis("SET", key, "P", "PX", LEASE, "NX")

    if reply == ngx.null then
        reply = redis("GET", key)

        if reply == "D" then
            return true
        end

        return nil, reply and "in_flight" or "store_error", 503
    end

    if reply ~= "OK" then
        return nil, "store_error", 503
    end

    local response = ngx.location.capture("/internal/refunds", {
        method = ngx.HTTP_POST,
        body = cjson.encode(refund),
        vars = { webhook_id = refund.id, webhook_timestamp = ngx.time() },
    })

    if response.truncated or response.status < 200 or response.status > 299
    then
        redis("DEL", key)
        return nil, "upstream_error", 502
    end

    redis("SET", key, "D", "PX", RETAIN)

    return true
end


function _M.handle()
    ngx.req.read_body()

    local body = ngx.req.get_body_data() or ""
    local v2 = body:byte() == 60
    local ok, word, status
    local refund

    if v2 then
        refund, word, status = from_v2(body)

    else
        refund, word, status = from_v3(body)
    end

    if refund then
        ok, word, status = deliver(refund)
    end

    local code = ok and "SUCCESS" or "FAIL"

    word = ok and "OK" or word

    if v2 then
        ngx.header.content_type = "text/xml"
        body = "<xml><return_code><![CDATA[" .. code
               .. "]]></return_code><return_msg><![CDATA[" .. word
               .. "]]></return_msg></xml>"

    else
        ngx.status = ok and 200 or status
        ngx.header.content_type = "application/json"
        body = '{"code":"' .. code .. '","message":"' .. word .. '"}'
    end

    ngx.header.content_length = #body
    ngx.print(body)
end


return _M
