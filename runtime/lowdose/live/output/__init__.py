"""Where live frames are saved, as they come."""

from lowdose.live.output.recorder import SUFFIXES, Recorder

__all__ = ["SUFFIXES", "Recorder"]
