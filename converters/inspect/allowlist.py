"""Judge an architecture: all that it names has to be Keras' own and harmless, or vouched for by the user."""

import re
from collections.abc import Iterator, Set
from typing import Any

from converters import keras_names
from converters.errors import CheckpointError, UnsafeCheckpointError, UnsupportedModelError

JsonObject = dict[str, Any]

LARGEST = 1 << 24  # of the whole numbers of a configuration; the largest dense layer of a classifier has 65,536 units
_UNBOUNDED = frozenset({"seed", "shared_object_id"})  # identities, not sizes
# Keras 2 makes whole numbers of what these hold, be it 1e9 or "1000000000"
_COUNTS = frozenset("depth_multiplier filters input_dim key_dim num_heads output_dim units value_dim".split())
_SIZES = _COUNTS | frozenset(
    """
    batch_input_shape batch_shape cropping dilation_rate groups height kernel_size n output_shape padding pool_size size
    strides target_shape width
    """.split()
)
_NUMBERS = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64".split())
_KNOWN = keras_names.MODELS | keras_names.LAYERS | keras_names.CONFIGURATION
_SETTINGS = {name.lower() for name in keras_names.CONFIGURATION} | set("uniform normal zero one identity".split())
# a file elsewhere: from the root, from the home, of a drive, of a server, or by way of a parent folder
_PATH = re.compile(r"^[/~\\]|^[A-Za-z]:[\\/]|://|(^|[/\\])\.\.([/\\]|$)")
_NOT_IN_NAMES = set("\"'\\`")


def without_training(node: Any) -> Any:
    """A copy without optimizers, losses and metrics: nobody wants them here, and they name code too."""
    if isinstance(node, list):
        return [without_training(child) for child in node]
    if isinstance(node, dict):
        return {key: without_training(child) for key, child in node.items() if key != "compile_config"}
    return node


def refuse_foreign_code(architecture: JsonObject, where: str, allow: Set[str] = frozenset()) -> None:
    """Walk every value of an architecture and refuse what is not on the lists of `keras_names`.

    Parameters
    ----------
    architecture : dict
        As parsed from the file.
    where : str
        Its name, for messages.
    allow : set of str
        Names of classes and functions that the user vouches for, and `Lambda:<layer>` for each Lambda layer whose
        code is replaced.

    Raises
    ------
    UnsafeCheckpointError
        Naming the place.
    CheckpointError
        What should be text is not.
    """
    if not isinstance(architecture.get("class_name"), str):
        raise CheckpointError(f"{where} has no class_name at its top: not a Keras architecture")
    for path, key, value in _values(architecture, where, allow):
        if isinstance(value, dict) and "class_name" in value:
            _refuse_object(value, path, allow)
        elif isinstance(value, str):
            _refuse_text(key, value, path, allow)
        elif isinstance(value, int | float) and abs(value) > LARGEST and _is_size(key, value):
            raise UnsafeCheckpointError(
                f"{path}: {key} is {value:,}, more than any layer of an image classifier has ({LARGEST:,}); "
                f"building it would fill the memory"
            )


def _is_size(key: str, value: float) -> bool:
    """Whether a number may be the size of something; other numbers with a point may be anything, as a mask of -1e9."""
    return key in _SIZES or (isinstance(value, int) and key not in _UNBOUNDED)


def _values(node: Any, path: str, allow: Set[str]) -> Iterator[tuple[str, str, Any]]:
    """(names of the layers that lead to it, key, value) of everything in a tree of dicts and lists."""
    pending = [(path, "", node)]
    while pending:
        path, key, value = pending.pop()
        if isinstance(value, dict):
            name = _name(value) if "class_name" in value else None
            path = path if name is None else f"{path} > {name}"
            yield path, key, value
            if not _is_vouched_lambda(value, allow):
                pending += [(path, _shown(inner), child) for inner, child in value.items()]
                pending += [(path, "a key", inner) for inner in value]
        elif isinstance(value, list):
            pending += [(path, key, child) for child in value]
        else:
            yield path, key, value


def _name(node: JsonObject) -> str | None:
    """The name of an object, for messages."""
    config = node.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    return _shown(name) if isinstance(name, str) else None


def _shown(text: str) -> str:
    """Text of the file's as a terminal may print it."""
    return text[:200] if text.isprintable() else repr(text[:200])


def _is_vouched_lambda(node: JsonObject, allow: Set[str]) -> bool:
    config = node.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    return node.get("class_name") == "Lambda" and f"Lambda:{name}" in allow


# ---------------------------------------------------------------- objects


def _refuse_object(node: JsonObject, path: str, allow: Set[str]) -> None:
    class_name, module, registered = node["class_name"], node.get("module"), node.get("registered_name")
    if not (isinstance(class_name, str) and isinstance(module, str | None) and isinstance(registered, str | None)):
        raise CheckpointError(
            f"{path}: class_name, module and registered_name should be text, "
            f"found {class_name!r}, {module!r} and {registered!r}"
        )
    if _is_vouched_lambda(node, allow):
        return
    if class_name in keras_names.DANGEROUS:
        _refuse_dangerous(class_name, path)
    if class_name in allow:
        return
    if class_name == "function":
        _refuse_function(node, path, allow)
        return
    _refuse_registered_name(class_name, registered, path)
    if module is None and _is_bare_operation(class_name, node):
        raise UnsupportedModelError(
            f"{path} is an operation between layers, as x + y or keras.ops.relu(x), which Keras 3 writes to .h5 in a "
            f"way that it cannot read itself; save the model as .keras: model.save('model.keras')"
        )
    if class_name in {"TFOpLambda", "SlicingOpLambda"}:
        _refuse_tensor_function(node, path)
    elif module in keras_names.OPERATION_MODULES:
        if class_name not in keras_names.OPERATIONS:
            raise UnsafeCheckpointError(
                f"{path}: {module}.{_shown(class_name)} is not on the list of harmless operations"
            )
    elif not _is_home(module, class_name):
        raise UnsafeCheckpointError(
            f"{path}: {_shown(class_name)} comes from module {module!r}, not from Keras; refused"
        )
    elif class_name not in _KNOWN:
        raise UnsafeCheckpointError(
            f"{path}: {class_name!r} is no class of Keras' own; custom layers and functions are refused, because "
            f"building them would run code that the checkpoint chooses. If you have its code and trust it, name it: "
            f"custom='module:{class_name}', on the command line --custom module:{class_name}"
        )
    _refuse_array(class_name, node, path)


