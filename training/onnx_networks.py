"""Torch networks as ONNX graphs, and ONNX graphs as plain functions of numpy arrays."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

OPSET = 20
BATCH = 64

Network = Callable[[np.ndarray], np.ndarray]


def to_onnx(module: nn.Module, example: Tensor, input_name: str, output_name: str) -> onnx.ModelProto:
    """Traces a module into an ONNX graph whose batch size is free.

    Args:
        module: in evaluation mode, on the CPU.
        example: an input, [2 or more, …].
        input_name, output_name: names in the graph.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of operators of packages that are not there
    with warnings.catch_warnings(), torch.no_grad():  # as it will be asked, not as it was taught
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[input_name],
            output_names=[output_name],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    for node in model.graph.node:  # the tracer's remarks name files of the machine that made the graph
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    return model


def open_network(model: onnx.ModelProto | Path) -> Network:
    """An ONNX graph with one input and one output as a function, run on all cores in batches of 64."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def call(x: np.ndarray) -> np.ndarray:
        parts = [session.run(None, {name: x[i : i + BATCH]})[0] for i in range(0, len(x), BATCH)]
        return np.concatenate(parts)

    return call


def constant_values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every stored constant of a graph, and all that it computes of constants alone, by name.

    Compact weights are small graphs of their own (`training.compact`); the runtime computes them.
    """
    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    known, nodes = set(values), []
    for node in graph.node:
        if all(name in known for name in node.input if name):
            nodes.append(node)
            known.update(node.output)
    if not nodes:
        return values
    computed = [name for node in nodes for name in node.output]
    outputs = [onnx.ValueInfoProto(name=name) for name in computed]
    alone = helper.make_graph(nodes, "constants", [], outputs, initializer=graph.initializer)
    part = helper.make_model(alone, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return values | dict(zip(computed, session.run(computed, {}), strict=True))
