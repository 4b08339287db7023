<?php
// Receive webhooks in plain PHP, on any host, or at http://127.0.0.1:8000/ by:
//     STILLREEL_WEBHOOK_SECRET=whsec_... php -S 127.0.0.1:8000 plain.php

declare(strict_types=1);

const TOLERANCE_SECONDS = 300;

// The raw bytes are signed: JSON that was decoded and encoded again is other bytes.
$body = file_get_contents('php://input');
$id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';

if (!verifies($id, $body, getenv('STILLREEL_WEBHOOK_SECRET'))) {
    http_response_code(401);
    exit('the signature does not verify');
}
take(json_decode($body, true), $id, getenv('CLIPS_DIR') ?: 'clips');
http_response_code(204);

function verifies(string $id, string $body, string $secret): bool
{
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if ($id === '' || abs(time() - (int) $timestamp) > TOLERANCE_SECONDS) {
        return false;
    }
    $key = base64_decode(substr($secret, strlen('whsec_')));
    $digest = hash_hmac('sha256', "$id.$timestamp.$body", $key, true);
    // During a rotation there are two signatures, one by each secret.
    foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $signature) {
        if (hash_equals('v1,' . base64_encode($digest), $signature)) {
            return true;
        }
    }
    return false;
}

function take(array $event, string $id, string $clips): void
{
    if (!is_dir($clips)) {
        @mkdir($clips); // Another delivery may have made it meanwhile.
    }
    $one_at_a_time = fopen("$clips/lock", 'c');
    flock($one_at_a_time, LOCK_EX);
    if (file_exists("$clips/$id.seen") || !str_starts_with($event['type'], 'job.')) {
        return;
    }
    $job = $event['data'];
    $known = "$clips/{$job['id']}.json";
    // Deliveries may overtake each other: the higher version is the newer state.
    if (!file_exists($known)
        || json_decode(file_get_contents($known), true)['version'] < $job['version']) {
        file_put_contents($known, json_encode($job));
        if ($job['status'] === 'succeeded') {
            publish($job, $clips);
        }
    }
    touch("$clips/$id.seen");
}

// Do here what your site does with a finished clip. Download it: the link ends after a day.
function publish(array $job, string $clips): void
{
    $line = "{$job['id']} {$job['output']['video']['url']}\n";
    file_put_contents("$clips/published.txt", $line, FILE_APPEND);
}
