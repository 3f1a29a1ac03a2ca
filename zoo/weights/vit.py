"""Vision Transformer as transformers keeps it (`ViTModel` and `ViTForImageClassification`)."""

from typing import Any

from zoo.errors import InputError
from zoo.models.vit import Config
from zoo.weights.configs import check_values, from_activation, read_size, to_activation, write_size
from zoo.weights.mapping import Rule, dense, first_conv, norm, repeat
from zoo.weights.positions import positions

MODEL_TYPES = ("vit",)
ARCHITECTURES = {
    "ViTModel": "feature-extraction",
    "ViTForImageClassification": "image-classification",
}
PREFIX = "vit."
IGNORED = (
    r"(vit\.)?pooler\.dense\.(weight|bias)",  # where the head does not use it
    r"(vit\.)?embeddings\.mask_token",  # of pre-training
)

ATTENTION = (
    (r"attention\.attention\.query", "attention.q_proj"),
    (r"attention\.attention\.key", "attention.k_proj"),
    (r"attention\.attention\.value", "attention.v_proj"),
    (r"attention\.output\.dense", "attention.o_proj"),
)
MODULES = (
    (r"encoder\.layer\.", "layers."), *ATTENTION, (r"intermediate\.dense", "mlp.fc1"),
    (r"output\.dense", "mlp.fc2"),
)  # fmt: skip
"""What modules are called in transformers 5 whose tensors keep their names of old; in this order.
Adapters are named after the modules."""

FIELDS = {
    "num_channels": "in_chans", "hidden_size": "width", "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads", "intermediate_size": "hidden", "layer_norm_eps": "epsilon",
    "qkv_bias": "qkv_bias", "attention_probs_dropout_prob": "attention_dropout",
    "hidden_dropout_prob": "dropout",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
POOLING = "add_pooling_layer"
"""An argument of their class that we keep in config.json, where they do not."""
OWN = ("image_size", "patch_size", "pooler_act", "pooler_output_size", "encoder_stride", POOLING)
"""Fields read by themselves, and one that is pre-training's."""
DEFAULTS = {"epsilon": 1e-12, "hidden": 3072, "num_classes": 2}
"""Of transformers, where they are not ours."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    return Config(**read_fields(values, Config))


def read_fields(values: dict[str, Any], config: type) -> dict[str, Any]:
    """The fields that DeiT has too, for a Config class.

    Raises:
        InputError: as for `read_config`.
    """
    known: dict[str, Any] = DEFAULTS | check_values(values, config, FIELDS, {}, OWN)
    known["embed_dropout"] = known.get("dropout", 0.0)
    known["antialias"] = False
    for theirs in ("image_size", "patch_size"):
        if theirs in values:
            known[theirs] = read_size(theirs, values[theirs])
    if "hidden_act" in values:
        known["activation"] = to_activation(values["hidden_act"])
    if known["hidden"] == 4 * known.get("width", config.width):
        known["hidden"] = 0
    classifies = any("Classification" in str(name) for name in values.get("architectures") or ())
    if not classifies and values.get(POOLING) is not False:
        known["pooler"] = to_activation(values.get("pooler_act", "tanh"), "pooler_act")
        wide = values.get("pooler_output_size") or 0
        if type(wide) is not int or wide < 0:
            raise InputError(f"config.json: pooler_output_size is {wide!r}, no number of features")
        known["pooler_width"] = 0 if wide == known.get("width", config.width) else wide
    return known


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels. Rates of dropout that
    it does not have are left out.

    Raises:
        InputError: it has no such model.
    """
    name = next(name for name, of in ARCHITECTURES.items() if of == task)
    if task == "image-classification" and cfg.global_pool != "token":
        raise InputError(
            f"transformers has no ViT that classifies with global_pool {cfg.global_pool!r}, only "
            "with 'token'; the format timm has"
        )
    return {"architectures": [name], "model_type": "vit", **write_fields(cfg, task)}


def write_fields(cfg: Any, task: str) -> dict[str, Any]:
    """The fields that DeiT has too.

    Raises:
        InputError: an activation without a name.
    """
    values = {theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()}
    values["intermediate_size"] = cfg.hidden or 4 * cfg.width
    pooler = {
        "pooler_act": from_activation(cfg.pooler or "tanh"),
        "pooler_output_size": cfg.pooler_width or cfg.width,
    }
    none = {POOLING: False} if task == "feature-extraction" and not cfg.pooler else {}
    return {
        **values, **pooler, **none, "hidden_act": from_activation(cfg.activation),
        "image_size": write_size(cfg.image_size), "patch_size": write_size(cfg.patch_size),
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Everything but pooler and head, without the prefix."""
    first = tokens(cfg, "class_token")
    return first + layers(cfg.depth, cfg.qkv_bias) + norm("layernorm", "norm")


def tokens(cfg: Any, *special: str) -> list[Rule]:
    """Special tokens, positions and patches; DeiT and DINOv2 have them too."""
    theirs = {"class_token": "cls_token", "distillation_token": "distillation_token"}
    return [
        *(Rule(f"embeddings.{theirs[name]}", f"tokens/{name}", "1 1 d -> d") for name in special),
        positions("embeddings.position_embeddings", cfg, len(special)),
        *first_conv(
            "embeddings.patch_embeddings.projection", "tokens/patches", cfg.in_chans, bias=True
        ),
    ]


def attention(layer: str, qkv_bias: bool) -> list[Rule]:
    """Self-attention, which DINOv2 has too."""
    return [
        *dense(f"{layer}.attention.attention.query", "layer{i}/attention/query", qkv_bias),
        *dense(f"{layer}.attention.attention.key", "layer{i}/attention/key", qkv_bias),
        *dense(f"{layer}.attention.attention.value", "layer{i}/attention/value", qkv_bias),
        *dense(f"{layer}.attention.output.dense", "layer{i}/attention/out"),
    ]


def layers(depth: int, qkv_bias: bool) -> list[Rule]:
    """The layers, as DeiT has them too."""
    layer = "encoder.layer.{i}"
    return repeat(
        [
            *norm(f"{layer}.layernorm_before", "layer{i}/attention_norm"),
            *attention(layer, qkv_bias),
            *norm(f"{layer}.layernorm_after", "layer{i}/mlp_norm"),
            *dense(f"{layer}.intermediate.dense", "layer{i}/mlp/up"),
            *dense(f"{layer}.output.dense", "layer{i}/mlp/down"),
        ],
        depth,
    )


def head(cfg: Config, task: str) -> list[Rule]:
    """Pooler or classifier; names without the prefix where they lie under it."""
    if task == "feature-extraction":
        return dense("{prefix}pooler.dense", "pooler") if cfg.pooler else []
    return dense("classifier", "head")
