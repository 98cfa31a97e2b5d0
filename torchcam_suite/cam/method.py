"""What a method is, and the table of all methods.

A method is a function of tensors. The names of its positional parameters say what it takes of one recorded pass (see
`RECORDED`), its keyword-only parameters are its options. A method that needs more forward or backward passes is a
generator: it yields a request of `torchcam_suite.cam.requests` and is sent the answer. It returns the raw maps, or a
`Raw` with counts worth reporting. Hooks, batches, devices and finishing are the engine's.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, TypeVar, get_type_hints

from torch import Tensor

from torchcam_suite.cam.bounds import converted
from torchcam_suite.cam.saliency_map import Interpolation, Rectification
from torchcam_suite.targets import Of

Cost = Literal["one forward", "one backward", "several backwards", "many forwards"]
Precision = Literal["float32", "tf32", "bf16", "fp16"]
Scale = Literal["max", "minmax"]

RECORDED = {
    "activations": "A, (N, C, h, w), the layer's feature maps",
    "gradients": "dy/dA, of the same shape",
    "images": "X, (N, c, H, W), the model's input",
    "input_gradient": "dy/dX, of the shape of the images",
    "guided_gradient": "the same, where each ReLU lets only positive gradients through",
    "bias_gradients": "dy/db b, one (N, C, h, w) for each layer with a bias and a spatial output",
}


class Raw(NamedTuple):
    """What a method gives where it has more to tell than its maps.

    Attributes
    ----------
    raw : Tensor
        (N, h, w), signed.
    counts : dict of str to int
        Figures worth keeping, of the batch together: as how many channels were skipped.
    """

    raw: Tensor
    counts: dict[str, int]


@dataclass(frozen=True)
class Rules:
    """What is explained, and how `torchcam_suite.cam.saliency_map.finish` completes the map, unless the user says.

    The defaults are those of most papers.

    Attributes
    ----------
    of : {"logit", "probability"}
        What is explained.
    relu : {"before", "after", "none"}
        ReLU before the upsampling, after it, or not at all; "none" needs "minmax".
    normalize : {"max", "minmax"}
        How the map is brought to [0, 1].
    """

    of: Of = "logit"
    relu: Rectification = "before"
    normalize: Scale = "max"


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes
    ----------
    name : str
        As users ask for it.
    title : str
        As it is written.
    summary : str
        What it does, in one line.
    source : str
        The paper.
    cost : str
        What one image costs beside its forward pass; "one forward" means nothing more.
    function : function
        See the module's text.
    rules : Rules, or function of the method's options
        What holds unless the user says otherwise.
    special_needs : tuple of str
        What it needs that its parameters do not tell, in a word or two each.
    """

    name: str
    title: str
    summary: str
    source: str
    cost: Cost
    function: Callable[..., Any]
    rules: Rules | Callable[..., Rules]
    special_needs: tuple[str, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """What it takes of the recorded pass, keys of `RECORDED`."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY)

    @property
    def takes_layer(self) -> bool:
        """Whether it explains a layer; otherwise it explains the model's input."""
        return "activations" in self.takes

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs, with its default options: as a layer, ReLUs, or a head that gives probabilities."""
        derived = {
            "layer": self.takes_layer,
            "ReLU": "guided_gradient" in self.takes,
            "head": self.default_rules.of == "probability",
        }
        return *(need for need, needed in derived.items() if needed), *self.special_needs

    @property
    def default_rules(self) -> Rules:
        """What holds with its default options."""
        return self.rules(**self.own_options) if callable(self.rules) else self.rules

    @property
    def own_options(self) -> dict[str, Any]:
        """Its own options and their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {
            parameter.name: parameter.default for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY
        }

    @property
    def options(self) -> tuple[str, ...]:
        """The names of all options, those of the engine included."""
        passes = ("chunk_size", "precision", "compile") if self.cost == "many forwards" else ()
        return *self.own_options, "of", "relu", "normalize", "interpolation", *passes

    @property
    def option_types(self) -> dict[str, Any]:
        """The type of each option."""
        types = get_type_hints(Chosen) | get_type_hints(self.function)
        return {name: types[name] for name in self.options}


@dataclass(frozen=True)
class Chosen:
    """A method with a value for each of its options.

    Attributes
    ----------
    method : Method
    own : dict
        The options of the method's function.
    of : {"logit", "probability"}
        What is explained.
    relu : {"before", "after", "none"}
        ReLU before the upsampling, as in most papers, after it, as in some Keras code, or not at all.
    normalize : {"max", "minmax"}
        How the map is brought to [0, 1].
    interpolation : {"bilinear", "nearest"}
        How it is brought to the size of the image.
    chunk_size : int or "auto"
        Inputs in one of the many forward passes; "auto" halves where memory runs out.
    precision : {"float32", "tf32", "bf16", "fp16"}
        Of those passes: the model's own dtype without TF32, or an approximation of it.
    compile : bool
        Whether torch.compile makes passes of masked inputs faster; the first one then takes a minute.
    """

    method: Method
    own: Mapping[str, Any]
    of: Of
    relu: Rectification
    normalize: Scale
    interpolation: Interpolation = "bilinear"
    chunk_size: int | Literal["auto"] = "auto"
    precision: Precision = "float32"
    compile: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Every option by name, as a JSON value."""
        return {name: self.own.get(name, getattr(self, name, None)) for name in self.method.options}


F = TypeVar("F", bound=Callable[..., Any])

METHODS: dict[str, Method] = {}


def method(
    name: str,
    title: str,
    summary: str,
    *,
    source: str,
    cost: Cost,
    rules: Rules | Callable[..., Rules] = Rules(),
    needs: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Enter a function into `METHODS`; the arguments are those of `Method`, `needs` its `special_needs`.

    Raises
    ------
    TypeError
        The function takes what is not recorded, or another module has entered this name. The same module may enter it
        again, as a notebook does.
    """

    def enter(function: F) -> F:
        entry = Method(name, title, summary, source, cost, function, rules, needs)
        unknown = set(entry.takes) - set(RECORDED)
        if unknown:
            raise TypeError(f"{name} takes {', '.join(sorted(unknown))}; a method can take {', '.join(RECORDED)}")
        if name in METHODS and METHODS[name].function.__module__ != function.__module__:
            raise TypeError(f"a method {name!r} exists already, {METHODS[name].title}; give yours another name")
        METHODS[name] = entry
        return function

    return enter


def make_method(name: str, options: Mapping[str, Any]) -> Chosen:
    """Look a method up and give it its options.

    Raises
    ------
    ValueError
        An unknown method, an option that it does not have, or a value that the option does not take.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"method={name!r:.80}; expected the name of one, as 'gradcam'; ask for each by a call of its own"
        )
    if name not in METHODS:
        near = get_close_matches(name.lower().replace("-", "").replace("_", ""), METHODS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"method {name!r} does not exist; {hint}expected one of {', '.join(METHODS)}")
    found = METHODS[name]
    for option in options:
        if option not in found.options:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(found.options)}")
    own = found.own_options | {option: value for option, value in options.items() if option in found.own_options}
    own = _converted(name, get_type_hints(found.function), own)
    rules = found.rules(**own) if callable(found.rules) else found.rules
    usual = {"of": rules.of, "relu": rules.relu, "normalize": rules.normalize}
    given = {option: value for option, value in options.items() if option not in own and value is not None}
    chosen = Chosen(found, own, **_converted(name, get_type_hints(Chosen), usual | given))
    if chosen.relu == "none" and chosen.normalize == "max":
        raise ValueError(
            f"{name}: relu='none' leaves negative values; normalize='minmax' brings them to [0, 1] "
            "(--option normalize=minmax)"
        )
    return chosen


def _converted(name: str, types: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {option: converted(option, value, types[option]) for option, value in values.items()}
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
