"""The simulated device refuses what CUDA refuses, allows what CUDA allows, and computes what the CPU computes."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from simulated_cuda import DEVICE, Event, OnDevice
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("cuda")

HERE = torch.arange(6.0).reshape(2, 3)


def there() -> Tensor:
    return HERE.to("cuda")


# ---------------------------------------------------------------- what CUDA refuses

MIXED: dict[str, Callable[[Tensor], object]] = {
    "sum": lambda x: x + HERE,
    "sum the other way round": lambda x: HERE + x,
    "sum with one element of the CPU": lambda x: x + torch.ones(1),
    "product of matrices": lambda x: x @ HERE.T,
    "concatenation": lambda x: torch.cat([x, HERE]),
    "stack of single numbers": lambda x: torch.stack([x[0, 0], torch.tensor(1.0)]),
    "choice": lambda x: torch.where(HERE > 1, x, 0.0),
    "gather": lambda x: x.gather(1, torch.zeros(2, 1, dtype=torch.long)),
    "device's numbers into the CPU's tensor": lambda x: HERE[x.long()[0, :2]],
    "values of the CPU under a mask": lambda x: x.__setitem__(x > 3, torch.ones(2)),
    "sum in place into a number of the CPU": lambda x: torch.tensor(1.0).add_(x[0, 0]),
    "result in memory of the CPU": lambda x: torch.add(x, x, out=torch.empty(2, 3)),
    "comparison": lambda x: torch.equal(x, HERE),
    "convolution": lambda x: nn.functional.conv1d(x[None], torch.ones(1, 2, 2)),
    "layer": lambda x: nn.Linear(3, 2)(x),
    "normalization's running mean": lambda x: nn.functional.batch_norm(x, torch.zeros(3), torch.ones(3).to(x.device)),
}


@pytest.mark.parametrize("operation", MIXED.values(), ids=list(MIXED))
def test_tensors_of_two_devices_do_not_meet(operation: Callable[[Tensor], object]) -> None:
    with pytest.raises(RuntimeError, match="same device, but found at least two devices, cuda:0 and cpu"):
        operation(there())


READING: dict[str, Callable[[Tensor], object]] = {
    "numpy": lambda x: x.numpy(),
    "asarray": np.asarray,
    "array's function": lambda x: np.add(x, 1),  # type: ignore[call-overload]
}


@pytest.mark.parametrize("read", READING.values(), ids=list(READING))
def test_memory_of_the_device_is_not_read_as_an_array(read: Callable[[Tensor], object]) -> None:
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        read(there())


def test_a_generator_of_the_cpu_draws_nothing_there() -> None:
    with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
        torch.rand(2, generator=torch.Generator(), device="cuda")


# ---------------------------------------------------------------- what CUDA allows

ALLOWED: dict[str, Callable[[Tensor], Tensor]] = {
    "single number of the CPU": lambda x: x * torch.tensor(2.0),
    "single number first": lambda x: torch.tensor(2.0) - x,
    "Python's number": lambda x: (x + 1) / 3,
    "choice of a number": lambda x: torch.where(x > 2, x, torch.tensor(-1.0).to("cpu")),
    "number under a mask": lambda x: x.masked_fill(x > 2, torch.tensor(9.0)),
    "the CPU's numbers of rows": lambda x: x[torch.tensor([1, 0, 1])],
    "a mask of the CPU": lambda x: x[HERE > 2],
    "copying over": lambda x: x.clone().copy_(HERE * 2),
    "assignment to a part": lambda x: _with_part(x, torch.ones(3)),
    "out": lambda x: torch.add(x, x, out=torch.empty_like(x)),
    "in place": lambda x: x.clone().mul_(3),
    "new tensors beside it": lambda x: x.new_zeros(2, 3) + torch.ones(2, 3, device=x.device) + torch.ones_like(x) + x,
    "new tensor of data": lambda x: x.new_tensor([1, 2, 3]) * x,
    "from data": lambda x: (
        torch.tensor([1.0, 2.0, 3.0], device=x.device) + torch.as_tensor(np.ones(3), device=x.device)
    ),
    "like another": lambda x: HERE.double().to(x) + x,
    "type of another": lambda x: torch.ones(3).type_as(x) + x,
    "several results": lambda x: x.topk(2).values + x.split(1)[0][:, :2],
}


def _with_part(x: Tensor, part: Tensor) -> Tensor:
    x = x.clone()
    x[1:] = part
    return x


@pytest.mark.parametrize("operation", ALLOWED.values(), ids=list(ALLOWED))
def test_it_gives_what_the_cpu_gives_and_stays_there(operation: Callable[[Tensor], Tensor]) -> None:
    found, expected = operation(there()), operation(HERE.clone())
    assert isinstance(found, OnDevice)
    assert found.device == DEVICE
    assert found.is_cuda
    assert expected.unique().numel() > 1
    assert torch.equal(found.cpu(), expected.to("cpu"))


def test_numbers_lists_and_arrays_come_back() -> None:
    x = there()
    assert (float(x[1, 2]), bool((x > 4).any()), len(x), x.tolist()) == (5.0, True, 2, HERE.tolist())
    assert np.array_equal(x.cpu().numpy(), HERE.numpy())
    assert x.to("cuda") is x
    assert type(torch.zeros_like(x, device="cpu")) is Tensor


def test_a_view_shares_its_memory() -> None:
    x = there()
    x[0] += 10
    x.T[2, 1] = -1
    assert x.tolist() == [[10, 11, 12], [3, 4, -1]]


@pytest.mark.parametrize("inside", [False, True], ids=["made outside", "made inside"])
def test_inference_mode_knows_the_same_tensors(inside: bool) -> None:
    x, y = there(), HERE.clone()
    with torch.inference_mode():
        x, y = (x.clone(), y.clone()) if inside else (x, y)
        for operation in (lambda z: z[0], lambda z: z + 1, lambda z: z.split(1)[1]):
            assert operation(x).is_inference() == operation(y).is_inference()


def test_autograd_gives_the_gradients_of_the_cpu() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 3))
    moved, images = copy.deepcopy(net).to("cuda"), torch.rand(2, 2, 5, 5)
    assert all(isinstance(tensor, OnDevice) for tensor in moved.state_dict().values())

    def gradients(of: nn.Module, pictures: Tensor) -> list[Tensor]:
        pictures.requires_grad_()
        return list(torch.autograd.grad(of(pictures).square().sum(), [pictures, *of.parameters()]))

    for found, expected in zip(gradients(moved, images.to("cuda")), gradients(net, images), strict=True):
        assert isinstance(found, OnDevice)
        assert expected.abs().max() > 0
        assert torch.equal(found.cpu(), expected)


class Doubled(torch.autograd.Function):
    """Makes a tensor of the CPU's default in its backward pass, and moves it."""

    @staticmethod
    def forward(_: Any, images: Tensor) -> Tensor:
        return 2 * images

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Any:
        return torch.full((3,), 2.0).type_as(gradient) * gradient * torch.tensor([1.0, 2, 3], device=gradient.device)