def _is_bare_operation(class_name: str, node: JsonObject) -> bool:
    """Whether an entry of Keras 3's .h5 is an operation: one that no layer is called, or one with two operands.

    A layer such as Add is given one list.
    """
    calls = node.get("inbound_nodes")
    if class_name not in keras_names.OPERATIONS or not isinstance(calls, list):
        return False
    arguments = [call["args"] for call in calls if isinstance(call, dict) and isinstance(call.get("args"), list)]
    return bool(arguments) and (class_name not in _KNOWN or any(len(given) > 1 for given in arguments))


def _refuse_dangerous(class_name: str, path: str) -> None:
    what = "a Lambda layer" if class_name in {"Lambda", "__lambda__"} else f"a {class_name}"
    advice = (
        "Rebuild the model with a standard layer (Rescaling, Activation, ...) in its place and save it again, or say "
        "what it computes by a function of your own: custom='Lambda:NAME=module:function'"
        if class_name in {"Lambda", "__lambda__"}
        else "Take it out of the model and save it again"
    )
    raise UnsafeCheckpointError(f"{path} is {what}: it {keras_names.DANGEROUS[class_name]}. {advice}")


def _refuse_function(node: JsonObject, path: str, allow: Set[str]) -> None:
    """A function by name: an activation of Keras' own, from where Keras keeps them."""
    name, module, registered = node.get("config"), node.get("module"), node.get("registered_name")
    if isinstance(name, str) and name in allow:
        return
    if module != "builtins" and not _is_home(module, "function"):
        raise UnsafeCheckpointError(
            f"{path}: function {name!r:.80} comes from module {module!r}, not from Keras; refused"
        )
    if not (isinstance(name, str) and name in keras_names.ACTIVATIONS and registered in {None, name, "function"}):
        raise UnsafeCheckpointError(
            f"{path}: function {name!r:.80} (registered as {registered!r:.80}) is no activation of Keras' own; "
            f"refused. If you have its code and trust it, name it: custom='module:function' (--custom)"
        )


def _refuse_registered_name(class_name: str, registered: str | None, path: str) -> None:
    if registered not in {None, class_name, f"Keras>{class_name}"}:
        raise UnsafeCheckpointError(
            f"{path}: {_shown(class_name)} is registered as {registered!r:.80}, "
            f"under which Keras may find something else"
        )


def _refuse_tensor_function(node: JsonObject, path: str) -> None:
    config = node.get("config")
    function = config.get("function") if isinstance(config, dict) else None
    if not (isinstance(function, str) and function in keras_names.TENSOR_FUNCTIONS):
        raise UnsafeCheckpointError(
            f"{path} calls tf.{_shown(str(function))}, which is not on the list of harmless functions"
        )


def _is_home(module: str | None, class_name: str) -> bool:
    """Whether Keras keeps its classes in that module; without a module it looks only among its own."""
    if module is None or (class_name, module) in keras_names.OTHER_HOMES:
        return True
    package, *parts = module.split(".")
    if package not in {"keras", "tf_keras"}:
        return False
    parts = parts[1:] if parts[:1] == ["src"] else parts
    return not parts or parts[0] in keras_names.HOMES


def _refuse_array(class_name: str, node: JsonObject, path: str) -> None:
    if class_name not in {"__numpy__", "__tensor__"}:
        return
    config = node.get("config")
    dtype = config.get("dtype") if isinstance(config, dict) else None
    if not (isinstance(dtype, str) and dtype in _NUMBERS):
        raise UnsafeCheckpointError(f"{path} holds an array of {dtype!r:.80}; expected numbers, as float32")


# ---------------------------------------------------------------- text


def _is_setting(text: str) -> bool:
    """Whether a name is of an initializer, regularizer or constraint, as in `GlorotUniform` or `glorot_uniform`."""
    return text.replace("_", "").lower() in _SETTINGS


def _refuse_text(key: str, text: str, path: str, allow: Set[str]) -> None:
    if key.endswith("activation") and text not in keras_names.ACTIVATIONS and text not in allow:
        raise UnsafeCheckpointError(
            f"{path}: {key} {text!r:.80} is no activation of Keras' own; refused. If you have its code and trust it, "
            f"name it: custom='module:{text:.80}' (--custom)"
        )
    if key.endswith(("_initializer", "_regularizer", "_constraint")) and not (_is_setting(text) or text in allow):
        raise UnsafeCheckpointError(f"{path}: {key} {text!r:.80} is none of Keras' own; refused")
    if key in _COUNTS:
        raise UnsafeCheckpointError(f"{path}: {key} is the text {text!r:.80}; expected a number")
    if key == "name" and (not text.isprintable() or _NOT_IN_NAMES & set(text)):
        raise UnsafeCheckpointError(f"{path}: the name {text!r:.80} holds characters of no Keras name")
    if _PATH.search(text) or "\x00" in text:
        raise UnsafeCheckpointError(
            f"{path}: {key} {text!r:.80} looks like the path of a file; a checkpoint has to bring all that it needs"
        )
