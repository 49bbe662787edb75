// Takes the events of refund-notify: verifies each, books it once.
//
// WEBHOOK_SECRETS: the signing keys (whsec_...), one or more, on one line or several.
// EVENTS: a directory, where each event becomes a file.  PORT: of 127.0.0.1.

import { randomUUID } from 'node:crypto';
import { link, mkdir, open, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { Webhook } from 'standardwebhooks';

const { WEBHOOK_SECRETS = '', EVENTS = 'events', PORT = 3000 } = process.env;
const keys = WEBHOOK_SECRETS.split(/\s+/).filter(Boolean).map((secret) => new Webhook(secret));
const LIMIT = 1 << 20;

function genuine(body, headers) {
    return keys.some((key) => {
        try {
            return key.verify(body, headers); // the library checks the time too
        } catch {
            return false; // perhaps another key's
        }
    });
}

// The file's name is the unique key: link() makes it whole, or says that it is there.  With a
// database it is an INSERT of the id, in one transaction with the booking.
async function book(id, body) {
    const written = `${EVENTS}/.${randomUUID()}`;
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
    await directory.sync(); // or a power cut takes the name: the one just made by another, too
}

async function answer(request) {
    if (request.method !== 'POST') return 405;
    if (!(request.headers['content-length'] <= LIMIT)) return 413;
    const body = await buffer(request);
    if (!genuine(body, request.headers)) return 401;
    await book(request.headers['webhook-id'], body);
    return 200;
}

if (!keys.length) throw new Error('no WEBHOOK_SECRETS');
await mkdir(EVENTS, { recursive: true });
const directory = await open(EVENTS);
createServer(async (request, response) => {
    const status = await answer(request).catch((error) => (console.error(error), 500));
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ code: status === 200 ? 'SUCCESS' : 'FAIL' }));
}).listen(PORT, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${PORT}`));