def test_backward_functions_in_python_know_the_device() -> None:
    x = there().requires_grad_()
    (found,) = torch.autograd.grad(Doubled.apply(x).sum(), x)
    assert found.is_cuda
    assert found.tolist() == [[2, 4, 6]] * 2
    Doubled.apply(x).sum().backward()
    assert torch.equal(x.grad.cpu(), found.cpu())


def test_a_module_comes_back_as_it_went() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = copy.deepcopy(net.state_dict())
    for name, tensor in net.to("cuda").to("cpu").state_dict().items():
        assert not tensor.is_cuda
        assert torch.equal(tensor, before[name])


# ---------------------------------------------------------------- what is sent without waiting


def test_what_is_sent_is_not_there_before_its_event() -> None:
    first = there().to("cpu", non_blocking=True)
    event = Event().record()
    second = (there() + 1).to("cpu", non_blocking=True)
    assert first.isnan().all()
    event.synchronize()
    assert torch.equal(first, HERE)
    assert second.isnan().all()
    torch.cuda.synchronize()
    assert torch.equal(second, HERE + 1)


def test_reading_anything_waits_for_all_that_was_sent_before() -> None:
    sent = there().to("cpu", non_blocking=True)
    there().sum().item()
    assert torch.equal(sent, HERE)
