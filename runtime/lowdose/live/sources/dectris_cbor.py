"""Messages of DECTRIS' stream 2: CBOR maps with typed arrays (RFC 8746), compressed or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cbor2
import numpy as np
from dectris.compression import decompress

from lowdose.errors import LowdoseError
from lowdose.source import Frame

_MULTI_DIMENSIONAL, _COMPRESSED = 40, 56500
_TYPED_ARRAYS = {
    64: "u1", 65: ">u2", 66: ">u4", 67: ">u8", 69: "<u2", 70: "<u4", 71: "<u8",
    72: "i1", 73: ">i2", 74: ">i4", 77: "<i2", 78: "<i4", 81: ">f4", 82: ">f8", 85: "<f4", 86: "<f8",
}  # fmt: skip


@dataclass(frozen=True)
class Image:
    """An image of a series with its number in it, from 0, and the detector's time."""

    series: object
    number: int
    time: str
    pixels: Frame


def decode_message(data: bytes, channel: int) -> Image | None:
    """The image in a message, of the threshold `channel` in the order of their names; None for start and end.

    Raises LowdoseError for what is no such message.
    """
    try:
        told = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, TypeError, EOFError, RecursionError) as error:
        raise LowdoseError(f"a message that is neither JSON nor CBOR: {bytes(data[:20])!r} ({error})") from error
    kind = told.get("type") if isinstance(told, Mapping) else None
    if kind in ("start", "end"):
        return None
    if kind != "image":
        raise LowdoseError(f"a message of the unknown kind {kind!r}")
    try:
        series, number, planes = told["series_id"], int(told["image_id"]), told["data"]
        names = sorted(planes)
        array = planes[names[channel]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise LowdoseError(f"an image without series_id, image_id or data of channel {channel} ({error!r})") from error
    return Image(series, number, clock_text(told.get("start_time")), typed_array(array))


def clock_text(value: Any) -> str:
    """A time as [ticks, ticks per second], in seconds as text; "" for none."""
    try:
        ticks, per_second = (int(number) for number in value)
        return f"{ticks / per_second:.9f}"
    except (TypeError, ValueError, ZeroDivisionError):
        return ""


def typed_array(array: Any) -> Frame:
    """Pixels (height, width), native, from a multi-dimensional typed array, compressed or not."""
    try:
        if array.tag != _MULTI_DIMENSIONAL:
            raise LowdoseError(f"pixels under the tag {array.tag}, expected {_MULTI_DIMENSIONAL}")
        (height, width), typed = array.value
        dtype = np.dtype(_TYPED_ARRAYS[typed.tag])
        data = typed.value
        if isinstance(data, cbor2.CBORTag) and data.tag == _COMPRESSED:
            algorithm, element_bytes, packed = data.value
            data = decompress(packed, algorithm, elem_size=element_bytes)
        pixels: Frame = np.frombuffer(data, dtype).reshape(int(height), int(width))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise LowdoseError(f"pixels that cannot be unpacked ({error!r})") from error
    return pixels.astype(dtype.newbyteorder("="), copy=False)
