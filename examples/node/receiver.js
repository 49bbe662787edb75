// Takes the events of refund-notify: verifies each, books it once.
//
// WEBHOOK_SECRETS: the signing keys (whsec_...), separated by spaces.
// EVENTS: a directory, where each event becomes a file.  PORT: of 127.0.0.1.

import { link, mkdir, open, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { Webhook } from 'standardwebhooks';

const { WEBHOOK_SECRETS = '', EVENTS = 'events', PORT = 3000 } = process.env;
const keys = WEBHOOK_SECRETS.split(' ').filter(Boolean).map((secret) => new Webhook(secret));
const LIMIT = 1 << 20;
let writes = 0;

function verify(body, headers) {
    for (const key of keys) {
        try {
            return key.verify(body, headers); // the library checks the time too
        } catch { /* perhaps another key's */ }
    }
    return null;
}

// The file's name is the unique key: link() makes it whole, or says that it is there.  With a
// database it is an INSERT of the id, in one transaction with the booking.
async function book(id, body) {
    const written = `${EVENTS}/.${process.pid}-${++writes}`;
    const file = await open(written, 'wx');
    try {
        await file.writeFile(body);
        await file.sync();
        await link(written, `${EVENTS}/${encodeURIComponent(id)}`);
    } catch (error) {
        if (error.code !== 'EEXIST') throw error;
    } finally {
        await file.close();
        await rm(written);
    }
}

async function answer(request) {
    if (request.method !== 'POST') return 405;
    const pieces = [];
    let size = 0;
    for await (const piece of request) {
        if ((size += piece.length) > LIMIT) return 413;
        pieces.push(piece);
    }
    const body = Buffer.concat(pieces);
    const event = verify(body, request.headers);
    if (!event) return 401;
    await book(request.headers['webhook-id'], body);
    return 200;
}

if (!keys.length) throw new Error('no WEBHOOK_SECRETS');
await mkdir(EVENTS, { recursive: true });
createServer(async (request, response) => {
    const status = await answer(request).catch((error) => (console.error(error), 500));
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ code: status === 200 ? 'SUCCESS' : 'FAIL' }));
}).listen(PORT, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${PORT}`));
