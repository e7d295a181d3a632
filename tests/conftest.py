"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import CommandLine
from model_files import make_model_file


@pytest.fixture
def shared_data() -> Path:
    """The folder of data that may be tested with but never enters the project; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}")
    return folder


@pytest.fixture(scope="session")
def model_files(tmp_path_factory):
    """Model files with two sets of random weights each, by method."""
    folder = tmp_path_factory.mktemp("models")
    return {method: make_model_file(folder, method) for method in ("wcvd", "wcid")}


@pytest.fixture
def lowdose(monkeypatch, capsys):
    """The command line: lowdose("denoise", path, ...) gives its exit code and output."""
    return CommandLine(monkeypatch, capsys)
