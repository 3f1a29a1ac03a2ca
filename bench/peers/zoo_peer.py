"""Zoo: the trainer's own step, compiled by `jit`, as many steps a dispatch as the trainer takes.

Batches lie in memory, as with the other peers, and are put on the device one dispatch ahead of
their use, as the loop does.
"""

import itertools

from bench.peers.protocol import Session, serve
from bench.workloads import BATCHES, LEARNING_RATE, Workload
from zoo.launch import configure, prepare

MODULES = (
    "zoo.models.registry",
    "zoo.parallel.compile",
    "zoo.tasks",
    "zoo.training.optimizers",
    "zoo.training.step",
)


def build(workload: Workload, threads: int) -> Session:
    """The network of a workload, its data and its training loop."""
    del threads  # XLA takes the cores that the process may use
    import jax
    import numpy as np

    from zoo import tasks
    from zoo.data.info import Info
    from zoo.models import registry
    from zoo.parallel.compile import Jit, initialise
    from zoo.parallel.mesh import MeshShape, make_mesh
    from zoo.training.optimizers import Optimizer
    from zoo.training.state import initial_state
    from zoo.training.step import Step, steps_per_dispatch

    size = registry.find(workload.model)
    model = size.config.build(size.task)
    arrays = workload.data()
    integers = np.issubdtype(arrays["x"].dtype, np.integer)
    primary = "input_ids" if integers else "image" if arrays["x"].ndim == 5 else "features"
    names = {"x": primary, "y": "label", "mask": "attention_mask"}
    batches = {names[key]: array for key, array in arrays.items()}
    shapes = {key: (array.shape[2:], array.dtype.name) for key, array in batches.items()}
    label = shapes.pop("label")
    task, classes = {
        "binary": (tasks.Binary(), 2),
        "classes": (tasks.Classification(), 10),
        "squares": (tasks.Regression(), None),
    }[workload.loss]
    task = task.bind(Info(inputs=shapes, label=label, num_classes=classes))

    options = Optimizer(name="adam", learning_rate=LEARNING_RATE)
    step = Step(model, task, options.build(1), options.rate(1))
    parallel = Jit(make_mesh(MeshShape(), jax.devices()[:1]))

    def fresh():
        example = jax.tree.map(lambda leaf: leaf[0], batches)
        variables = model.init(jax.random.key(0), *tasks.split_inputs(example)[:1])
        return initial_state(variables, step.optimizer, seed=0, average=False)

    shapes = jax.eval_shape(fresh)
    chunk = steps_per_dispatch(step, shapes, jax.tree.map(lambda leaf: leaf[0], batches))
    state = initialise(parallel, fresh)
    if chunk > 1:
        train = parallel.train(step.many, shapes)
        rows = np.arange(chunk) % BATCHES
        source = itertools.repeat(jax.tree.map(lambda leaf: leaf[rows], batches))
        numbers = (np.int32(0), np.int32(chunk))
        form = f"jit, {chunk} steps a dispatch"
    else:
        train = parallel.train(step, shapes)
        source = itertools.cycle(
            [jax.tree.map(lambda leaf, at=at: leaf[at], batches) for at in range(BATCHES)]
        )
        numbers = ()
        form = "jit, a step a dispatch"
    placed = parallel.place_batch(next(source), leading=len(numbers) // 2)

    def run(steps: int) -> float:
        nonlocal state, placed
        for _ in range(steps // chunk):
            batch = placed
            placed = parallel.place_batch(next(source), leading=len(numbers) // 2)
            state, metrics = train(state, batch, *numbers)
        return float(np.ravel(metrics["loss"])[-1])

    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    return Session(run, form, parameters, chunk)


if __name__ == "__main__":
    prepare([])  # what train.py does before JAX starts, and with it
    configure(0, False)
    serve(MODULES, ("jax", "flax"), build)
