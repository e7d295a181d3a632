"""Where the C library that comes with lowdose lies: its headers, the shared library, the CMake package."""

from __future__ import annotations

import sys
from pathlib import Path

from lowdose.errors import LowdoseError

_FOLDER = Path(__file__).parent
_LIBRARIES = {"win32": "bin/lowdose.dll", "darwin": "lib/liblowdose.dylib"}


def get_include() -> str:
    """Folder of `lowdose.h` and `lowdose.hpp`. Raises LowdoseError where lowdose runs from its sources."""
    return _installed("include")


def get_library() -> str:
    """Path of the shared library. Raises LowdoseError where lowdose runs from its sources."""
    return _installed(_LIBRARIES.get(sys.platform, "lib/liblowdose.so"))


def get_cmake_dir() -> str:
    """Folder for CMake's `lowdose_DIR`. Raises LowdoseError where lowdose runs from its sources."""
    return _installed("lib/cmake/lowdose")


def _installed(name: str) -> str:
    path = _FOLDER / name
    if not path.exists():
        raise LowdoseError(f"no C library at {path}: install lowdose, or build it with cmake -S cpp -B build")
    return str(path)
