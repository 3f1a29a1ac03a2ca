"""PyTorch, eager, on in-memory tensors; channels last for images, Adam in its fused form.

Padding lies behind the text, so the LSTM's output at the last real position is what a packed
sequence would give; taking it there measured three times faster than `pack_padded_sequence`.
`torch.compile` is left out: it needs a C++ compiler on the machine, and small networks are usually
trained without.
"""

from bench.peers.protocol import Session, serve
from bench.workloads import BATCHES, LEARNING_RATE, Workload


def build(workload: Workload, threads: int) -> Session:
    """The network of a workload, its data and its training loop."""
    import torch
    from torch import nn

    class Texts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10_000, 10)
            self.lstm = nn.LSTM(10, 128, num_layers=2, batch_first=True)
            self.head = nn.Linear(128, 10)

        def forward(self, x, last):
            outputs, _ = self.lstm(self.embed(x))
            return self.head(outputs[torch.arange(len(x)), last])

    class Series(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(10, 100, batch_first=True)
            self.head = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 1))

        def forward(self, x):
            _, (state, _) = self.lstm(x)
            return self.head(state[-1])

    def network() -> nn.Module:
        if workload.name == "W1":
            return nn.Sequential(
                nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 1)
            )
        if workload.name == "W2":
            return nn.Sequential(
                nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(1600, 64), nn.ReLU(), nn.Linear(64, 10),
            )  # fmt: skip
        return Texts() if workload.name == "W3" else Series()

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    arrays = workload.data()
    x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    model = network()
    form = "eager, in-memory tensors, Adam(fused=True)"
    inputs = [(batch,) for batch in x]
    if workload.name == "W2":
        form += ", channels_last"
        model = model.to(memory_format=torch.channels_last)
        inputs = [(batch.permute(0, 3, 1, 2),) for batch in x]  # NHWC in memory, as channels_last
    elif workload.name == "W3":
        form += ", output at the last real position"
        last = torch.from_numpy(arrays["mask"].sum(axis=2) - 1)
        inputs = list(zip(x, last, strict=True))

    if workload.loss == "binary":
        y, loss_function = y[..., None].float(), nn.BCEWithLogitsLoss()
    elif workload.loss == "classes":
        y, loss_function = y.long(), nn.CrossEntropyLoss()
    else:
        loss_function = nn.MSELoss()
    targets = list(y)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    done = 0

    def run(steps: int) -> float:
        nonlocal done
        for step in range(done, done + steps):
            at = step % BATCHES
            optimizer.zero_grad()
            loss = loss_function(model(*inputs[at]), targets[at])
            loss.backward()
            optimizer.step()
        done += steps
        return loss.item()

    return Session(run, form, sum(p.numel() for p in model.parameters()))


if __name__ == "__main__":
    serve(("torch",), ("torch",), build)
