"""Trace a module and write what it does as an ONNX file."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

OPSET = 17
# of ONNX: as far as an axis goes
_END = 2**63 - 1
# of protobuf, with room for the nodes: what is larger goes into a file of its own
MOST_BYTES_IN_GRAPH = 1_900_000_000


def write_graph(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: Sequence[str],
    lengths: dict[str, tuple[int, str]],
    path: Path,
) -> None:
    """Write a module as an ONNX file.

    Args:
        module: From tensors to tensors, in eval mode.
        inputs: Tensors to trace it with, by the names that the graph's inputs get, in order.
        outputs: Names of what it returns.
        lengths: Axis of an input or output that may have any length, and what it counts, by name.
        path: The file; weights that are larger than two gigabytes go beside it, into a file that ends with ".data".

    Raises:
        ImportError: The package `onnx` is missing.
    """
    import onnx

    # With gradients layers leave their inputs as they are: what they overwrite, a trace cannot follow
    with torch.enable_grad(), _unflatten_of_any_length(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's comparisons of sizes, which hold for every length
        # torch.export needs minutes where tracing takes seconds, for the same graph
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {axis: what} for name, (axis, what) in lengths.items()},
        )
    model = onnx.load(str(path))
    _join_equal_names(model.graph)
    large = sum(len(weight.raw_data) for weight in model.graph.initializer) > MOST_BYTES_IN_GRAPH
    for part in path.parent.glob(f"{path.stem}*"):
        part.unlink()
    onnx.save(model, str(path), save_as_external_data=large, location=f"{path.name}.data")


@contextmanager
def _unflatten_of_any_length() -> Iterator[None]:
    """Replace torch's way to write `unflatten` of the first axis, after which lengths count as those of the trace."""

    def unflatten(g: Any, x: Any, dim: Any, sizes: Any) -> Any:
        rank, axis = x.type().dim(), dim.node().t("value").item()
        axis %= rank
        shape, parts = g.op("Shape", x), [sizes]
        if axis > 0:
            parts.insert(0, g.op("Slice", shape, _constant(g, 0), _constant(g, axis)))
        if axis < rank - 1:
            parts.append(g.op("Slice", shape, _constant(g, axis + 1), _constant(g, _END)))
        return g.op("Reshape", x, g.op("Concat", *parts, axis_i=0) if len(parts) > 1 else sizes)

    torch.onnx.register_custom_op_symbolic("aten::unflatten", unflatten, OPSET)
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic("aten::unflatten", OPSET)


def _constant(g: Any, value: int) -> Any:
    return g.op("Constant", value_t=torch.tensor([value]))


def _join_equal_names(graph: Any) -> None:
    """Leave out nodes that only give a tensor a second name: onnxruntime stumbles at them when it folds constants."""
    outputs = {output.name for output in graph.output}
    first_names: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and node.output[0] not in outputs:
            first_names[node.output[0]] = first_names.get(node.input[0], node.input[0])
            continue
        for index, name in enumerate(node.input):
            node.input[index] = first_names.get(name, name)
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
