<?php
/**
 * Plugin Name: Stillreel receiver
 * Description: Keeps the clip that was made of a post's image with the post.
 *
 * Put this file into wp-content/plugins, and into wp-config.php:
 *     define('STILLREEL_WEBHOOK_SECRET', 'whsec_...');
 * The URL to register is https://your-site/wp-json/stillreel/v1/webhook. Create jobs with
 * metadata[post_id], which comes back in every delivery.
 */

add_action('rest_api_init', function () {
    register_rest_route('stillreel/v1', '/webhook', [
        'methods' => 'POST',
        'callback' => 'stillreel_receive',
        'permission_callback' => '__return_true', // The signature is the permission.
    ]);
});

function stillreel_receive(WP_REST_Request $request): WP_REST_Response
{
    if (!stillreel_verifies($request, STILLREEL_WEBHOOK_SECRET)) {
        return new WP_REST_Response('the signature does not verify', 401);
    }
    $event = json_decode($request->get_body(), true);
    $job = $event['data'];
    $post_id = (int) ($job['metadata']['post_id'] ?? 0);
    if (str_starts_with($event['type'], 'job.') && get_post($post_id)) {
        stillreel_keep($job, $post_id);
    }
    return new WP_REST_Response(null, 204);
}

function stillreel_verifies(WP_REST_Request $request, string $secret): bool
{
    $id = (string) $request->get_header('webhook-id');
    $timestamp = (string) $request->get_header('webhook-timestamp');
    if ($id === '' || abs(time() - (int) $timestamp) > 300) {
        return false;
    }
    $key = base64_decode(substr($secret, strlen('whsec_')));
    $digest = hash_hmac('sha256', "$id.$timestamp." . $request->get_body(), $key, true);
    // During a rotation there are two signatures, one by each secret.
    foreach (explode(' ', (string) $request->get_header('webhook-signature')) as $signature) {
        if (hash_equals('v1,' . base64_encode($digest), $signature)) {
            return true;
        }
    }
    return false;
}

function stillreel_keep(array $job, int $post_id): void
{
    // One clip per post: an older state of its job, or the same delivery again, changes nothing.
    $known = get_post_meta($post_id, '_stillreel_job', true) ?: ['id' => '', 'version' => 0];
    if ($known['id'] === $job['id'] && $known['version'] >= $job['version']) {
        return;
    }
    $state = ['id' => $job['id'], 'version' => $job['version'], 'status' => $job['status']];
    update_post_meta($post_id, '_stillreel_job', $state);
    if ($job['status'] === 'succeeded') {
        // The link ends after a day: have your site download the clip.
        update_post_meta($post_id, '_stillreel_video', $job['output']['video']['url']);
    }
}
