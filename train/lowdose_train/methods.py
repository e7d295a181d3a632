"""Which task trains which method."""

from __future__ import annotations

from lowdose_train.blind_spot_task import BlindSpotTask
from lowdose_train.noise2void_task import Noise2VoidTask
from lowdose_train.settings import Method
from lowdose_train.synthesis_task import SynthesisTask
from lowdose_train.task import Task

TASKS: dict[Method, type[Task]] = {
    "wcvd": BlindSpotTask,
    "wcid": BlindSpotTask,
    "n2v": Noise2VoidTask,
    "synthesis3d": SynthesisTask,
}
