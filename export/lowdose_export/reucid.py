"""REUCID's classifier as a model file: `python -m lowdose_export.reucid reucid.pt -o reucid.onnx`.

Inputs `eigenpatch`, float32 (batch, 1, 25, 25), and `eigenvalue`, float32 (batch, 1), as
`lowdose.reucid.classifier.classifier_inputs` makes them; output `useful`, float32 (batch, 1), from 0 to 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from lowdose import __version__
from lowdose.errors import LowdoseError
from lowdose_export.functions import OPSET
from lowdose_export.model_file import IR_VERSION, SPEC, set_metadata
from lowdose_train.checkpoint import read
from lowdose_train.reucid import ReucidNetwork

# Largest difference of a verdict, which lies between 0 and 1; some hundred products a sum in float32.
TOLERANCE = 1e-5


def export_reucid(checkpoint: Path, out: Path, *, overwrite: bool = False) -> float:
    """Write the classifier of a checkpoint as a model file, and check it; returns the largest difference to PyTorch.

    Raises LowdoseError for a checkpoint of another method, an existing file, and a difference above TOLERANCE.
    """
    if out.exists() and not overwrite:
        raise LowdoseError(f"{out} exists; give --overwrite to replace it")
    contents = read(checkpoint)
    if contents.get("method") != "reucid":
        raise LowdoseError(f"{checkpoint} is a checkpoint of {contents.get('method')}; expected one of reucid")
    network = ReucidNetwork()
    network.load_state_dict(contents.pop("state_dict"))
    unfinished = out.with_name(out.name + ".unfinished")
    onnx.save(build_classifier(network.eval(), contents), unfinished)
    difference = largest_difference(network, unfinished)
    if not difference <= TOLERANCE:
        unfinished.unlink()
        raise LowdoseError(
            f"ONNX Runtime's verdicts differ from PyTorch's by {difference:.2e}; the tolerance is {TOLERANCE:.0e}"
        )
    unfinished.replace(out)
    return difference


def build_classifier(network: ReucidNetwork, record: dict[str, Any]) -> onnx.ModelProto:
    """The graph in standard operators, with `record` (training data, seed, metrics ...) in its metadata."""
    weights = {name.replace(".", "_"): value.detach().numpy() for name, value in network.state_dict().items()}

    def layer(kind: str, name: str, source: str, target: str, **attributes: Any) -> list[onnx.NodeProto]:
        raw = helper.make_node(kind, [source, f"{name}_weight", f"{name}_bias"], [f"{name}_raw"], **attributes)
        return [raw, helper.make_node("Elu", [f"{name}_raw"], [target])]

    def pool(source: str, target: str) -> onnx.NodeProto:
        return helper.make_node("MaxPool", [source], [target], kernel_shape=[2, 2], strides=[2, 2])

    nodes = [
        *layer("Conv", "wide", "eigenpatch", "wide_elu", pads=[1, 1, 1, 1]),
        pool("wide_elu", "wide_pooled"),
        *layer("Conv", "narrow", "wide_pooled", "narrow_elu", pads=[1, 1, 1, 1]),
        pool("narrow_elu", "narrow_pooled"),
        helper.make_node("GlobalAveragePool", ["narrow_pooled"], ["channel_means"]),
        helper.make_node("Flatten", ["channel_means"], ["shape_features"]),
        helper.make_node("Concat", ["shape_features", "eigenvalue"], ["features"], axis=1),
        *layer("Gemm", "first", "features", "first_elu", transB=1),
        *layer("Gemm", "second", "first_elu", "second_elu", transB=1),
        helper.make_node("Gemm", ["second_elu", "verdict_weight", "verdict_bias"], ["logit"], transB=1),
        helper.make_node("Sigmoid", ["logit"], ["useful"]),
    ]
    inputs = [
        helper.make_tensor_value_info("eigenpatch", TensorProto.FLOAT, ["batch", 1, 25, 25]),
        helper.make_tensor_value_info("eigenvalue", TensorProto.FLOAT, ["batch", 1]),
    ]
    output = helper.make_tensor_value_info("useful", TensorProto.FLOAT, ["batch", 1])
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "reucid", inputs, [output], initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lowdose",
    )
    metadata = {key: record[key] for key in ("data", "seed", "commit", "settings", "metrics")}
    set_metadata(
        model, {"spec": SPEC, "method": "reucid", "kind": "classifier", "lowdose_version": __version__, **metadata}
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@torch.no_grad()
def largest_difference(network: ReucidNetwork, path: Path) -> float:
    """Between the verdicts of PyTorch and of ONNX Runtime on random eigenpatches of all strengths."""
    random = np.random.default_rng(0)
    inputs = {
        "eigenpatch": random.standard_normal((257, 1, 25, 25)).astype(np.float32),
        "eigenvalue": random.uniform(-1, 9, (257, 1)).astype(np.float32),
    }
    wanted = torch.sigmoid(network(**{name: torch.from_numpy(values) for name, values in inputs.items()})).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (got,) = session.run(["useful"], inputs)
    return float(np.abs(got - wanted).max())


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Model file to write (*.onnx).")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def main(checkpoint: Path, out: Path, overwrite: bool) -> None:
    """Write CHECKPOINT (from python -m lowdose_train.reucid) as a model file."""
    difference = export_reucid(checkpoint, out, overwrite=overwrite)
    click.echo(f"{out}: {out.stat().st_size} bytes; verdicts agree with PyTorch within {difference:.1e}")


if __name__ == "__main__":
    main()
