"""Which input goes to which output: files, folders and globs in, names and trees kept."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from lowdose.errors import LowdoseError
from lowdose.io import READABLE_SUFFIXES, WRITABLE_SUFFIXES


def plan(inputs: Sequence[str], out: Path) -> list[tuple[Path, Path]]:
    """(input, output) for every file that `inputs` name.

    One input file and an `out` with a suffix: that file. Otherwise `out` is a folder, and each output keeps its
    name and its place below the input folder; a format that cannot be written becomes TIFF. Raises LowdoseError
    for folders without images, for several inputs with one output, and for two inputs with the same output.
    """
    if len(inputs) == 1 and is_file(inputs[0]) and out.suffix and not out.is_dir():
        return [(Path(inputs[0]), out)]
    if out.suffix.lower() in WRITABLE_SUFFIXES and not out.is_dir():
        raise LowdoseError(f"{out} names one file, but there are several inputs: give a folder to -o")
    pairs = []
    for given in inputs:
        for source, place in found_files(given):
            suffix = source.suffix if source.suffix.lower() in WRITABLE_SUFFIXES else ".tif"
            pairs.append((source, (out / place).with_suffix(suffix)))
    sources: dict[Path, Path] = {}
    for source, target in pairs:
        if target in sources:
            raise LowdoseError(f"{sources[target]} and {source} would both become {target}; denoise them separately")
        sources[target] = source
    return pairs


def is_file(given: str) -> bool:
    """True for one file, FILE::DATASET of HDF5 among them; also for a name that is not there: opening it says so."""
    path = Path(given.rpartition("::")[0] or given)
    return path.is_file() or not (path.is_dir() or glob.glob(given))


def found_files(given: str) -> list[tuple[Path, Path]]:
    """(file, its place below the output folder) for a file, a folder (searched to the bottom) or a glob."""
    path = Path(given)
    if path.is_dir():
        files = [f for f in sorted(path.rglob("*")) if f.is_file() and f.suffix.lower() in READABLE_SUFFIXES]
        if not files:
            raise LowdoseError(f"the folder {path} holds no file of a known format ({', '.join(READABLE_SUFFIXES)})")
        return [(f, f.relative_to(path)) for f in files]
    if is_file(given):
        return [(path, Path(path.name))]
    return [(Path(f), Path(Path(f).name)) for f in sorted(glob.glob(given, recursive=True)) if Path(f).is_file()]
