"""Functional surgery: functions on models and their variables, which compose.

Choose parts by path, freeze them, take them over from another model, average trainings; adapters of
low rank; kernels in 8 bits; fewer layers. No function changes what it is given.
"""

from zoo.surgery.depth import replace_layer, with_layers
from zoo.surgery.int8 import Quantized, dequantize, output_change, quantize
from zoo.surgery.lora import Adapted, LoRA, adapters, inject, merge, unmerge
from zoo.surgery.peft import load_adapter, save_adapter
from zoo.surgery.trees import average, chosen, freeze, join, select, split, transplant

__all__ = [
    "Adapted", "LoRA", "Quantized", "adapters", "average", "chosen", "dequantize", "freeze",
    "inject", "join", "load_adapter", "merge", "output_change", "quantize", "replace_layer",
    "save_adapter", "select", "split", "transplant", "unmerge", "with_layers",
]  # fmt: skip
