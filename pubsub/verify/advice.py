"""Advice for each failure that a proxy causes, with the settings of nginx, HAProxy and Caddy. Texts alone."""

from typing import Final

UPSTREAM: Final = (
    "check the address of the server in the proxy (proxy_pass, server, reverse_proxy), and that the server runs"
)
URL: Final = "check --url: scheme, port and path"
CREDENTIALS_LOST: Final = (
    'the proxy must pass on Authorization and X-API-Key: remove proxy_set_header Authorization "" (nginx), '
    "http-request del-header (HAProxy), header_up -Authorization (Caddy)"
)
PROXY_PASSWORD: Final = "the proxy itself asks for a password: turn that off for this site (auth_basic off)"
ERROR_PAGES: Final = "the proxy must not replace answers: proxy_intercept_errors off (nginx), no errorfile or http-errors (HAProxy), no handle_errors (Caddy)"  # noqa: E501 - one setting for each proxy
ANSWERS_KEPT: Final = "the proxy must not keep answers: proxy_cache off (nginx), no http-request cache-use (HAProxy)"
CODING: Final = "the proxy must compress only what the client accepts: gzip off (nginx), no filter compression (HAProxy), no encode (Caddy)"  # noqa: E501
BODY_LIMIT: Final = "allow bodies of MAX_MESSAGE_BYTES: client_max_body_size 1m (nginx), request_body max_size (Caddy)"
UPGRADE: Final = "pass on the upgrade: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade (nginx); the path /ws must not be changed"  # noqa: E501
HTTP_1_0: Final = "speak HTTP/1.1 to the server: proxy_http_version 1.1 (nginx)"
ORIGIN: Final = (
    "pass on the host as the browser sent it: proxy_set_header Host $http_host (nginx); if the proxy ends TLS, also "
    "X-Forwarded-Proto, with the proxy in TRUSTED_PROXIES; or list the origin in ALLOWED_ORIGINS"
)
IDLE: Final = "the limit for idle connections must be above PING_PERIOD_SEC: proxy_read_timeout 75s and proxy_send_timeout 75s (nginx), timeout tunnel, client and server 75s (HAProxy)"  # noqa: E501
BUFFERED: Final = (
    "the proxy must pass on each event at once: proxy_buffering off, no proxy_ignore_headers X-Accel-Buffering, no "
    "gzip for text/event-stream (nginx), flush_interval -1 (Caddy), no filter compression (HAProxy)"
)
LAST_EVENT_ID: Final = "the proxy must pass on the header Last-Event-ID"
CLOSE_FRAMES: Final = "the proxy must pass on WebSocket frames unchanged, close frames too"
FRAMES: Final = "the proxy must pass on WebSocket frames unchanged, and any number of bytes"
SPREAD: Final = (
    "the proxy spreads clients over servers that do not share topics: use one server, or give all of them the same "
    "JOURNAL_URL"
)
LEFT: Final = "the proxy must close its connection to the server when the client has left"
