"""What a model costs, from its shapes alone: nothing is allocated and nothing runs."""

import dataclasses
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.extend
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from zoo.errors import InputError
from zoo.models import registry

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Module:
    """One module of a model, with all that is inside it."""

    path: str
    """Names from the top, such as ``"encoder/block0/attn"``; empty for the model itself."""
    kind: str
    """Name of its class."""
    output: str
    """Shape of its (first) output."""
    parameters: int
    """Trained numbers, those of the modules inside included, as everywhere here."""
    statistics: int
    """Numbers that are kept but not trained, such as the means of batch norms."""
    flops: int
    bytes: int
    """Of its parameters and statistics."""
    output_bytes: int
    """Of all arrays that one call gives."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """Cost of one call of a model; ``str()`` is a table."""

    name: str
    inputs: str
    """Names and shapes of the inputs."""
    parameters: int
    """Numbers in the collection ``params``; running statistics do not count."""
    parameter_bytes: int
    statistics: int
    """Numbers in the other collections: running means and variances."""
    flops: int
    """Floating-point operations of the matrix products and convolutions of one inference, a
    multiply-add as two; a loop whose length is not known before it runs counts once."""
    activation_bytes: int
    """What one training step keeps from the forward for the backward pass, parameters and inputs
    apart, as differentiation asks for it; the compiler may keep less."""
    modules: tuple[Module, ...]
    """All modules in the order of their first call, the model itself first."""

    def __str__(self) -> str:
        table = Table(
            box=box.SIMPLE_HEAD, title=f"{self.name}: {self.inputs}", title_justify="left"
        )
        table.add_column("module", overflow="fold")
        table.add_column("type")
        table.add_column("shape", overflow="fold")
        table.add_column("parameters", justify="right")
        kept = bool(self.statistics)
        if kept:
            table.add_column("statistics", justify="right")
        table.add_column("FLOPs", justify="right")
        table.add_column("output", justify="right")
        for module in self.modules[1:]:
            depth = module.path.count("/")
            name = "  " * depth + module.path.rpartition("/")[2]
            numbers = [f"{module.parameters:,}", *[f"{module.statistics:,}"] * kept]
            table.add_row(
                name, module.kind, module.output, *numbers, scaled(module.flops),
                scaled(module.output_bytes, "B", 1024),
            )  # fmt: skip
        text = io.StringIO()
        Console(file=text, width=100, color_system=None).print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        size = scaled(self.parameter_bytes, "B", 1024)
        kept = scaled(self.activation_bytes, "B", 1024)
        statistics = [f"statistics        {self.statistics:,}"] if self.statistics else []
        lines += [
            f"parameters        {self.parameters:,} ({size})",
            *statistics,
            f"FLOPs             {scaled(self.flops)} (products and convolutions of one call)",
            f"activation bytes  {kept} (kept for the backward pass)",
        ]
        return "\n".join(lines)

    def down_to(self, depth: int | None) -> "Summary":
        """The same without the modules below that depth; 1 keeps the outermost, None all.

        Raises:
            InputError: the depth is below 0.
        """
        if depth is None:
            return self
        if depth < 0:
            raise InputError(f"depth is at least 0, not {depth}")
        kept = [m for m in self.modules if not m.path or m.path.count("/") < depth]
        return dataclasses.replace(self, modules=tuple(kept))


def summary(
    model: str | nn.Module, batch: int = 1, shapes: Mapping[str, Sequence[int]] | None = None
) -> Summary:
    """Parameters, FLOPs, bytes and the modules of a model; ``dataclasses.asdict`` is good for JSON.

    Args:
        model: a name of ``zoo.list_models()`` or a module.
        batch: examples in the call that is counted.
        shapes: of inputs by name, such as ``{"image": (1, 256, 192, 3)}``, instead of the model's
            own. Where the inputs have one shape, as token ids and masks have, one of them speaks
            for all.

    Raises:
        InputError: there is no model or input of that name, or the model takes no such shape.
    """
    name = model if isinstance(model, str) else type(model).__name__
    if isinstance(model, str):
        model = registry.create_model(model)
    inputs = _inputs(model, batch, shapes or {})
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(lambda k, x: model.init(k, **x), key, inputs)
    params = variables["params"]
    calls, flops = _trace(model, variables, inputs)
    sizes, statistics, kept = Counter(), Counter(), Counter()
    for collection, tree in variables.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            module = tuple(entry.key for entry in path[:-1])
            _add(sizes if collection == "params" else statistics, module, leaf.size)
            _add(kept, module, leaf.size * leaf.dtype.itemsize)
    return Summary(
        name=name,
        inputs=", ".join(f"{key} {_shape(value)}" for key, value in inputs.items()),
        parameters=sizes[()],
        parameter_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)),
        statistics=statistics[()],
        flops=flops[()],
        activation_bytes=_residual_bytes(model, variables, inputs),
        modules=tuple(
            Module(
                "/".join(path), call.kind, call.output, sizes[path], statistics[path], flops[path],
                kept[path], call.output_bytes,
            )
            for path, call in calls.items()
        ),
    )  # fmt: skip


def _inputs(model: Any, batch: int, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Shapes and dtypes of the arguments of the call."""
    inputs = model.cfg.inputs(batch)
    if unknown := shapes.keys() - inputs.keys():
        raise InputError(
            f"{type(model).__name__} has no input {', '.join(sorted(unknown))}; it has: "
            f"{', '.join(inputs)}"
        )
    alike = (
        len({spec.shape for spec in inputs.values()}) == 1
        and len(set(map(tuple, shapes.values()))) == 1
    )
    only = next(iter(shapes.values()), ())
    given: dict[str, Any] = dict.fromkeys(inputs, only) if alike else dict(shapes)
    return {
        name: jax.ShapeDtypeStruct(tuple(given.get(name, spec.shape)), spec.dtype)
        for name, spec in inputs.items()
    }


