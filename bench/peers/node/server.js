/*
 * Copyright (C) the refund-notify authors
 *
 * The same job in Node.js, as its users write it: Fastify, ioredis, undici,
 * fast-xml-parser, and the community's SDK for the cryptography.
 *
 *     node server.js port redis-port business-port keys
 */

import { readFileSync } from 'node:fs';

import Fastify from 'fastify';
import Redis from 'ioredis';
import { Pool } from 'undici';
import { XMLParser } from 'fast-xml-parser';
import wechatpay from 'wechatpay-axios-plugin';

const { Aes, Formatter, Hash, Rsa } = wechatpay;

const [port, redisPort, businessPort, keys] = process.argv.slice(2);

const read = (name) => readFileSync(`${keys}/${name}`, 'utf8').trim();

const mchId = read('mch_id');
const serial = read('serial');
const v2Key = Hash.md5(read('v2.key'));
const v3Key = read('v3.key');
const publicKey = Rsa.from(readFileSync(`${keys}/wechatpay.pem`),
                           Rsa.KEY_TYPE_PUBLIC);

/* as wide as the benchmark prepares its notifies for */
const CLOCK_SKEW = 3600;

const LEASE = 10 * 1000;
const RETAIN = 72 * 3600 * 1000;

const redis = new Redis({ port: redisPort, enableAutoPipelining: true });
const business = new Pool(`http://127.0.0.1:${businessPort}`,
                          { connections: 32 });
const xml = new XMLParser({ parseTagValue: false, processEntities: false });

const TYPE = {
  SUCCESS: 'refund.succeeded',
  ABNORMAL: 'refund.abnormal',
  CLOSED: 'refund.closed',
};

const V2_STATUS = {
  SUCCESS: 'SUCCESS',
  CHANGE: 'ABNORMAL',
  REFUNDCLOSE: 'CLOSED',
};

const V2_ACCOUNT = {
  REFUND_SOURCE_RECHARGE_FUNDS: 'AVAILABLE',
  REFUND_SOURCE_UNSETTLED_FUNDS: 'UNSETTLED',
};

class Refused extends Error {
  constructor(word, status) {
    super(word);
    this.status = status;
  }
}

const fen = (text) => {
  if (text === undefined) {
    return undefined;
  }

  if (!/^(0|[1-9][0-9]{0,15})$/.test(text)) {
    throw new Refused('malformed', 400);
  }

  return Number(text);
};

const event = (version, status, refundId, timestamp, data) => ({
  type: TYPE[status],
  timestamp,
  id: `wechatpay:${mchId}:${refundId}:${status}`,
  provider: 'wechatpay',
  api_version: version,
  merchant: 'shop',
  data,
});

const fromV2 = (body) => {
  const outer = xml.parse(body).xml;

  if (outer?.return_code !== 'SUCCESS' || !outer.req_info) {
    throw new Refused('malformed', 400);
  }

  if (outer.mch_id !== mchId) {
    throw new Refused('mismatch', 403);
  }

  let root;

  try {
    ({ root } = xml.parse(Aes.AesEcb.decrypt(outer.req_info, v2Key)));
  } catch {
    throw new Refused('undecryptable', 400);
  }

  const status = V2_STATUS[root?.refund_status];

  if (!status || !root.refund_id || !root.out_refund_no
      || !root.transaction_id || !root.out_trade_no || !root.total_fee
      || !root.refund_fee) {
    throw new Refused('malformed', 400);
  }

  const successTime = root.success_time
                      && `${root.success_time.replace(' ', 'T')}+08:00`;

  return event('v2', status, root.refund_id, successTime, {
    mch_id: mchId,
    app_id: outer.appid,
    transaction_id: root.transaction_id,
    out_trade_no: root.out_trade_no,
    refund_id: root.refund_id,
    out_refund_no: root.out_refund_no,
    status,
    success_time: successTime,
    user_received_account: root.refund_recv_accout,
    funds_account: V2_ACCOUNT[root.refund_account] ?? root.refund_account,
    request_source: root.refund_request_source,
    amount: {
      total: fen(root.total_fee),
      refund: fen(root.refund_fee),
      settlement_total: fen(root.settlement_total_fee),
      settlement_refund: fen(root.settlement_refund_fee),
    },
  });
};

