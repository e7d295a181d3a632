"""Runs `lowdose ...` in this process, as the installed command would."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from lowdose.cli.main import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


class CommandLine:
    def __init__(self, monkeypatch, capsys):
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, *arguments):
        """Exit code and what was printed."""
        self.monkeypatch.setattr(sys, "argv", ["lowdose", *map(str, arguments)])
        self.capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        out, err = self.capsys.readouterr()
        return Outcome(code, out, err)
