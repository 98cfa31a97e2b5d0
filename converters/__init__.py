"""Keras checkpoints to torch modules, by way of ONNX, each with a proof that it computes the same."""
