"""Model file -> engine file, unless the same engine is there already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx

from lowdose import __version__
from lowdose.engine_file import Engine, EngineKey, cache_folder, differences, read_engine, write_engine
from lowdose.errors import LowdoseError
from lowdose_export.engine_builder import build_plan, builder_name, check_targets
from lowdose_export.engine_graph import contract_of, engine_graph, settings_of

PRECISIONS = ("fp32", "fp16")
PORTABLE_TARGETS = ("8.0", "8.6", "8.9", "12.0")
"""Ampere, Ada and Blackwell: one engine for all."""


def engine_key(
    path: Path,
    size: tuple[int, int],
    *,
    batch: int = 1,
    precision: str = "fp32",
    targets: Sequence[str] = PORTABLE_TARGETS,
    weight_set: int = 0,
    cutoff: float | None = None,
) -> EngineKey:
    """The key of an engine of the model file `path`; arguments as those of `build_engine`, and so are the errors."""
    if precision not in PRECISIONS:
        raise LowdoseError(f"there is no precision '{precision}': {' or '.join(PRECISIONS)}")
    if batch < 1:
        raise LowdoseError(f"an engine takes 1 or more frames at a time, not {batch}")
    check_targets(targets)
    metadata = contract_of(onnx.load(path), path)
    held = metadata.get("precision", "fp32")
    if held != "fp32" and held != precision:
        raise LowdoseError(
            f"{path} is a file in {held}; make the engine from the float32 model, or with that precision"
        )
    settings = settings_of(metadata, weight_set, cutoff)
    return EngineKey(
        model_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        height=size[0],
        width=size[1],
        batch=batch,
        precision=precision,
        weight_set=weight_set,
        cutoff=float(settings["cutoff"]) if metadata["low_pass"] else None,
        builder=builder_name(),
        lowdose=__version__,
        targets=tuple(sorted(set(targets), key=lambda target: tuple(map(int, target.split("."))))),
    )


def build_engine(
    path: Path,
    key: EngineKey,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """The file of the engine that `key` (of `engine_key`) describes, built if it is not there; its path is returned.

    out: a file of one's own; None: in the cache, where the name holds the key. What lies there and is another engine,
    or damaged, is built again in the cache, and under `out` refused without `overwrite`. report: told of each step.
    """
    short = f"{path.stem}-{key.height}x{key.width}-{key.precision}-{key.digest[:16]}"
    target = out or cache_folder() / f"{short}.engine"
    if target.exists():
        problem = why_not(target, key)
        if problem is None:
            report(f"{target} is up to date")
            return target
        if out and not overwrite:
            raise LowdoseError(f"{problem}; give another name or --overwrite")
        report(f"{problem}; it is built again")
    report(f"building {short} for compute capability {', '.join(key.targets)} ...")
    metadata = contract_of(onnx.load(path), path)
    graph = engine_graph(
        path,
        (key.height, key.width),
        batch=key.batch,
        weight_set=key.weight_set,
        cutoff=key.cutoff,
        half=key.precision == "fp16" and "precision" not in metadata,
    )
    write_engine(target, Engine(key, metadata, build_plan(graph, key.targets)))
    return target


def why_not(path: Path, key: EngineKey) -> str | None:
    """Why the file `path` cannot stand for the engine of `key`; None where it can."""
    try:
        there = read_engine(path).key
    except LowdoseError as error:
        return str(error)
    differing = differences(there, key)
    return f"{path} is another engine: {'; '.join(differing)}" if differing else None