@dataclasses.dataclass
class _Call:
    """The first call of a module."""

    kind: str
    output: str = ""
    output_bytes: int = 0


def _trace(model: nn.Module, variables: Any, inputs: Any) -> tuple[dict, Counter]:
    """Class and output of every called module, and FLOPs, both by path."""
    calls: dict[Path, _Call] = {(): _Call(type(model).__name__)}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        path = context.module.path
        inner = context.method_name in ("setup", "<lambda>")  # a transformation's own wrapper
        if not inner and path not in calls:
            calls[path] = _Call(type(context.module).__name__)  # before those inside it
        result = call(*args, **kwargs)
        if not inner and not calls[path].output:
            arrays = [x for x in jax.tree.leaves(result) if hasattr(x, "shape")]
            calls[path].output = _shape(arrays[0]) if arrays else ""
            calls[path].output_bytes = sum(x.size * x.dtype.itemsize for x in arrays)
        return result

    with nn.intercept_methods(record):
        program = jax.make_jaxpr(lambda v, x: model.apply(v, **x))(variables, inputs)
    flops = Counter()
    _count_flops(program.jaxpr, (), 1, calls, flops)
    return calls, flops


def _count_flops(program: Any, outer: Path, times: int, calls: dict, flops: Counter) -> None:
    """Adds the FLOPs of a traced program, run ``times`` times, to the modules they belong to."""
    for equation in program.eqns:
        # Named scopes spell the module's path, from the top module's class name downwards.
        inner = tuple(part for part in str(equation.source_info.name_stack).split("/") if part)
        scopes = outer + inner
        path = tuple(part.partition(".")[0] for part in scopes[1:])
        while path not in calls:
            path = path[:-1]
        _add(flops, path, times * _flops(equation))
        repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
        for sub in jax.extend.core.jaxprs_in_params(equation.params):
            _count_flops(sub, scopes, times * repeats, calls, flops)


def _flops(equation: Any) -> int:
    """Two per multiply-add of a matrix product or convolution, 0 for all else."""
    name, out = equation.primitive.name, equation.outvars[0].aval
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * out.size * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
    if name == "ragged_dot_general":  # of a token with its expert's matrix, however it is done
        return 2 * out.size * equation.invars[0].aval.shape[-1]
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2 * out.size * math.prod(kernel) // features
    return 0


def _residual_bytes(model: nn.Module, variables: Any, inputs: Any) -> int:
    """Bytes of the arrays that reverse-mode differentiation keeps from a training forward."""
    rest = {name: value for name, value in variables.items() if name != "params"}
    key = jax.eval_shape(lambda: jax.random.key(0))

    def kept(params: Any, rest: Any, inputs: Any, key: Any) -> list:
        def forward(params: Any) -> Any:
            return model.apply(
                {"params": params, **rest}, **inputs, train=True,
                mutable=list(rest), rngs={"dropout": key},
            )[0]  # fmt: skip

        return jax.tree.leaves(jax.vjp(forward, params)[1])

    program: Any = jax.make_jaxpr(kept)(variables["params"], rest, inputs, key).jaxpr
    given = {*program.invars, *program.constvars}
    saved = {v for v in program.outvars if isinstance(v, jax.extend.core.Var) and v not in given}
    arrays: list[Any] = [v.aval for v in saved]
    return sum(array.size * array.dtype.itemsize for array in arrays)


def _add(sums: Counter, path: Path, amount: int) -> None:
    """Adds to a module and to all it is inside of."""
    for end in range(len(path) + 1):
        sums[path[:end]] += amount


def _shape(x: Any) -> str:
    return f"{np.dtype(x.dtype).name}[{','.join(map(str, x.shape))}]"


def scaled(number: int, unit: str = "", base: int = 1000) -> str:
    """Three digits and a unit: ``31.0 G``; with base 1024 ``528 MiB``."""
    value, prefixes = float(number), ["", "K" if base == 1024 else "k", "M", "G", "T", "P"]
    while value >= base and len(prefixes) > 1:
        value, prefixes = value / base, prefixes[1:]
    if not prefixes[0]:
        return f"{number:,} {unit}".rstrip()
    return f"{value:.3g} {prefixes[0]}{'i' if base == 1024 else ''}{unit}"
