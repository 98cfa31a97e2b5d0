"""What Keras 3 on its torch backend computes of a checkpoint, as a process of its own: `python -m converters.opinions`.

Neither TensorFlow nor onnx2torch has a part in it, so it can find a fault of either.
"""
