"""One stream after another: the next takes over between two frames, and none is lost or comes twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lowdose.errors import LowdoseError
from lowdose.methods.method import FrameStream
from lowdose.source import Frame


@dataclass(frozen=True)
class Runner:
    """A stream, what its results are called at the moment, and how many frames before its own each one depends on."""

    stream: FrameStream
    name: Callable[[], str]
    n_before: int = 0


Named = tuple[Frame, str]
"""A result (height, width) and the name of what made it."""


class Relay:
    """Runs one stream until another takes over; results come in order, each with the name of what made it.

    The next stream begins beside the present one. Both are given every frame until the next one has seen all that it
    looks at before some frame which the present one has yet to give: from that frame on the results are its own, the
    same as if it had run from the beginning. Where it is quicker, its first results wait for the last ones of the
    present stream; where it is slower, as many frames pass without a result as it is slower.

    failure: why the last stream that was to take over did not, or None.
    """

    def __init__(self, first: Runner) -> None:
        self._now = first
        self._next: Runner | None = None
        self._n_in = 0
        self._n_out = 0
        self._takes_over_at = 0
        self._held: list[Named] = []  # of the next stream, until it takes over
        # How many results each of the two has yet to give of frames for which it had not seen all.
        self._now_early = 0
        self._next_early = 0
        self.failure: LowdoseError | None = None

    def take_over(self, runner: Runner) -> None:
        """Let `runner` take over as soon as it can; one that was about to is let go."""
        self._next, self._held, self.failure = runner, [], None
        self._next_early = runner.n_before
        self._takes_over_at = self._n_in + runner.n_before
        self._hand_over()

    def push(self, frame: Frame) -> list[Named]:
        """Take one frame and give the results that are due.

        Raises what the present stream raises, and has not taken the frame then. A next stream that raises is let go.
        """
        given = self._now.stream.push(frame)
        self._n_in += 1
        results = self._give([] if given is None else [given])
        if self._next is not None:
            try:
                given = self._next.stream.push(frame)
            except LowdoseError as error:
                self._next, self.failure = None, error
            else:
                self._hold(self._next, [] if given is None else [given])
        return results + self._hand_over()

    def flush(self) -> list[Named]:
        """End the sequence and give the results still due. Raises what the stream raises that has to give them."""
        if self._n_out == self._n_in:
            return []  # the present stream may have seen too few frames to be flushed
        if self._next is None or self._takes_over_at >= self._n_in:
            return self._give(self._now.stream.flush())
        wanted = self._takes_over_at - self._n_out + self._now_early
        results = self._give(self._now.stream.flush()[:wanted])
        self._hold(self._next, self._next.stream.flush())
        return results + self._hand_over()

    def _give(self, frames: list[Frame]) -> list[Named]:
        early = min(self._now_early, len(frames))
        self._now_early -= early
        self._n_out += len(frames) - early
        return [(frame, self._now.name()) for frame in frames[early:]]

    def _hold(self, runner: Runner, frames: list[Frame]) -> None:
        early = min(self._next_early, len(frames))
        self._next_early -= early
        self._held += [(frame, runner.name()) for frame in frames[early:]]

    def _hand_over(self) -> list[Named]:
        """Where the present stream has given all that it should, the next is the present one, and gives what waited."""
        if self._next is None or self._n_out < self._takes_over_at:
            return []
        held, self._held = self._held, []
        self._now, self._next, self._now_early = self._next, None, self._next_early
        self._n_out += len(held)
        return held
