<?php

// Takes the events of refund-notify: verifies each, books it once.
//
// WEBHOOK_SECRETS: the signing keys (whsec_...), one or more, on one line or several.
// DATABASE: sqlite:/var/lib/shop/refunds.db, a file that no web server serves.

declare(strict_types=1);

function genuine(string $id, string $sent, string $given, string $body): bool
{
    if ($id === '' || !ctype_digit($sent) || abs(time() - (int) $sent) > 300) {
        return false;
    }
    $found = false;
    $secrets = trim(getenv('WEBHOOK_SECRETS') ?: throw new RuntimeException('no WEBHOOK_SECRETS'));
    foreach (preg_split('/\s+/', $secrets) as $secret) {
        $key = base64_decode(preg_replace('/^whsec_/', '', $secret), true);
        if ($key === false || $key === '') {
            throw new RuntimeException('a key is no base64');
        }
        $wanted = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$sent.$body", $key, true));
        foreach (explode(' ', $given) as $one) {
            $found = hash_equals($wanted, $one) || $found;
        }
    }
    return $found;
}

function book(string $id, string $body): void
{
    $data = json_decode($body, false, 64, JSON_THROW_ON_ERROR)->data;
    $name = (string) getenv('DATABASE');
    if (!str_starts_with($name, 'sqlite:/')) { // a relative one could be among what is served
        throw new RuntimeException('DATABASE is not sqlite:/...');
    }
    $database = new PDO($name);
    $database->exec('PRAGMA synchronous = EXTRA'); // a commit outlives a power cut
    $database->exec('CREATE TABLE IF NOT EXISTS event (id TEXT PRIMARY KEY)');
    $database->exec('CREATE TABLE IF NOT EXISTS booking (out_refund_no, status, fen)');
    $database->beginTransaction();
    $event = $database->prepare('INSERT INTO event VALUES (?) ON CONFLICT DO NOTHING');
    $event->execute([$id]);
    if ($event->rowCount()) { // in the same transaction as what the event changes
        $database->prepare('INSERT INTO booking VALUES (?, ?, ?)')
            ->execute([$data->out_refund_no, $data->status, $data->amount->refund]);
    }
    $database->commit();
}

try {
    $status = 401;
    $body = file_get_contents('php://input');
    if (genuine($_SERVER['HTTP_WEBHOOK_ID'] ?? '', $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '',
        $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '', $body)) {
        book($_SERVER['HTTP_WEBHOOK_ID'], $body);
        $status = 200;
    }
} catch (Throwable $error) {
    error_log("not booked: $error");
    $status = 500;
}
http_response_code($status);
header('Content-Type: application/json');
echo json_encode(['code' => $status === 200 ? 'SUCCESS' : 'FAIL']);
