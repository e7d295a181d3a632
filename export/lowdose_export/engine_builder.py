"""ONNX -> TensorRT engine, by TensorRT-RTX: no GPU is needed, as what depends on it is compiled on first use."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import onnx

from lowdose.errors import LowdoseError

PACKAGE = "tensorrt_rtx"


def builder_package() -> Any:
    """TensorRT-RTX. Raises LowdoseError where it is not installed."""
    if find_spec(PACKAGE) is None:
        raise LowdoseError("building engines needs TensorRT-RTX, which is not installed: pip install 'lowdose[rtx]'")
    return importlib.import_module(PACKAGE)


def builder_version() -> str:
    return str(builder_package().__version__)


def known_targets() -> list[str]:
    """Compute capabilities that engines can be built for, such as "8.9"."""
    members = builder_package().ComputeCapability.__members__
    return [f"{name[2:-1]}.{name[-1]}" for name in members if name.startswith("SM")]


class Messages:
    """What the parser and the builder say, most of it of no use unless they fail."""

    def __init__(self, package: Any) -> None:
        severity = package.ILogger.Severity
        self.texts: list[str] = []
        texts = self.texts

        class Logger(package.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                package.ILogger.__init__(self)

            def log(self, level: Any, text: str) -> None:
                if level in (severity.INTERNAL_ERROR, severity.ERROR):
                    texts.append(text)

        self.logger = Logger()


def build_plan(model: onnx.ModelProto, targets: Sequence[str]) -> bytes:
    """The serialised engine of a graph with fixed shapes, for GPUs of the compute capabilities `targets` ("8.9").

    Engines are strongly typed: every operator runs in the precision of its tensors in the graph, and float32 means
    float32, not TF32, whose 10 bits would show in the low-pass. Raises LowdoseError with the parser's and the
    builder's words when they refuse the graph.
    """
    package = builder_package()
    check_targets(targets)
    messages = Messages(package)
    builder = package.Builder(messages.logger)
    network = builder.create_network(1 << int(package.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = package.OnnxParser(network, messages.logger)
    if not parser.parse(model.SerializeToString()):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        said = "; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors)
        raise LowdoseError(f"TensorRT-RTX {package.__version__} cannot parse the graph: {said}")
    config = builder.create_builder_config()
    config.clear_flag(package.BuilderFlag.TF32)
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(getattr(package.ComputeCapability, "SM" + target.replace(".", "")), index)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise LowdoseError(f"TensorRT-RTX {package.__version__} cannot build the engine: {'; '.join(messages.texts)}")
    return bytes(plan)


def check_targets(targets: Sequence[str]) -> None:
    """Raise LowdoseError unless engines can be built for all of `targets`."""
    known = known_targets()
    if unknown := [target for target in targets if target not in known]:
        raise LowdoseError(
            f"no engine can be built for compute capability {', '.join(unknown)}: TensorRT-RTX {builder_version()} "
            f"knows {', '.join(known)}. For other GPUs use the devices cuda and tensorrt"
        )
