"""Sources by the scheme of their address: `merlin://HOST`, `watch:FOLDER` and so on."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from lowdose.errors import LowdoseError
from lowdose.live.frame import Source, SourceOptions

OpenSource = Callable[[str, SourceOptions], Source]

# Modules are loaded when they are asked for: some need the extra [live].
_BUILT_IN = {
    "replay": "replay:ReplaySource",
    "raw": "raw:RawPipe",
    "tcp": "raw:RawSocket",
    "watch": "watch:WatchSource",
    "merlin": "merlin:MerlinSource",
    "dectris": "dectris:DectrisSource",
}
_registered: dict[str, OpenSource] = {}


def register_source(scheme: str, open_source: OpenSource) -> None:
    """Make `lowdose live SCHEME://ADDRESS` call open_source(ADDRESS, options); a class derived from Source will do.

    Raises LowdoseError for a scheme that lowdose has already or that no address can begin with.
    """
    if scheme in _BUILT_IN or not (scheme.isalnum() and scheme.islower() and len(scheme) > 1):
        raise LowdoseError(f"a source cannot be called '{scheme}': give a new word of small letters and digits")
    _registered[scheme] = open_source


def open_source(address: str, options: SourceOptions | None = None) -> Source:
    """The source that `address` names, SCHEME:REST or SCHEME://REST.

    Raises LowdoseError for an unknown scheme, for what the source itself refuses and where its extra is missing.
    """
    scheme, colon, rest = address.partition(":")
    known = {**_BUILT_IN, **_registered}
    if not colon or scheme not in known:
        raise LowdoseError(f"source '{address}': expected one of {', '.join(f'{name}:' for name in known)}")
    rest = rest.removeprefix("//")
    if scheme in _registered:
        return _registered[scheme](rest, options or SourceOptions())
    module, _, name = _BUILT_IN[scheme].partition(":")
    try:
        opener: OpenSource = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except ModuleNotFoundError as error:
        raise LowdoseError(
            f"'{scheme}:' needs the package {error.name}, which is not installed: pip install 'lowdose[live]'"
        ) from error
    return opener(rest, options or SourceOptions())
