"""Keras on TensorFlow: `fit` on a cached `tf.data` set, several steps an execution.

Of the usual forms (`fit`, `train_on_batch`, `jit_compile=True`, 16 steps an execution) this one
measured fastest in W1, W2 and W3b, and equal to plain `fit` in W3; XLA was never faster on CPU.
"""

import os

from bench.peers.protocol import Session, serve
from bench.workloads import LEARNING_RATE, Workload

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

STEPS_PER_EXECUTION = 16


def build(workload: Workload, threads: int) -> Session:
    """The network of a workload, its data and its training loop."""
    import keras
    import tensorflow as tf
    from keras import layers

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    networks = {
        "W1": [layers.Dense(10, "relu"), layers.Dense(5, "relu"), layers.Dense(1)],
        "W2": [
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, "relu"),
            layers.Dense(10),
        ],
        "W3": [
            layers.Embedding(10_000, 10, mask_zero=True),
            layers.LSTM(128, return_sequences=True),
            layers.LSTM(128),
            layers.Dense(10),
        ],
        "W3b": [layers.LSTM(100), layers.Dense(50, "relu"), layers.Dense(1)],
    }
    losses = {
        "binary": keras.losses.BinaryCrossentropy(from_logits=True),
        "classes": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "squares": keras.losses.MeanSquaredError(),
    }
    arrays = workload.data()
    x, y = arrays["x"], arrays["y"]
    if y.ndim == 2:
        y = y[..., None]
    model = keras.Sequential([keras.Input(x.shape[2:], dtype=x.dtype), *networks[workload.name]])
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        losses[workload.loss],
        steps_per_execution=STEPS_PER_EXECUTION,
        jit_compile="auto",
    )
    data = tf.data.Dataset.from_tensor_slices((x, y)).cache().repeat().prefetch(tf.data.AUTOTUNE)

    def run(steps: int) -> float:
        history = model.fit(data, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)
        return float(history.history["loss"][-1])

    form = f"fit on a cached tf.data set, steps_per_execution={STEPS_PER_EXECUTION}"
    return Session(run, form, model.count_params(), STEPS_PER_EXECUTION)


if __name__ == "__main__":
    serve(("tensorflow", "keras"), ("tensorflow-cpu", "keras"), build)
