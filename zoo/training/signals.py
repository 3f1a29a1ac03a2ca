"""SIGTERM and SIGINT, taken by a waiting thread: Python handlers do not run while XLA compiles."""

import os
import signal
import threading

STOPPING = {signal.SIGTERM, signal.SIGINT}


class Signals:
    """Turns the first signal into a request to stop; a second one ends the process at once.

    `block()` must run before JAX starts its threads, so that none of them takes a signal.
    Until `armed`, when there is nothing yet to save, the first signal ends the process too.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.armed = False

    @classmethod
    def block(cls) -> "Signals":
        """Blocks the signals in this thread and all later ones, and starts waiting for them."""
        signals = cls()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        threading.Thread(target=signals._wait, daemon=True, name="signals").start()
        return signals

    def _wait(self) -> None:
        while True:
            number = signal.sigwait(STOPPING)
            if self.received is not None or not self.armed:
                os._exit(128 + number)
            self.received = number
