"""A device beside the CPU, without a GPU: tensors that say they are on `cuda:0`, hold their values on the CPU, and meet
tensors of the CPU only where CUDA allows it.

What a run on it proves: no operation mixes devices, nothing reads a tensor's memory before it was brought back, and
what was sent with ``non_blocking=True`` is not read before its event. It proves nothing of CUDA's kernels, their
numbers, its memory or its speed, of CUDA graphs or of compiled code; half precision is that of the CPU's autocast.

The device is known to Python alone: below, torch sees a CPU tensor without memory whose operations are done here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Self

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("cuda:0")
FREE, TOTAL = 2**30, 2**31  # bytes of the card
NAME = "a simulated GPU"

_aten: Any = torch.ops.aten
_COPY = _aten._to_copy.default
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
# What takes a single number from the CPU although torch does not call it pointwise.
_WITH_NUMBERS = {_aten.where.self, _aten.masked_fill.Tensor, _aten.masked_fill_.Tensor, _aten.fill_.Tensor} | _INDEXING
_MADE_FROM_DATA = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}


class OnDevice(Tensor):
    """A tensor on the simulated device; `held` has its values."""

    held: Tensor
    device = property(lambda _: DEVICE)  # type: ignore[assignment]
    is_cuda = property(lambda _: True)  # type: ignore[assignment]
    is_cpu = property(lambda _: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, layout=held.layout, device="cpu"
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        return self.detach().cpu().numpy() if force else self._refuse()

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.held!r})"


@contextmanager
def simulated_cuda() -> Iterator[None]:
    """Inside the block, `cuda` is there; modules that are moved get parameters of the device."""
    autocast, swaps = torch.autocast, torch.__future__.get_swap_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _OF_TORCH_CUDA.items():
            patch.setattr(torch.cuda, name, value)
        for name, value in _OF_TORCH_ACCELERATOR.items():
            patch.setattr(torch.accelerator, name, value)
        patch.setattr(torch, "autocast", lambda _, **options: autocast("cpu", **options))
        patch.setattr(torch.autograd, "_engine_run_backward", _backwards(torch.autograd._engine_run_backward))
        patch.setattr(Tensor, "pin_memory", lambda self, *_: self.clone())
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            with _Computing(), _Placing():
                yield
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swaps)
            _on_their_way.clear()


# ---------------------------------------------------------------- what is asked for by name


class _Placing(TorchFunctionMode):
    """Calls that name a device; torch would ask the driver for the number of the current one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.to, Tensor.type_as):
            return _moved(*args, **kwargs)
        if func in (Tensor.cpu, Tensor.cuda):
            return _moved(args[0], "cpu" if func is Tensor.cpu else DEVICE, **kwargs)
        if func in _MADE_FROM_DATA:
            device = kwargs.pop("device", args[0].device if func is Tensor.new_tensor else None)
            made = func(*args, **kwargs)
            return made if device is None else _moved(made, device)
        if kwargs.get("device") is not None:
            device = _numbered(kwargs.pop("device"))
            if any(isinstance(leaf, OnDevice) for leaf in tree_leaves(args)):
                return _moved(func(*args, **kwargs), device)
            kwargs["device"] = device
        return func(*args, **kwargs)


def _backwards(run: Callable[..., Any]) -> Callable[..., Any]:
    """Torch has left the mode when it comes to backward functions that are written in Python."""

    def run_inside(*args: Any, **kwargs: Any) -> Any:
        with _Placing():
            return run(*args, **kwargs)

    return run_inside


def _numbered(device: Any) -> torch.device:
    return DEVICE if torch.device(device).type == "cuda" else torch.device(device)


