"""Which task trains which method."""

from __future__ import annotations

from lowdose_train.bfn_scan_task import BfnScanTask
from lowdose_train.bfn_task import BfnTask
from lowdose_train.blind_spot_task import BlindSpotTask
from lowdose_train.noise2void_task import Noise2VoidTask
from lowdose_train.settings import Method
from lowdose_train.synthesis_task import SynthesisTask
from lowdose_train.task import Task
from lowdose_train.udvd_scan_task import UdvdScanTask
from lowdose_train.udvd_task import UdvdTask

TASKS: dict[Method, type[Task]] = {
    "wcvd": BlindSpotTask,
    "wcid": BlindSpotTask,
    "udvd": UdvdTask,
    "udvd-4d": UdvdScanTask,
    "n2v": Noise2VoidTask,
    "synthesis3d": SynthesisTask,
    "bfn": BfnTask,
    "bfn-4d": BfnScanTask,
}
