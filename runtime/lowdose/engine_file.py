"""Engine files: a built network with the key that says what it was built from, by what, and for which GPUs.

A file is 8 bytes of MAGIC, the length of the header (8 bytes, little-endian), the header (JSON) and the plan.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lowdose.errors import LowdoseError

MAGIC = b"LOWDENG1"


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on. Where any of it differs, the engine is another.

    weight_set and cutoff are those that were built in. builder: what built the plan, with its version. targets: the
    compute capabilities that it runs on, such as ("8.6", "8.9").
    """

    model_sha256: str
    height: int
    width: int
    batch: int
    precision: str
    weight_set: int
    cutoff: float | None
    builder: str
    lowdose: str
    targets: tuple[str, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Engine:
    """A plan with its key. metadata: of the model file (export/README.md)."""

    key: EngineKey
    metadata: dict[str, Any]
    plan: bytes


def write_engine(path: Path, engine: Engine) -> None:
    header = {
        "key": asdict(engine.key),
        "metadata": engine.metadata,
        "plan_sha256": hashlib.sha256(engine.plan).hexdigest(),
    }
    text = json.dumps(header).encode()
    write_whole(path, MAGIC + struct.pack("<Q", len(text)) + text + engine.plan)


def write_whole(path: Path, contents: bytes) -> None:
    """Write to another name first: `path` never holds half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(contents)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def is_engine(path: Path) -> bool:
    """Whether a file begins as an engine does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_engine(path: Path) -> Engine:
    """Raises LowdoseError for a file that is no engine, is cut short, or was changed."""
    contents = path.read_bytes()
    if contents[: len(MAGIC)] != MAGIC:
        raise LowdoseError(f"{path} is no engine of lowdose; expected a file from 'lowdose engine build'")
    start = len(MAGIC) + 8
    try:
        (length,) = struct.unpack("<Q", contents[len(MAGIC) : start])
        header = json.loads(contents[start : start + length])
        given = header["key"]
        key = EngineKey(**(given | {"targets": tuple(given["targets"])}))
        plan = contents[start + length :]
        whole = hashlib.sha256(plan).hexdigest() == header["plan_sha256"]
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise LowdoseError(f"{path} is damaged, or of another version of lowdose: build it again") from error
    if not whole:
        raise LowdoseError(f"{path} is damaged or cut short: build it again")
    return Engine(key, header["metadata"], plan)


def differences(there: EngineKey, wanted: EngineKey) -> list[str]:
    """What of two keys is not the same, in words."""
    return [
        f"{field.name} {getattr(there, field.name)} instead of {getattr(wanted, field.name)}"
        for field in fields(EngineKey)
        if getattr(there, field.name) != getattr(wanted, field.name)
    ]


def check_runs_here(path: Path, key: EngineKey, builder: str, capability: str) -> None:
    """Raise LowdoseError unless an engine runs with this builder's runtime on a GPU of this compute capability."""
    if key.builder != builder:
        raise LowdoseError(f"{path} was built by {key.builder} and {builder} is installed: build it again")
    if capability not in key.targets:
        raise LowdoseError(
            f"{path} was built for GPUs of compute capability {', '.join(key.targets)} and this one has {capability}: "
            f"build it with --target {capability}"
        )


def cache_folder() -> Path:
    """Where engines are kept that were not given a name: $LOWDOSE_CACHE, or the user's folder for caches."""
    if given := os.environ.get("LOWDOSE_CACHE"):
        return Path(given) / "engines"
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "lowdose" / "engines"
