"""GPT as transformers keeps it (`OpenAIGPTModel` and its heads).

Its `Conv1D` weights are `[in, out]` like ours; query, key and value are one tensor there.
"""

from typing import Any

from zoo.errors import InputError
from zoo.models.gpt import Config
from zoo.weights.configs import check_values
from zoo.weights.mapping import Rule, decoder_head, norm, repeat

MODEL_TYPES = ("openai-gpt",)
ARCHITECTURES = {
    "OpenAIGPTLMHeadModel": "text-generation",
    "OpenAIGPTModel": "feature-extraction",
    "OpenAIGPTForSequenceClassification": "text-classification",
}
"""Their classes and our tasks."""
PREFIX = "transformer."
IGNORED = (r"(transformer\.)?(h\.\d+\.attn\.bias|position_ids)", r"lm_head\.weight")
"""Causal masks and positions that older files hold, and the tied copy of the embedding (an untied
one is read: `head` has a rule for it)."""

FIELDS = {
    "vocab_size": "vocab_size", "n_embd": "width", "n_layer": "depth", "n_head": "num_heads",
    "n_positions": "max_length", "layer_norm_epsilon": "epsilon", "tie_word_embeddings": "tied",
    "embd_pdrop": "embed_dropout", "attn_pdrop": "attention_dropout", "resid_pdrop": "dropout",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
OTHER_NAMES = {
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}  # fmt: skip
"""Their second names for some fields."""
ONLY = {"is_encoder_decoder": (False, None), "add_cross_attention": (False, None)}
OWN = (
    "afn", "n_ctx", "n_special", "predict_special_tokens", "summary_use_proj",
    "summary_activation", "summary_proj_to_labels", "summary_first_dropout",
)  # fmt: skip
"""The activation; and fields that these models do not read."""
ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}
"""Their names and ours; this model means the approximation by gelu. Of several for one formula the
first is written."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    values = {OTHER_NAMES.get(name, name): value for name, value in values.items()}
    known = check_values(values, Config, FIELDS, ONLY, OWN)
    afn = values.get("afn", "gelu")
    if not isinstance(afn, str) or afn not in ACTIVATIONS:
        raise InputError(
            f"config.json: afn {afn!r} is not implemented; there are {', '.join(ACTIVATIONS)}"
        )
    return Config(activation=ACTIVATIONS[afn], **known)


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels.

    Raises:
        InputError: its GPT has no such activation.
    """
    names = [theirs for theirs, ours in ACTIVATIONS.items() if ours == cfg.activation]
    if not names:
        raise InputError(f"transformers' GPT has no activation like {cfg.activation!r}")
    return {
        "architectures": [next(name for name, of in ARCHITECTURES.items() if of == task)],
        "model_type": MODEL_TYPES[0],
        "afn": names[0],
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }


def backbone(cfg: Config) -> list[Rule]:
    """Embeddings and blocks, by their names in a model without head."""
    fused = tuple(f"block{{i}}/attention/{name}" for name in ("query", "key", "value"))
    block = [
        Rule("h.{i}.attn.c_attn.weight", tuple(f"{name}/kernel" for name in fused),
             "i (n o) -> n i o"),
        Rule("h.{i}.attn.c_attn.bias", tuple(f"{name}/bias" for name in fused), "(n o) -> n o"),
        *_conv1d("h.{i}.attn.c_proj", "block{i}/attention/out"),
        *norm("h.{i}.ln_1", "block{i}/attention_norm"),
        *_conv1d("h.{i}.mlp.c_fc", "block{i}/up"),
        *_conv1d("h.{i}.mlp.c_proj", "block{i}/down"),
        *norm("h.{i}.ln_2", "block{i}/mlp_norm"),
    ]  # fmt: skip
    return [
        Rule("tokens_embed.weight", "embed/embedding"),
        Rule("positions_embed.weight", "position/embedding"),
        *repeat(block, cfg.depth),
    ]


def head(cfg: Config, task: str) -> list[Rule]:
    """What the task adds, by full names."""
    return decoder_head(task, cfg.tied)


def _conv1d(theirs: str, ours: str) -> list[Rule]:
    return [Rule(f"{theirs}.weight", f"{ours}/kernel"), Rule(f"{theirs}.bias", f"{ours}/bias")]
