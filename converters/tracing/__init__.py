"""The only code that imports TensorFlow. It runs as a process of its own: `python -m converters.tracing FOLDER`.

In one process TensorFlow and torchvision or onnx2torch abort with an LLVM error (an option registered
twice), and a process of its own bounds what a checkpoint can use. Importing this package imports nothing;
`converters.worker` starts it.
"""