def _moved(tensor: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
    """As `Tensor.to`."""
    like = args[0] if args and isinstance(args[0], Tensor) else kwargs.pop("other", None)
    if like is not None:
        args = (like.device, like.dtype, *args[1:])
    device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    same = device is None or _numbered(device) == tensor.device
    if same and not copy and dtype in (None, tensor.dtype) and memory_format is None:
        return tensor
    place = None if same else _numbered(device)
    return _COPY(tensor, dtype=dtype, device=place, non_blocking=non_blocking, memory_format=memory_format)


# ---------------------------------------------------------------- what is computed


class _Computing(TorchDispatchMode):
    """Every operation, whether a tensor of the device is in it or not."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    before = any(isinstance(leaf, OnDevice) for leaf in tree_leaves((args, kwargs)))
    given = kwargs.get("device")
    # within an operation of several, torch hands on the device that it sees
    after = before if given is None or (before and func is not _COPY) else _numbered(given) == DEVICE
    _require_one_device(func, args, kwargs, before, after)
    hold = kwargs | ({"device": torch.device("cpu")} if after and given is not None else {})
    found = func(*tree_map_only(OnDevice, _held, tuple(args)), **tree_map_only(OnDevice, _held, hold))
    if before and not after and kwargs.get("non_blocking"):
        return _sent(found)
    if before and (not after or func is _aten._local_scalar_dense.default):
        synchronize()
    if not after:
        return found
    written = _written(func, args, kwargs)
    if written is not None:
        return written
    # a view of a normal tensor is a normal tensor, also where new tensors are inference tensors
    normal = func.is_view and not args[0].is_inference()
    with torch.inference_mode(torch.is_inference_mode_enabled() and not normal):
        return tree_map_only(Tensor, OnDevice, found)


def _held(tensor: OnDevice) -> Tensor:
    return tensor.held


def _require_one_device(func: Any, args: Sequence[Any], kwargs: dict[str, Any], before: bool, after: bool) -> None:
    if after and kwargs.get("generator") is not None:
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if not before or func in (_COPY, _aten.copy_.default):
        return
    used = args if func not in _INDEXING or not isinstance(args[0], OnDevice) else (args[0], *args[2:])
    tensors = [leaf for leaf in tree_leaves((used, kwargs)) if isinstance(leaf, Tensor)]
    numbers_fit = func in _WITH_NUMBERS or torch.Tag.pointwise in func.tags
    written = _written(func, args, kwargs)
    elsewhere = [tensor for tensor in tensors if not isinstance(tensor, OnDevice)]
    if any(tensor.ndim or not numbers_fit or tensor is written for tensor in elsewhere):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})"
        )


def _written(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The tensor that an operation writes into and gives back."""
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            if torch.Tag.inplace_view in func.tags:
                raise NotImplementedError(f"{func} changes a shape in place, which the simulated device cannot show")
            return kwargs.get(argument.name) if argument.kwarg_only else args[number]
    return None


# ---------------------------------------------------------------- what is on its way

_on_their_way: list[tuple[Tensor, Tensor]] = []


def _sent(values: Tensor) -> Tensor:
    """Memory of the host that has other values until the device is waited for."""
    arriving = torch.full_like(values, torch.nan if values.is_floating_point() else True)
    _on_their_way.append((arriving, values.clone()))
    return arriving


def synchronize(_: Any = None) -> None:
    """Wait until all has arrived."""
    Event().record().synchronize()
    _on_their_way.clear()


class Event:
    """What was sent before `record` has arrived after `synchronize`."""

    def __init__(self, **_: Any) -> None:
        self._sent: list[tuple[Tensor, Tensor]] = []

    def record(self, _: Any = None) -> Self:
        self._sent = list(_on_their_way)
        return self

    def synchronize(self) -> None:
        for arriving, values in self._sent:
            arriving.untyped_storage().copy_(values.untyped_storage())


_OF_TORCH_CUDA: dict[str, Callable[..., Any] | type] = {
    "_lazy_init": lambda: None,
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_name": lambda *_: NAME,
    "get_device_capability": lambda *_: (8, 0),
    "mem_get_info": lambda *_: (FREE, TOTAL),
    "memory_allocated": lambda *_: 0,
    "memory_reserved": lambda *_: 0,
    "synchronize": synchronize,
    "Event": Event,
    "get_rng_state": lambda *_: torch.get_rng_state(),
    "set_rng_state": lambda *_: None,
}
_OF_TORCH_ACCELERATOR: dict[str, Callable[..., Any]] = {
    "is_available": lambda: True,
    "current_accelerator": lambda *_: torch.device("cuda"),
    "current_device_index": lambda: 0,
    "set_device_index": lambda _: None,
}
