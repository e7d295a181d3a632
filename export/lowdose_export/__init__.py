"""Checkpoint in, one ONNX model file out, with a parity check."""
