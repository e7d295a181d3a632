"""What all model files share, whatever writes them: no torch here. `cpp/src/model.cpp` reads what is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from lowdose.errors import LowdoseError

SPEC = 1
IR_VERSION = 9  # read by every ONNX Runtime since 1.16


class Graph:
    """Nodes and weights of an ONNX graph, in the order in which they are added. Values are called by their names.

    parameters: names and tensors of a PyTorch network. A weight that is one of them has its name in the file, so that
    training can begin with a model file (`lowdose_train.checkpoint`). prefix: of all other names, for nodes that join
    those of another graph.
    """

    def __init__(self, parameters: Iterable[tuple[str, Any]] = (), *, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.names = {id(tensor): name for name, tensor in parameters}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        output = f"{self.prefix}{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, values: NDArray[Any] | Sequence[int]) -> str:
        """A weight (integers become int64), whose name is returned."""
        name = f"{self.prefix}weight_{len(self.weights)}"
        array = values if isinstance(values, np.ndarray) else np.array(values, np.int64)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def parameter(self, tensor: Any) -> str:
        """A tensor of the network as a weight, once however often it is used; its name is returned."""
        name = self.names[id(tensor)]
        if all(weight.name != name for weight in self.weights):
            self.weights.append(numpy_helper.from_array(tensor.detach().contiguous().numpy(), name))
        return name

    def rename_last(self, name: str) -> None:
        """Give the output of the last node its final name."""
        self.nodes[-1].output[0] = name


def check_out(out: Path, overwrite: bool) -> None:
    """Raise LowdoseError unless a model file may be written to `out`."""
    if out.exists() and not overwrite:
        raise LowdoseError(f"{out} exists; give another name or --overwrite")
    if out.suffix != ".onnx":
        raise LowdoseError(f"a model file is named *.onnx, not '{out.name}'")


def set_metadata(model: onnx.ModelProto, metadata: dict[str, Any]) -> None:
    """Put `metadata` under the one key of the contract."""
    helper.set_model_props(model, {"lowdose": json.dumps(metadata)})
