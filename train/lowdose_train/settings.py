"""Everything that decides how a network is trained, in one record saved beside the checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lowdose.errors import LowdoseError

Method = Literal["wcvd", "wcid", "udvd", "udvd-4d", "n2v", "synthesis3d", "bfn", "bfn-4d"]
PRECISIONS = ("auto", "float32", "bfloat16")
MAY_CHANGE_ON_RESUME = ("device", "threads")


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What a method takes where the user says nothing; the meaning is that of the settings of the same name."""

    epochs: int
    learning_rate: float
    batch_size: int
    crop_px: int
    widths: tuple[str, ...] = ("full",)
    """Widths that the method has, the default first."""


DEFAULTS: dict[Method, Defaults] = {
    "wcvd": Defaults(epochs=60, learning_rate=3e-3, batch_size=4, crop_px=128),
    "wcid": Defaults(epochs=60, learning_rate=3e-3, batch_size=4, crop_px=128),
    "udvd": Defaults(epochs=50, learning_rate=5e-4, batch_size=1, crop_px=64, widths=("lite", "full")),
    "udvd-4d": Defaults(epochs=50, learning_rate=5e-4, batch_size=4, crop_px=64, widths=("lite", "full")),
    "n2v": Defaults(epochs=20, learning_rate=1e-3, batch_size=4, crop_px=128, widths=("lite", "full")),
    "synthesis3d": Defaults(epochs=30, learning_rate=1e-3, batch_size=2, crop_px=64, widths=("lite", "full")),
    "bfn": Defaults(epochs=40, learning_rate=3e-3, batch_size=8, crop_px=32),
    "bfn-4d": Defaults(epochs=40, learning_rate=3e-3, batch_size=8, crop_px=32),
}
PUBLISHED_UDVD = Defaults(epochs=50, learning_rate=1e-4, batch_size=1, crop_px=256)
"""What udvd and udvd-4d take in the width "full" (Sheth et al., training details)."""
NOISES = ("gaussian", "counting")
NEIGHBOURS = ("cross", "line", "3x3")
METHODS: tuple[Method, ...] = tuple(DEFAULTS)
OF_METHOD: Any = None
"""As the default of a setting: the value in DEFAULTS, set when the record is made."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of one training run.

    WCVD and WCID as published (Lee et al.): the loss, Adam, batches of 4, flips and transposes, and the number of
    steps: 60 epochs of 5 crops from every window are the published 300 epochs of 1 whole window. Ours, for every
    method: crops, a cosine rate instead of one that drops on a plateau (it ends on time), averaged weights.
    """

    method: Method = "wcvd"
    width: str = OF_METHOD
    """Size of the network: "full" as published, or "lite" where the method has it."""
    epochs: int = OF_METHOD
    """Length of the run when no budget is given."""
    budget_s: float | None = None
    """Wall-clock length of the run in seconds; the learning rate falls to fit it, `epochs` is not used."""
    learning_rate: float = OF_METHOD
    """Adam's rate at the start; it falls along a cosine to 1 % of this."""
    batch_size: int = OF_METHOD
    crop_px: int | None = None
    """Side of the square crops; None takes the method's, or the shortest frame side if that is less."""
    blind_px: int = 1
    """Side of the square that udvd and bfn hide: 1 or 3, for noise that neighbouring pixels share."""
    taps: int | None = None
    """Frames that bfn sees, odd; None: as many as predict the noisy pixels best linearly."""
    linear_px: int | None = None
    """Side of the window of bfn's linear filter, odd; None: as wide as the frames can tell."""
    n_features: int = 24
    """Features of bfn, for each channel."""
    side_px: int = 15
    """Side of their window, odd."""
    n_hidden: int = 32
    """Width of the perceptron's two hidden layers."""
    noise: str = "gaussian"
    """What bfn learns under: "gaussian" counts all pixels' errors alike, "counting" by the variance of each pixel's
    noise, which grows with the brightness as that of counted electrons does."""
    neighbours: str = "3x3"
    """Scan positions that udvd-4d sees: "cross" of four, "line" of five along a row, or "3x3"."""
    averaging: float = 0.99
    """Decay per step of the running average of the weights, which is what is scored and kept."""
    lowest_dose: float = 0.3
    """Least mean of electrons per pixel and frame that synthesis3d gives to clean stacks when it adds noise."""
    highest_dose: float = 10.0
    """The largest; each block gets one between them, evenly on a logarithmic scale."""
    gaussian_share: float = 0.4
    """Largest share of the noise variance that is Gaussian (read noise), not Poisson; each block gets 0 to this."""
    zero_level: float = 0.0
    """Value that the clean stacks of synthesis3d have where there is no electron: the detector's offset."""
    precision: str = "auto"
    """"float32", "bfloat16", or "auto": the latter where the hardware has it. For n2v and synthesis3d."""
    held_out: float = 0.1
    """Share of each stack's frames that are never a training target (at least one, at most four)."""
    patience_epochs: int = 40
    """Stop after this many epochs without a better held-out loss."""
    max_stack_mb: float = 2000.0
    """Of a larger stack only as many frames as fit, taken from its start, are read."""
    seed: int = 0
    device: str = "cpu"
    """"cpu", "cuda" or "cuda:N"."""
    threads: int | None = None
    """CPU threads of PyTorch; None leaves its choice."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise LowdoseError(f"setting method is {self.method!r}; expected one of {', '.join(METHODS)}")
        if self.width is OF_METHOD:
            object.__setattr__(self, "width", DEFAULTS[self.method].widths[0])
        for name in ("epochs", "learning_rate", "batch_size"):
            if getattr(self, name) is OF_METHOD:
                object.__setattr__(self, name, getattr(self.defaults, name))
        for field in dataclasses.fields(self):
            _check_type(field.name, str(field.type), getattr(self, field.name))
        widths = DEFAULTS[self.method].widths
        if self.width not in widths:
            raise LowdoseError(f"setting width is {self.width!r}; {self.method} has {', '.join(widths)}")
        if self.blind_px not in (1, 3):
            raise LowdoseError(f"setting blind_px is {self.blind_px}; expected 1 or 3")
        if self.noise not in NOISES:
            raise LowdoseError(f"setting noise is {self.noise!r}; expected one of {', '.join(NOISES)}")
        if self.neighbours not in NEIGHBOURS:
            raise LowdoseError(f"setting neighbours is {self.neighbours!r}; expected one of {', '.join(NEIGHBOURS)}")
        for name in ("epochs", "budget_s", "learning_rate", "batch_size", "crop_px", "patience_epochs", "threads"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise LowdoseError(f"setting {name} is {value}; expected a number above 0")
        for name in ("taps", "side_px", "linear_px"):
            value = getattr(self, name)
            if value is not None and (value < 1 or value % 2 == 0):
                raise LowdoseError(f"setting {name} is {value}; expected an odd number")
        if min(self.n_features, self.n_hidden) < 1:
            raise LowdoseError(
                f"settings n_features {self.n_features} and n_hidden {self.n_hidden}; expected 1 or more"
            )
        if self.precision not in PRECISIONS:
            raise LowdoseError(f"setting precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        if not 0 < self.lowest_dose <= self.highest_dose < math.inf:
            raise LowdoseError(
                f"settings lowest_dose {self.lowest_dose} and highest_dose {self.highest_dose}; "
                "expected 0 < lowest <= highest"
            )
        for name in ("averaging", "held_out", "gaussian_share"):
            if not 0 <= getattr(self, name) < 1:
                raise LowdoseError(f"setting {name} is {getattr(self, name)}; expected 0 or more and less than 1")

    @property
    def defaults(self) -> Defaults:
        """What the method takes in this width."""
        published = self.method in ("udvd", "udvd-4d") and self.width == "full"
        return PUBLISHED_UDVD if published else DEFAULTS[self.method]

    def crop_for(self, shortest_px: int) -> int:
        """Side of the crops of frames whose shortest side is `shortest_px`."""
        return self.crop_px or min(self.defaults.crop_px, shortest_px)

    @staticmethod
    def from_mapping(values: Mapping[str, Any]) -> Settings:
        """Settings from names and values. Raises LowdoseError for an unknown name or a bad value."""
        known = [field.name for field in dataclasses.fields(Settings)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise LowdoseError(f"unknown settings: {', '.join(unknown)}; known are {', '.join(known)}")
        return Settings(**values)

    def to_mapping(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def read_settings(path: Path) -> dict[str, Any]:
    """Names and values from a JSON file. Raises LowdoseError unless it holds one JSON object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise LowdoseError(f"cannot read settings from {path}: {error}") from error
    if not isinstance(values, dict):
        raise LowdoseError(f"{path} holds {type(values).__name__}; expected one JSON object of settings")
    return values


def _check_type(name: str, expected: str, value: object) -> None:
    if value is None and expected.endswith("| None"):
        return
    kinds: tuple[type, ...] = (str,)
    if expected.startswith("float"):
        kinds = (int, float)
    elif expected.startswith("int"):
        kinds = (int,)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise LowdoseError(f"setting {name} is {value!r}; expected {expected}")