const fromV3 = (headers, body) => {
  const timestamp = Number(headers['wechatpay-timestamp']);

  if (headers['wechatpay-serial'] !== serial
      || !(Math.abs(Date.now() / 1000 - timestamp) <= CLOCK_SKEW)
      || !Rsa.verify(Formatter.response(headers['wechatpay-timestamp'],
                                        headers['wechatpay-nonce'], body),
                     headers['wechatpay-signature'], publicKey)) {
    throw new Refused('unverified', 401);
  }

  const envelope = JSON.parse(body);
  const { resource } = envelope;
  let refund;

  try {
    refund = JSON.parse(Aes.AesGcm.decrypt(resource.ciphertext, v3Key,
                                           resource.nonce,
                                           resource.associated_data));
  } catch {
    throw new Refused('undecryptable', 400);
  }

  const status = refund.refund_status;

  if (refund.mchid !== mchId || envelope.event_type !== `REFUND.${status}`) {
    throw new Refused('mismatch', 403);
  }

  if (!TYPE[status] || !refund.refund_id || !refund.out_refund_no
      || !refund.transaction_id || !refund.out_trade_no
      || !Number.isInteger(refund.amount?.total)
      || !Number.isInteger(refund.amount?.refund)) {
    throw new Refused('malformed', 400);
  }

  return event('v3', status, refund.refund_id, envelope.create_time, {
    mch_id: mchId,
    transaction_id: refund.transaction_id,
    out_trade_no: refund.out_trade_no,
    refund_id: refund.refund_id,
    out_refund_no: refund.out_refund_no,
    status,
    success_time: refund.success_time,
    user_received_account: refund.user_received_account,
    amount: refund.amount,
  });
};

/* The claim, the delivery and the mark that it was accepted. */

const deliver = async (refund) => {
  const key = `node:${refund.id}`;

  if (await redis.set(key, 'P', 'PX', LEASE, 'NX') !== 'OK') {
    if (await redis.get(key) === 'D') {
      return;
    }

    throw new Refused('in_flight', 503);
  }

  const response = await business.request({
    path: '/refunds',
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'webhook-id': refund.id,
      'webhook-timestamp': String(Math.floor(Date.now() / 1000)),
    },
    body: JSON.stringify(refund),
  });

  await response.body.dump();

  if (response.statusCode < 200 || response.statusCode > 299) {
    await redis.del(key);
    throw new Refused('upstream_error', 502);
  }

  await redis.set(key, 'D', 'PX', RETAIN);
};

const app = Fastify({ logger: false, bodyLimit: 65536 });

app.removeAllContentTypeParsers();
app.addContentTypeParser('*', { parseAs: 'string' },
                         (request, body, done) => done(null, body));

app.post('/wechatpay/refund-notify', async (request, reply) => {
  const v2 = request.body.startsWith('<');
  let code = 'SUCCESS';
  let message = 'OK';
  let status = 200;

  try {
    await deliver(v2 ? fromV2(request.body)
                     : fromV3(request.headers, request.body));
  } catch (error) {
    code = 'FAIL';
    message = error instanceof Refused ? error.message : 'store_error';
    status = v2 ? 200 : error.status ?? 503;
  }

  reply.code(status);

  if (v2) {
    reply.type('text/xml');
    return `<xml><return_code><![CDATA[${code}]]></return_code>`
           + `<return_msg><![CDATA[${message}]]></return_msg></xml>`;
  }

  return { code, message };
});

await app.listen({ port: Number(port), host: '127.0.0.1' });
