"""Writes models for programs that lack this package: as ONNX, and as StableHLO.

Open `network.py` first: a `PortableNetwork` is a function from bytes to probabilities,
with what the user of a file must know of it. `model_files.py` turns it into the bytes
of a file, runs these on real digits, and compares. `onnx_model.py` converts a jaxpr to
ONNX, with the operators in `onnx_operators.py` and `onnx_moves.py`, by `onnx_graph.py`.

Others may use the public names of `network` and `model_files`.
"""
