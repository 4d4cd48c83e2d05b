"""Bytes across JSON: ``{"$b64": "…"}`` stands for bytes. In one process nothing of this is needed."""

import base64
from typing import Any

TAG = "$b64"


def to_wire(value: Any) -> Any:
    """The same value with every `bytes` in it replaced by ``{"$b64": text}``, so that JSON can carry it."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {TAG: base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, dict):
        return {str(key): to_wire(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_wire(item) for item in value]
    return value


def from_wire(value: Any) -> Any:
    """The inverse of `to_wire`. Raises ValueError for base64 that is none."""
    if isinstance(value, dict):
        if len(value) == 1 and isinstance(value.get(TAG), str):
            return base64.b64decode(value[TAG], validate=True)
        return {key: from_wire(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_wire(item) for item in value]
    return value


def as_bytes(value: Any) -> bytes:
    """A parameter that means bytes: bytes, base64 text (parameters are JSON), or None for nothing."""
    if value is None:
        return b""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, dict):
        return as_bytes(value.get(TAG, ""))
    return base64.b64decode(str(value), validate=True)
