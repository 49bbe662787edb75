"""Takes the events of refund-notify: verifies each, books it once.

WEBHOOK_SECRETS: the signing keys (whsec_...), one or more, on one line or several.
DATABASE: a file of SQLite's.  PORT: of 127.0.0.1.
"""

import base64
import hmac
import json
import os
import re
import sqlite3
import sys
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEYS = [base64.b64decode(secret.removeprefix('whsec_'), validate=True)
        for secret in os.environ.get('WEBHOOK_SECRETS', '').split()]
DATABASE = os.environ.get('DATABASE', 'refunds.db')
LIMIT = 1 << 20


def genuine(headers, body):
    event_id, sent, given = (headers.get(name, '').encode('latin-1') for name in (
        'webhook-id', 'webhook-timestamp', 'webhook-signature'))
    if not (event_id and sent.isdigit() and len(sent) < 20 and abs(time.time() - int(sent)) <= 300):
        return False
    signed = b'.'.join((event_id, sent, body))
    wanted = [b'v1,' + base64.b64encode(hmac.digest(key, signed, 'sha256')) for key in KEYS]
    return any([hmac.compare_digest(one, other) for one in given.split(b' ') for other in wanted])


def connect():
    connection = sqlite3.connect(DATABASE, timeout=3)
    connection.execute('PRAGMA synchronous = EXTRA')  # a commit outlives a power cut
    return closing(connection)


def book(event_id, body):
    data = json.loads(body)['data']
    with connect() as connection, connection:
        new = connection.execute('INSERT INTO event VALUES (?) ON CONFLICT DO NOTHING', (event_id,))
        if new.rowcount:  # in the same transaction as what the event changes
            connection.execute('INSERT INTO booking VALUES (?, ?, ?)', (
                data['out_refund_no'], data['status'], data['amount']['refund']))


class Receiver(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    timeout = 60

    def do_POST(self):
        size = self.headers.get('Content-Length', '')
        if not re.fullmatch('[0-9]{1,9}', size) or int(size) > LIMIT:
            self.close_connection = True
            return self.answer(413 if size.isdigit() else 411)
        body = self.rfile.read(int(size))
        if not genuine(self.headers, body):
            return self.answer(401)
        try:
            book(self.headers['webhook-id'], body)
        except Exception as error:
            self.log_error('not booked: %s', error)
            return self.answer(500)
        self.answer(200)

    def answer(self, status):
        body = b'{"code":"SUCCESS"}' if status == 200 else b'{"code":"FAIL"}'
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if not KEYS:
    sys.exit('no WEBHOOK_SECRETS')
with connect() as connection, connection:
    connection.execute('CREATE TABLE IF NOT EXISTS event (id TEXT PRIMARY KEY)')
    connection.execute('CREATE TABLE IF NOT EXISTS booking (out_refund_no, status, fen)')
ThreadingHTTPServer(('127.0.0.1', int(os.environ.get('PORT', 3000))), Receiver).serve_forever()
