"""WebP files that are shorter than they say, though their pixels are all there.

What is cut off then is a note behind the image, or the byte that makes its length even.
"""

from typing import Final

MAX_CHUNKS: Final = 4096
_HEAD: Final = 12
_PIXELS: Final = frozenset({b"VP8 ", b"VP8L"})


def with_whole_chunks(body: bytes) -> bytes:
    """Return a WebP of the chunks that are whole, if the image's is; else as it was."""
    if int.from_bytes(body[4:8], "little") + 8 <= len(body):
        return body
    kept, at, has_pixels = [], _HEAD, False
    for _ in range(MAX_CHUNKS):
        size = int.from_bytes(body[at + 4 : at + 8], "little")
        end = at + 8 + size
        if at + 8 > len(body) or end > len(body):
            break
        kept.append(body[at:end] + bytes(size % 2))
        has_pixels |= body[at : at + 4] in _PIXELS
        at = end + size % 2
    if not has_pixels:
        return body
    chunks = b"".join(kept)
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks
