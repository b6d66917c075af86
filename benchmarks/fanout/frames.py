"""What a WebSocket client says, as bytes (RFC 6455)."""

from __future__ import annotations

import base64
import os

TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
"""First bytes of whole frames that are not compressed."""

_SHORT, _MEDIUM = 126, 1 << 16


def upgrade(port: int, path: str, cookie: str) -> bytes:
    """Return the request that a browser opens a socket with; like one it offers to have frames deflated."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        f"Origin: http://127.0.0.1:{port}",
    ]
    if cookie:
        lines.append(f"Cookie: {cookie}")
    return "\r\n".join([*lines, "", ""]).encode()


def client_frame(first_byte: int, payload: bytes) -> bytes:
    """Return a frame as clients must send it: masked, here with a mask of zeros."""
    length = len(payload)
    if length < _SHORT:
        head = bytes((first_byte, 0x80 | length))
    elif length < _MEDIUM:
        head = bytes((first_byte, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first_byte, 0x80 | 127)) + length.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload
