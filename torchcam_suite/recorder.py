"""Record what a layer computed and how a score depends on it: the only place that puts hooks on a module."""

import threading
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from torchcam_suite.errors import GradientError, LayerError


class Site(NamedTuple):
    """One place in a forward pass: the output of one call of one module.

    Attributes
    ----------
    module : str
        Dotted path, as for `torch.nn.Module.get_submodule`; the empty path is the root.
    call : int
        Which call of that module during one forward pass, from 0: a shared module has several.
    """

    module: str
    call: int = 0

    def __str__(self) -> str:
        return "the input" if self == INPUT else f"{self.module or 'the root module'!r} (call {self.call})"


def logits_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """What gives the logits: an imported module says so; what another one calls `logits` may be a layer."""
    said: Any = module
    return said.logits if getattr(module, "gives_logits", False) is True else module


INPUT = Site("", -1)  # of a forward pass: what goes into the module


class Recorder:
    """Capture or replace the outputs of layers, and differentiate scores with respect to them.

    Inside the ``with`` block the module is in eval mode and its parameters ask for no gradient; hooks are
    on it only while `run` runs. After the block, and after any exception, the module is as it was: hooks,
    train flag of every submodule, ``requires_grad`` and ``.grad`` of every parameter, grad mode.

    The differentiated graph starts at the first captured site that the forward pass reaches: nothing below
    it is kept in memory, and a frozen model works like any other. A captured tensor is a copy, so that an
    in-place operation after the layer neither alters what was captured nor breaks the graph.

    Parameters
    ----------
    module : nn.Module
        The module that `sites` refer to.
    sites : sequence of Site
        What to capture; `INPUT` for the images themselves.
    gradients : bool
        Whether `gradients` will be called. Without it a run keeps no graph at all.
    replace : mapping of Site to function, optional
        ``replace[site](output)`` takes the place of the output of that site; captures see the new value.

    Attributes
    ----------
    activations : dict of Site to Tensor
        What the last run captured, detached, in the order of `sites`.

    Raises
    ------
    LayerError
        On entering: a path is not in the module.
    GradientError
        On entering: gradients are asked of parameters or buffers that were made in inference mode.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(2))
    >>> images = torch.zeros(1, 3, 8, 8)
    >>> _ = net(images)
    >>> with Recorder(net, [Site("0")], gradients=True) as recorder:
    ...     logits = recorder.run(net, images)
    ...     gradients = recorder.gradients(logits[:, 1].sum())
    >>> recorder.activations[Site("0")].shape == gradients[Site("0")].shape
    True
    """

    def __init__(
        self,
        module: nn.Module,
        sites: Sequence[Site] = (),
        *,
        gradients: bool = False,
        replace: Mapping[Site, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        self.activations: dict[Site, Tensor] = {}
        self._module = module
        self._sites = tuple(sites)
        self._replace = dict(replace or {})
        self._differentiable = gradients
        self._tracked: dict[Site, Tensor] = {}
        self._hooked: dict[str, nn.Module] = {}
        self._blocks: list[ExitStack] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(_alone_with(self._module))
            stack.enter_context(_autograd(self._differentiable))
            stack.enter_context(_evaluating(self._module))
            if self._differentiable:
                _require_normal_tensors(self._module)
                stack.enter_context(_frozen(self._module))
            self._hooked = _find_modules(self._module, [*self._sites, *self._replace])
            self._blocks.append(stack.pop_all())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracked = {}
        self._blocks.pop().__exit__(kind, error, trace)

    def run(self, forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Run one forward pass, capturing and replacing.

        Parameters
        ----------
        forward : function
            The module itself, or a method of it (``module.logits``).
        images : Tensor
            The batch, of any shape and dtype that `forward` takes.

        Returns
        -------
        Tensor
            What `forward` returned; with ``gradients=True`` it carries the graph from the captured sites on.

        Raises
        ------
        LayerError
            A site was not reached, or its output is not one floating-point tensor.
        """
        if not self._blocks:
            raise RuntimeError("Recorder.run works inside its block: with Recorder(module, ...) as recorder")
        self.activations, self._tracked = {}, {}
        calls: Counter[str] = Counter()
        with ExitStack() as stack:
            stack.enter_context(_autograd(self._differentiable))
            for path, module in self._hooked.items():
                stack.enter_context(module.register_forward_hook(partial(self._hook, path, calls)))
            output = forward(self._input(_outside_any_graph(images)))
        self._require_reached(calls)
        self.activations = {site: self.activations[site] for site in self._sites}
        return output

    def gradients(
        self, score: Tensor, *, retain_graph: bool = False, optional: Container[Site] = ()
    ) -> dict[Site, Tensor]:
        """Differentiate a score of the last run with respect to every captured activation.

        Parameters
        ----------
        score : Tensor
            A single value. Summing one score per image gives each image its own gradient, because images
            do not interact in eval mode.
        retain_graph : bool
            Keep the graph, to differentiate another score of the same run.
        optional : container of Site, optional
            Sites that the score need not depend on; they are left out of the result then.

        Returns
        -------
        dict of Site to Tensor
            In the order of `sites`; each of the shape and dtype of the activation.

        Raises
        ------
        GradientError
            The score is not a single value, carries no graph, or does not depend on a captured layer; or the model
            computes a part of itself again for the gradient.
        """
        self._require_differentiable(score)
        sites = list(dict.fromkeys(self._sites))
        leaves = [self._tracked[site] for site in sites]
        with _checkpoints_told():
            found = torch.autograd.grad(score, leaves, retain_graph=retain_graph, allow_unused=True)
        arrived = {site: gradient for site, gradient in zip(sites, found, strict=True) if gradient is not None}
        missing = [str(site) for site in sites if site not in arrived and site not in optional]
        if missing:
            raise GradientError(
                f"no gradient arrives at layer {', '.join(missing)}: the score does not depend on it; "
                "choose a layer on the way from the input to the score"
            )
        return arrived

    def _input(self, images: Tensor) -> Tensor:
        if INPUT in self._replace:
            images = self._replace[INPUT](images)
        return self._capture(INPUT, _one_floating_tensor(INPUT, images)) if INPUT in self._sites else images

    def _hook(self, path: str, calls: Counter[str], _module: nn.Module, _args: Any, output: Any) -> Any:
        site = Site(path, calls[path])
        calls[path] += 1
        if site in self._replace:
            output = self._replace[site](_one_floating_tensor(site, output))
        return self._capture(site, _one_floating_tensor(site, output)) if site in self._sites else output

    def _capture(self, site: Site, output: Tensor) -> Tensor:
        if not self._differentiable:
            self.activations[site] = output.detach().clone()
            return output
        # A model may run part of itself under no_grad (a frozen backbone): the rest of that part is explained too.
        torch.set_grad_enabled(True)
        if self._tracked and output.requires_grad:
            captured = output.clone()
        else:
            captured = output.detach().clone().requires_grad_()
        self._tracked[site] = captured
        self.activations[site] = captured.detach()
        # The forward pass goes on with a copy: an in-place operation on a leaf is an error.
        return captured.clone()

    def _require_reached(self, calls: Counter[str]) -> None:
        for site in (*self._sites, *self._replace):
            if site != INPUT and site.call not in range(calls[site.module]):
                raise LayerError(
                    f"layer {site} was not reached: this forward pass calls the module {calls[site.module]} "
                    "time(s), counted from 0; choose a call that happens, or a module that is called"
                )

    def _require_differentiable(self, score: Tensor) -> None:
        if not self._tracked:
            raise GradientError(
                "there is no run to differentiate: use Recorder(module, sites, gradients=True), call run, "
                "and ask for gradients inside the same block"
            )
        if score.numel() != 1:
            raise GradientError(
                f"the score has shape {tuple(score.shape)}; expected a single value: sum the scores of the images"
            )
        if not score.requires_grad:
            raise GradientError(
                f"the score carries no graph, so no gradient arrives at layer "
                f"{', '.join(map(str, self._tracked))}: it does not depend on that layer, or it was detached"
            )


class LayerCall(NamedTuple):
    """One call of one module that gave a floating-point tensor.

    Attributes
    ----------
    site : Site
        Which call of which module.
    class_name : str
        The module's class.
    shape : tuple of int
        Shape of the output without the batch.
    """

    site: Site
    class_name: str
    shape: tuple[int, ...]


def layer_calls(
    module: nn.Module, images: Tensor, forward: Callable[[Tensor], Any] | None = None
) -> tuple[list[LayerCall], Any]:
    """Run one forward pass and list the module calls in the order in which they end, the root left out.

    Parameters
    ----------
    module : nn.Module
        Whose parts are listed.
    images : Tensor
        The batch.
    forward : function, optional
        A method of the module that is run in its place.

    Returns
    -------
    list of LayerCall
        A module that is called three times stands there three times; calls that give something else than
        one floating-point tensor are counted and left out.
    object
        What the module gave.
    """
    calls: list[LayerCall] = []
    counts: Counter[str] = Counter()

    def note(path: str, part: nn.Module, _args: Any, output: Any) -> None:
        site = Site(path, counts[path])
        counts[path] += 1
        if isinstance(output, Tensor) and output.is_floating_point():
            calls.append(LayerCall(site, type(part).__name__, tuple(output.shape[1:])))

    with ExitStack() as stack:
        stack.enter_context(_autograd(False))
        stack.enter_context(_evaluating(module))
        for path, part in module.named_modules():
            if path:
                stack.enter_context(part.register_forward_hook(partial(note, path)))
        return calls, (forward or module)(images)


@contextmanager
def _autograd(enabled: bool) -> Iterator[None]:
    """Set the grad mode whatever the caller's is, `torch.inference_mode` included."""
    with torch.inference_mode(False), torch.set_grad_enabled(enabled):
        yield


_locks: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_lock_of_locks = threading.Lock()


def _alone_with(module: nn.Module) -> Any:
    """A lock of the module: hooks and train flags are seen by every thread that runs it."""
    with _lock_of_locks:
        return _locks.setdefault(module, threading.RLock())


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Clear every train flag. The flags themselves: `train()` is overridden by models that merge weights."""
    flags = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in flags:
            part.training = False
        yield
    finally:
        for part, training in flags:
            part.training = training


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Take requires_grad off all parameters: the activations that only weight gradients need are not kept."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextmanager
def _checkpoints_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "checkpoint" not in str(error):
            raise
        raise GradientError(
            f"the model computes a part of itself again for the gradient ({str(error).splitlines()[0]:.100}); switch "
            "torch.utils.checkpoint off, as by model.set_grad_checkpointing(False): only training needs it"
        ) from error


def _require_normal_tensors(module: nn.Module) -> None:
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if tensor.is_inference():
            raise GradientError(
                f"{name!r} was made inside torch.inference_mode, and autograd cannot use it; "
                "build or load the model outside that block"
            )


def _find_modules(module: nn.Module, sites: Sequence[Site]) -> dict[str, nn.Module]:
    known = dict(module.named_modules(remove_duplicate=False))
    sites = [site for site in sites if site != INPUT]
    for site in sites:
        if site.module not in known:
            near = get_close_matches(site.module, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "named_modules() lists the paths"
            raise LayerError(f"layer {site.module!r} is not in this {type(module).__name__}; {hint}")
    return {site.module: known[site.module] for site in sites}


def _outside_any_graph(images: Tensor) -> Tensor:
    """Cut the images off; an inference tensor is copied, because autograd cannot save it."""
    return images.clone() if images.is_inference() else images.detach()


def _one_floating_tensor(site: Site, output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        what = f"a {type(output).__name__}"
    elif not output.is_floating_point():
        what = f"a tensor of {output.dtype}"
    else:
        return output
    raise LayerError(
        f"layer {site} gives {what}; expected one floating-point tensor: choose a layer inside or after it"
    )
