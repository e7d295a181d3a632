"""Live streams: frames from a detector in, denoised frames out, saved and shown while the beam is on."""

from lowdose.live.frame import END, LiveFrame, Source, SourceOptions
from lowdose.live.output import Recorder
from lowdose.live.runner import LiveOptions, LiveRun, Outlets
from lowdose.live.sources import open_source, register_source

__all__ = [
    "END",
    "LiveFrame",
    "LiveOptions",
    "LiveRun",
    "Outlets",
    "Recorder",
    "Source",
    "SourceOptions",
    "open_source",
    "register_source",
]
