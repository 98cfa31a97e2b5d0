"""Write the weights of the golden Xception: `python build_weights.py WEIGHTS.h5` (imports TensorFlow)."""

import json
import os
import sys
from pathlib import Path

from recipe import recipe_weights


def main() -> None:
    """Draw the weights and let Keras 2 write them."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import tf_keras

    folder = Path(__file__).parent
    manifest = json.loads((folder / "weights_manifest.json").read_text())
    model = tf_keras.models.model_from_json((folder / "model.json").read_text())
    assert [variable.name for variable in model.weights] == [entry["name"] for entry in manifest["arrays"]]
    model.set_weights(recipe_weights(manifest["arrays"], manifest["weight_seed"]))
    model.save_weights(sys.argv[1])


if __name__ == "__main__":
    main()
