"""Smaller models from large ones: `afterimage compress`. Only `graph` knows onnx."""
