"""The networks as ONNX graphs, which run without torch."""
