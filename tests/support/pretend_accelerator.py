"""An accelerator without the hardware: PyTorch device `pretend`, whose tensors lie in main memory and behave as if they did not.

    with accelerator():
        with torch.device("pretend"):
            ...

As on a GPU, an operation that mixes its tensors with others fails (numbers without dimensions excepted), so do `.numpy()`, a random
draw with another device's generator, and a product of matrices of whole numbers, which CUDA does not have. Importing this module
names PyTorch's spare backend for good, so do it in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
_setup_privateuseone_for_python_backend(NAME)
DEVICE = torch.device(NAME, 0)
PRODUCTS = {"aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::mv", "aten::dot"}
MOVES = {"aten::_to_copy", "aten::copy_"}
_Generator = torch.Generator
counts = {"operations": 0}
generators: list[torch.Generator] = []


class Far(torch.Tensor):
    """A tensor on the accelerator; `raw` is what it holds."""

    raw: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> Far:
        out = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=DEVICE,
        )
        out.raw = raw
        return out

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    tensors = list(_tensors((*args, *kwargs.values())))
    far = [x for x in tensors if isinstance(x, Far)]
    device = kwargs.get("device")
    lands_far = (
        torch.device(device).type == NAME
        if device is not None
        else bool(far) and (name != "aten::copy_" or isinstance(args[0], Far))
    )
    if far and name not in MOVES and any(x.dim() for x in tensors if not isinstance(x, Far)):
        raise RuntimeError(f"{name} was given tensors on two devices")
    if kwargs.get("generator") is not None and _is_far(kwargs["generator"]) != lands_far:
        raise RuntimeError(f"{name} was given a generator of another device")
    if lands_far and name in PRODUCTS and not tensors[0].is_floating_point():
        raise RuntimeError(f"{name} of whole numbers is not implemented on GPUs")
    counts["operations"] += lands_far
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    out = func(*_each(_near, args), **{key: _each(_near, value) for key, value in kwargs.items()})
    if not lands_far:
        return out
    wrapped = _each(Far, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if far and device is None else wrapped


def _near(value: torch.Tensor) -> torch.Tensor:
    return value.raw if isinstance(value, Far) else value


# As `torch.utils._pytree` does it for any container; operations have lists and tuples alone, and this is many times faster.
def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def _each(change: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """The same with every tensor in it changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    return type(value)(_each(change, one) for one in value) if isinstance(value, list | tuple) else value


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Conversions(TorchFunctionMode):
    """What PyTorch does in C++ without asking a spare backend: numbers to tensors and back."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            if isinstance(args[0], torch.Tensor):
                return args[0].to(device, kwargs.get("dtype") or args[0].dtype)
            return func(*args, device="cpu", **kwargs).to(device)
        if func is torch.Tensor.tolist:
            return func(args[0].cpu())
        return func(*args, **kwargs)


class _AnyGenerator(_Generator):
    """In place of `torch.Generator`, which does not know the device."""

    def __new__(cls, device: Any = "cpu") -> Any:
        if torch.device(device).type != NAME:
            return _Generator(device)
        generators.append(_Generator())
        return generators[-1]


def _is_far(generator: torch.Generator) -> bool:
    return any(generator._cdata == other._cdata for other in generators)  # type: ignore[attr-defined]


@contextmanager
def accelerator() -> Iterator[None]:
    """The device is there within; it is not the default."""
    torch.Generator = _AnyGenerator  # type: ignore[misc]
    try:
        with _Operations(), _Conversions():
            yield
    finally:
        torch.Generator = _Generator  # type: ignore[misc]
