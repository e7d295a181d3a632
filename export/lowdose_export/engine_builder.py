"""ONNX -> TensorRT engine, by TensorRT-RTX: no GPU is needed, as what depends on it is compiled on first use."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from lowdose import tensorrt_rtx
from lowdose.errors import LowdoseError

BUILDING = "building engines"


def builder_name() -> str:
    """As engine files have it. Raises LowdoseError where TensorRT-RTX is not installed, as all here do."""
    return tensorrt_rtx.name_with_version(tensorrt_rtx.package(BUILDING))


def known_targets() -> list[str]:
    """Compute capabilities that engines can be built for, such as "8.9"."""
    members = tensorrt_rtx.package(BUILDING).ComputeCapability.__members__
    return [f"{name[2:-1]}.{name[-1]}" for name in members if name.startswith("SM")]


def build_plan(model: onnx.ModelProto, targets: Sequence[str]) -> bytes:
    """The serialised engine of a graph with fixed shapes, for GPUs of the compute capabilities `targets` ("8.9").

    Engines are strongly typed: every operator runs in the precision of its tensors in the graph, and float32 means
    float32, not TF32, whose 10 bits would show in the low-pass. Raises LowdoseError with the parser's and the
    builder's words when they refuse the graph.
    """
    package = tensorrt_rtx.package(BUILDING)
    check_targets(targets)
    messages = tensorrt_rtx.Messages(package)
    builder = package.Builder(messages.logger)
    network = builder.create_network(1 << int(package.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = package.OnnxParser(network, messages.logger)
    if not parser.parse(model.SerializeToString()):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        said = "; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors)
        raise LowdoseError(f"{builder_name()} cannot parse the graph: {said}")
    config = builder.create_builder_config()
    config.clear_flag(package.BuilderFlag.TF32)
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(getattr(package.ComputeCapability, "SM" + target.replace(".", "")), index)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise LowdoseError(f"{builder_name()} cannot build the engine: {messages}")
    return bytes(plan)


def check_targets(targets: Sequence[str]) -> None:
    """Raise LowdoseError unless engines can be built for all of `targets`."""
    known = known_targets()
    if unknown := [target for target in targets if target not in known]:
        raise LowdoseError(
            f"no engine can be built for compute capability {', '.join(unknown)}: {builder_name()} "
            f"knows {', '.join(known)}. For other GPUs use the devices cuda and tensorrt"
        )
