"""Keys and tokens for tests, good ones and bad ones."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt

SECRET = "a secret of more than thirty-two bytes"
API_KEYS = "ops:admin:ops-key,shop:publish:shop-key,board:read:board-key"
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def claims(sub: str = "alice", **chosen: Any) -> dict[str, Any]:
    """Return the claims of a good token; the value None removes a claim."""
    found = {"sub": sub, "exp": int(time.time()) + 36_000, **chosen}
    return {name: value for name, value in found.items() if value is not None}


def make_token(sub: str = "alice", *, subscribe: object = (), publish: object = (), **chosen: Any) -> str:
    """Return a token with these permissions, signed with SECRET."""
    rights = {"subscribe": subscribe, "publish": publish, "admin": chosen.pop("admin", False)}
    if "filters" in chosen:
        rights["filters"] = chosen.pop("filters")
    return jwt.encode(claims(sub, **{"pubsub": rights} | chosen), SECRET, "HS256")


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def part(content: object) -> str:
    """Encode one of the three parts of a token, from JSON or bytes."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
