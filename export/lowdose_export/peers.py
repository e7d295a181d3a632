"""What `lowdose bench --compare` runs beside lowdose: plain ONNX Runtime, PyTorch and OpenVINO on the same model."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnx.inliner import inline_local_functions

from lowdose.bench.compare import Frames, Peer, Question
from lowdose_export.forms import FORMS, blind_spot_form
from lowdose_export.parity import torch_low_pass
from lowdose_export.windowed import run_torch, window_moments
from lowdose_train.blind_spot import BlindSpotNetwork
from lowdose_train.checkpoint import load_checkpoint
from lowdose_train.unet import UNet


def graph_forms(question: Question) -> dict[str, bytes]:
    """The model as ONNX graphs in standard operators, by what they are called; their inputs are all frames."""
    model = onnx.load(question.model.path)
    size = question.window.shape[-2:]
    if any(node.op_type == "BlindSpot" for node in model.graph.node):
        bank = {weights.name: numpy_helper.to_array(weights) for weights in model.graph.initializer}
        settings = question.settings
        assert settings.weight_set is not None and settings.cutoff is not None
        forms = {form: blind_spot_form(form, bank, settings.weight_set, size, settings.cutoff) for form in FORMS}
        return {form: inline_local_functions(graph).SerializeToString() for form, graph in forms.items()}
    for dimension in (d for value in model.graph.input for d in value.type.tensor_type.shape.dim):
        fixed = {"batch": 1, "height": size[0], "width": size[1]}.get(dimension.dim_param)
        if fixed:
            dimension.dim_value = fixed
    return {"as in the file": inline_local_functions(model).SerializeToString()}


def feeds_of(question: Question) -> dict[str, Frames]:
    """The inputs of a graph, by name: frames and, where it takes them, the window's mean and deviation."""
    feeds = {f"frame_{tap}": np.ascontiguousarray(frame[None]) for tap, frame in enumerate(question.window)}
    if question.model.metadata["normalisation"] != "none":
        feeds["offset"], feeds["scale"] = window_moments(question.window)
    return feeds


def onnxruntime_peers(question: Question) -> list[Peer]:
    """Plain ONNX Runtime on the CPU, fixed sizes, inputs and output bound once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = question.threads
    options.log_severity_level = 3
    peers = []
    for form, graph in graph_forms(question).items():
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        result = np.empty((1, *question.window.shape[1:]), np.float32)
        binding = session.io_binding()
        wanted = {value.name for value in session.get_inputs()}
        for name, values in feeds_of(question).items():
            if name in wanted:
                binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values))
        binding.bind_output("denoised", "cpu", 0, np.float32, result.shape, result.ctypes.data)

        def run(session: Any = session, binding: Any = binding, result: Frames = result) -> Frames:
            session.run_with_iobinding(binding)
            frame: Frames = result[0]
            return frame

        peers.append(Peer(f"ONNX Runtime {onnxruntime.__version__}", form, run))
    return peers


def openvino_peers(question: Question) -> list[Peer]:
    """OpenVINO on the CPU in float32, for lowest latency."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if question.threads:
        settings["INFERENCE_NUM_THREADS"] = str(question.threads)
    feeds = feeds_of(question)
    peers = []
    for form, graph in graph_forms(question).items():
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(graph)
            compiled = openvino.Core().compile_model(path, "CPU", settings)
        request = compiled.create_infer_request()
        for name, values in feeds.items():
            request.set_tensor(name, openvino.Tensor(values, shared_memory=True))

        def run(request: Any = request, shared: Any = feeds) -> Frames:
            request.infer()
            frame: Frames = request.get_output_tensor().data[0]
            return frame

        peers.append(Peer(f"OpenVINO {openvino.__version__.partition('-')[0]}", form, run))
    return peers


def torch_peers(question: Question) -> list[Peer]:
    """PyTorch, eager, as the network is trained."""
    network = torch_network(question)
    if network is None:
        return []
    if question.threads:
        torch.set_num_threads(question.threads)
    window, cutoff = question.window, question.settings.cutoff
    assert cutoff is not None

    @torch.inference_mode()
    def run() -> Frames:
        if isinstance(network, UNet):
            result: Frames = run_torch(network, window)[0]
            return result
        denoised: Frames = torch_low_pass(network(torch.from_numpy(window[:, 0])[None]), cutoff)[0].numpy()
        return denoised

    return [Peer(f"PyTorch {torch.__version__}", "eager", run)]


def torch_network(question: Question) -> BlindSpotNetwork | UNet | None:
    """The network of a model file; None where it is not of a kind that runs frame by frame in PyTorch."""
    model = onnx.load(question.model.path)
    if not any(node.op_type == "BlindSpot" for node in model.graph.node):
        network = load_checkpoint(question.model.path)[0]
        return network if isinstance(network, UNet) else None
    weight_set = question.settings.weight_set
    bank = {w.name: torch.from_numpy(numpy_helper.to_array(w).copy()) for w in model.graph.initializer}
    sizes = tuple(sorted(int(name.rpartition("_")[2]) for name in bank if name.startswith("kernel_")))
    kernel, mixing = bank[f"kernel_{sizes[0]}"], bank[f"mixing_{sizes[0]}"]
    blind_spot = BlindSpotNetwork(kernel.shape[2], sizes, kernel.shape[1], mixing.shape[1])
    state = {"branch_logits": bank["branch_weights"][weight_set].log()}
    for index, size in enumerate(sizes):
        for name in ("kernel", "mixing", "head"):
            state[f"branches.{index}.{name}"] = bank[f"{name}_{size}"][weight_set]
    blind_spot.load_state_dict(state)
    return blind_spot.eval()
