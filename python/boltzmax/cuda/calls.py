"""A call of boltzmax.cuda: its arrays, the destination of its result, and the device's task."""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np

from boltzmax._lib.arguments import (
    axis_with_classes,
    check_form_of_out,
    check_temperature,
    read_empty,
)
from boltzmax._lib.targets import check_shape_of_targets
from boltzmax.cuda.arrays import (
    FLOATS,
    ITEM,
    DeviceArray,
    Shape,
    View,
    host_dtype,
    module,
)
from boltzmax.cuda.libraries import (
    check_not_recorded,
    check_on_device,
    check_writable,
    empty_like,
    finished,
    mark_written,
    release,
    stream_number,
    stream_of,
    view_of,
)


class Result:
    """A result on the device, and the array that the caller gets."""

    def __init__(self, call: Call, array: Any, view: View, host: Any = None) -> None:
        self._call, self._array, self.view, self._host = call, array, view, host

    def deliver(self) -> Any:
        """Return the array, copied to the host if the input came from there."""
        self._call.release()
        if self._host is None:
            return finished(self._array, self._call.x)
        self._array.copy_out(self._host)
        return self._host[()]  # a NumPy scalar if there are no axes


class Call:
    """The main array of a call, its device and its stream."""

    def __init__(self, x: Any, stream: Any, name: str = "x") -> None:
        self.module = module()
        self.x, self.name = x, name
        self.is_on_host = isinstance(x, np.ndarray)  # whether the caller's arrays are NumPy's
        if not self.is_on_host:
            check_on_device(x, name)
        own = 0 if self.is_on_host else stream_of(x)
        self.stream = stream_number(stream) if stream is not None else own or 0
        self._read: list[Any] = []
        self.device = 0
        self.view = self.read(x, name)
        self.device = self.view.device
        if self.view.dtype not in FLOATS:
            raise TypeError(
                f"{name} has dtype {self.view.dtype}; {', '.join(FLOATS)} are supported"
            )

    def read(self, x: Any, name: str) -> View:
        """Return the view of an array; a NumPy array is copied to the device."""
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array; pass its data, and where=~mask")
        if isinstance(x, np.ndarray) != self.is_on_host:
            raise TypeError(
                f"{name} and {self.name} must both be NumPy arrays, or both be on a device"
            )
        if isinstance(x, np.ndarray):
            copy = DeviceArray(x.shape, host_dtype(x, name), self.device, self.stream)
            copy.copy_in(np.ascontiguousarray(x))
            return copy.view
        check_not_recorded(x, name)
        view = view_of(x, name, self.stream)
        self._read.append(x)
        if x is not self.x and 0 not in view.shape and view.device != self.device:
            raise ValueError(
                f"{name} is on device {view.device}, and {self.name} on device {self.device}"
            )
        return view

    def release(self) -> None:
        """After the launch, let the arrays that were read be freed or overwritten."""
        while self._read:
            release(self._read.pop(), self.device, self.stream)

    def mask(self, where: Any) -> View | None:
        """Return a mask as a view that broadcasts to the input, or None for no mask."""
        if where is None:
            return None
        view = self.read(where, "where")
        if view.dtype != "bool":
            raise TypeError(f"where must be an array of bool, got dtype {view.dtype}")
        return view.broadcast_to(self.view.shape, "where", self.name)

    def operand(self, x: Any, name: str) -> View:
        """Return the view of another array of the same dtype, contiguous as products need it."""
        view = self.read(x, name)
        if view.dtype != self.view.dtype:
            raise TypeError(
                f"{name} and {self.name} must have one dtype, got {view.dtype} and "
                f"{self.view.dtype}"
            )
        self.check_contiguous(view, name)
        return view

    def check_contiguous(self, view: View, name: str) -> None:
        """Raise a ValueError unless an array is contiguous."""
        if not view.is_contiguous or not view.is_aligned:
            raise ValueError(f"{name} must be contiguous and aligned")

    def class_axis(self, axis: SupportsIndex) -> int:
        """Return the axis of the classes, counted from the first."""
        return axis_with_classes(self.view.shape, axis, self.name)

    def rows_without(self, axis: int) -> Shape:
        """Return the shape of the rows along an axis."""
        return self.view.shape[:axis] + self.view.shape[axis + 1 :]

    def reduction(self, name: str, empty: str) -> Any:
        """Return the code of a reduction of rows' losses; `empty` is the mean over no rows."""
        of_nothing = "_OR_ZERO" if read_empty(empty) == 0.0 and name == "mean" else ""
        return getattr(self.module.Reduction, name.upper() + of_nothing)

    def target(self, target: Any, shape: Shape) -> View:
        """Return the view of one class per row of `shape`."""
        if self.is_on_host and isinstance(target, np.ndarray) and target.dtype.kind in "iu":
            if target.dtype == np.uint64:  # numbers beyond int64 are not classes either
                target = np.minimum(target, np.uint64(np.iinfo(np.int64).max))
            target = target.astype(np.int64)
        view = self.read(target, "target")
        if view.dtype not in ("int32", "int64"):
            raise TypeError(f"target must be an array of int64 or int32, got dtype {view.dtype}")
        check_shape_of_targets(view.shape, shape)
        self.check_contiguous(view, "target")
        if view.dtype == "int64":
            return view
        wide = self.scratch(shape, "int64")
        self.module.widen_targets(view.address, wide.address, view.size, self.device, self.stream)
        return wide

    @property
    def computed(self) -> str:
        """The dtype of the computation, and of losses."""
        return "float64" if self.view.dtype == "float64" else "float32"

    def zeros(self, shape: Shape, dtype: str) -> Result:
        """Return a new array of zeros of the caller's kind."""
        result = self.empty(shape, dtype)
        self.module.clear(
            result.view.address, result.view.size * ITEM[dtype], self.device, self.stream
        )
        return result

    def empty(self, shape: Shape, dtype: str) -> Result:
        """Return a new array of the caller's kind."""
        if not self.is_on_host:
            array = empty_like(self.x, self.view, shape, dtype, self.stream)
            return Result(self, array, view_of(array, "the result", self.stream))
        array = DeviceArray(shape, dtype, self.device, self.stream)
        host = np.empty(shape, self.x.dtype if dtype == self.view.dtype else dtype)
        return Result(self, array, array.view, host)

    def scratch(self, shape: Shape, dtype: str) -> View:
        """Return memory that is freed after the call, in the order of its stream."""
        return DeviceArray(shape, dtype, self.device, self.stream).view

    def result(self, out: Any, *others: View | None) -> Result:
        """Return the destination of a result of the shape of x; `others` are inputs, too."""
        if out is None:
            return self.empty(self.view.shape, self.view.dtype)
        if self.is_on_host:
            raise TypeError("out= is for arrays on a device")
        view = self.read(out, "out")
        check_form_of_out(view.shape, view.dtype, self.view.shape, self.view.dtype)
        check_writable(out, view)
        same = view.place == self.view.place
        if any(o is not None and view.overlaps(o) for o in (None if same else self.view, *others)):
            raise ValueError(
                f"out overlaps an input; it may be {self.name} itself, element for element"
            )
        mark_written(out)
        return Result(self, out, view)

    def task(
        self, operation: str, axes: Shape, y: Any, third: View | None, temperature: float
    ) -> Any:
        """Return the task of an operation on rows along `axes`."""
        return self.module.Call(
            getattr(self.module.Operation, operation),
            getattr(self.module.Storage, self.view.dtype.upper()),
            self.view.shape,
            sum([1 << d for d in axes]),
            self.view.place,
            y,
            None if third is None else third.place,
            float(temperature),
        )

    def run(
        self, operation: str, axes: Shape, y: Any, third: View | None, temperature: float
    ) -> None:
        """Run an operation on rows along `axes`."""
        check_temperature(temperature)
        call = self.task(operation, axes, y, third, temperature)
        self.module.run(call, self.device, self.stream)
