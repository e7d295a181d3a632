"""The page that shows a live run; served by a process of its own, so that it never holds up the stream."""

from lowdose.live.view.viewer import Viewer

__all__ = ["Viewer"]
