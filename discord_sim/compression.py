"""Transport compression of the gateway: one stream per connection, flushed after every payload."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable

# Lowest levels: on loopback bytes are cheap and the processor is not.
_ZLIB_LEVEL = 1
_ZSTD_LEVEL = 1


def compressor(name: str | None) -> Callable[[bytes], bytes] | None:
    """Return a function that compresses one payload after the other, or None for plain text.

    Raises ValueError for a compression the gateway does not speak.
    """
    match name:
        case None | "":
            return None
        case "zlib-stream":
            deflate = zlib.compressobj(_ZLIB_LEVEL)
            return lambda data: deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
        case "zstd-stream":
            frames = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
            return lambda data: frames.compress(data) + frames.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        case _:
            raise ValueError(f"The gateway compresses with zlib-stream or zstd-stream, not with {name!r}.")
