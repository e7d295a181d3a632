"""Stacks in files, read and written one frame at a time."""

from lowdose.io.reader import StackReader
from lowdose.io.stack import (
    READABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    create_like,
    create_stack,
    open_stack,
    output_layout,
    read_provenance,
)
from lowdose.io.writer import StackWriter

__all__ = [
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "StackReader",
    "StackWriter",
    "create_like",
    "create_stack",
    "open_stack",
    "output_layout",
    "read_provenance",
]
