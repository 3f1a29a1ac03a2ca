"""Where a model's parameters lie in memory."""

import ctypes
import sys
from typing import Any

import jax
from jax.core import Tracer

HUGE = 2**21
"""Bytes of a huge page."""
MADV_COLLAPSE = 25  # <linux/mman.h>, of Linux 6.1 and later


def use_huge_pages(variables: Any) -> None:
    """Asks Linux to gather large arrays of the CPU in huge pages, where they are.

    Every token reads all parameters, and memory is read faster from huge pages (see
    bench/RESULTS.md). Their values and addresses stay; a system that cannot leaves them as
    they are. Done already, it costs microseconds.
    """
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    for array in jax.tree.leaves(variables):
        if not isinstance(array, jax.Array) or isinstance(array, Tracer):
            continue
        devices = array.devices()
        if array.nbytes < 2 * HUGE or len(devices) > 1 or next(iter(devices)).platform != "cpu":
            continue
        start = array.unsafe_buffer_pointer()
        first = -(-start // HUGE) * HUGE
        size = (start + array.nbytes - first) // HUGE * HUGE
        madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), MADV_COLLAPSE)
