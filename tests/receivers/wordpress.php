<?php
// The few functions of WordPress that docs/receivers/wordpress.php uses, on one JSON file.

declare(strict_types=1);

define('STILLREEL_WEBHOOK_SECRET', getenv('STILLREEL_WEBHOOK_SECRET'));

$actions = [];
$routes = [];

function add_action(string $hook, callable $callback): void
{
    $GLOBALS['actions'][$hook][] = $callback;
}

function register_rest_route(string $space, string $route, array $options): bool
{
    $GLOBALS['routes']["/wp-json/$space$route"] = $options;
    return true;
}

function __return_true(): bool
{
    return true;
}

function get_post(int $id): ?object
{
    return $id === 7 ? (object) ['ID' => 7] : null;
}

function meta_file(): string
{
    return getenv('CLIPS_DIR') . '/meta.json';
}

function all_meta(): array
{
    return file_exists(meta_file()) ? json_decode(file_get_contents(meta_file()), true) : [];
}

function get_post_meta(int $id, string $key, bool $single): mixed
{
    return all_meta()[$id][$key] ?? '';
}

function update_post_meta(int $id, string $key, mixed $value): bool
{
    $meta = all_meta();
    $meta[$id][$key] = $value;
    file_put_contents(getenv('CLIPS_DIR') . '/writes.txt', "$key\n", FILE_APPEND);
    return file_put_contents(meta_file(), json_encode($meta)) !== false;
}

class WP_REST_Request
{
    public function get_body(): string
    {
        return file_get_contents('php://input');
    }

    public function get_header(string $name): ?string
    {
        return $_SERVER['HTTP_' . strtoupper(str_replace('-', '_', $name))] ?? null;
    }
}

class WP_REST_Response
{
    public function __construct(public mixed $data, public int $status)
    {
    }
}

require getenv('SNIPPET');
foreach ($actions['rest_api_init'] as $callback) {
    $callback();
}
$route = $routes[parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)] ?? null;
if ($route === null || $route['methods'] !== $_SERVER['REQUEST_METHOD'] || !$route['permission_callback']()) {
    http_response_code(404);
    exit;
}
$response = $route['callback'](new WP_REST_Request());
http_response_code($response->status);
echo json_encode($response->data);
