"""The weights inside the bytes of a model file, read and replaced without the package onnx.

Only what is needed of protobuf and of onnx.proto: a message is a row of fields, each a key (number << 3 | type), for
type 2 a length, and its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from lowdose.errors import LowdoseError

VARINT, WITH_LENGTH = 0, 2
MODEL_GRAPH, GRAPH_INITIALIZER = 7, 5
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
FLOAT = 1

Weights = dict[str, NDArray[np.float32]]


def read_weights(model: bytes) -> Weights:
    """The float32 weights of a model file by name. Raises LowdoseError for bytes that are no whole model file."""
    weights: Weights = {}
    for field, graph in fields(model):
        if field == MODEL_GRAPH and isinstance(graph, bytes):
            for inner, tensor in fields(graph):
                if inner == GRAPH_INITIALIZER and isinstance(tensor, bytes):
                    weights |= read_tensor(tensor)
    return weights


def with_weights(model: bytes, replaced: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The model file with other weights of these names; they may have another shape where the graph takes any.

    Raises LowdoseError for a name that is not there.
    """
    missing = sorted(set(replaced) - set(read_weights(model)))
    if missing:
        raise LowdoseError(f"the model file holds no weights {', '.join(missing)}")
    result = bytearray()
    for field, content in fields(model):
        if field == MODEL_GRAPH and isinstance(content, bytes):
            content = graph_with(content, replaced)
        result += written(field, content)
    return bytes(result)


def graph_with(graph: bytes, replaced: Mapping[str, NDArray[np.float32]]) -> bytes:
    result = bytearray()
    for field, content in fields(graph):
        if field == GRAPH_INITIALIZER and isinstance(content, bytes):
            (name,) = (text for number, text in fields(content) if number == TENSOR_NAME and isinstance(text, bytes))
            if name.decode() in replaced:
                content = written_tensor(name, replaced[name.decode()])
        result += written(field, content)
    return bytes(result)


def read_tensor(tensor: bytes) -> Weights:
    """One weight by its name; nothing where it is not float32."""
    shape: list[int] = []
    values: dict[int, int | bytes] = {TENSOR_RAW: b""}
    for field, content in fields(tensor):
        if field == TENSOR_DIMS:
            shape += [content] if isinstance(content, int) else list(varints(content))
        else:
            values[field] = content
    name, raw = values[TENSOR_NAME], values[TENSOR_RAW]
    if values.get(TENSOR_TYPE) != FLOAT or not isinstance(name, bytes) or not isinstance(raw, bytes) or not raw:
        return {}
    return {name.decode(): np.frombuffer(raw, "<f4").astype(np.float32).reshape(shape)}


def written_tensor(name: bytes, values: NDArray[np.float32]) -> bytes:
    parts = [written(TENSOR_DIMS, side) for side in values.shape]
    parts += [written(TENSOR_TYPE, FLOAT), written(TENSOR_NAME, name)]
    return b"".join(parts) + written(TENSOR_RAW, np.ascontiguousarray(values, "<f4").tobytes())


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field, an int or bytes; onnx.proto has none of fixed length where this is used."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, at = varint(message, at)
        if key & 7 == VARINT:
            yield key >> 3, number
            continue
        if key & 7 != WITH_LENGTH or at + number > len(message):
            raise LowdoseError("the model file is damaged or cut short")
        yield key >> 3, message[at : at + number]
        at += number


def varints(packed: bytes) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = varint(packed, at)
        yield value


def varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise LowdoseError("the model file is damaged or cut short")


def written(field: int, content: int | bytes) -> bytes:
    if isinstance(content, int):
        return as_varint(field << 3 | VARINT) + as_varint(content)
    return as_varint(field << 3 | WITH_LENGTH) + as_varint(len(content)) + content


def as_varint(value: int) -> bytes:
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)
