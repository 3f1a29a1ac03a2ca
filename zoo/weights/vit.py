"""Vision Transformer as transformers keeps it (`ViTModel` and `ViTForImageClassification`)."""

from typing import Any

from zoo.errors import InputError
from zoo.models.vit import Config
from zoo.weights.configs import check_values, from_activation, read_size, to_activation, write_size
from zoo.weights.mapping import Rule, dense, norm, repeat

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

FIELDS = {
    "num_channels": "channels", "hidden_size": "width", "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads", "intermediate_size": "hidden", "layer_norm_eps": "epsilon",
    "qkv_bias": "qkv_bias", "attention_probs_dropout_prob": "attention_dropout",
    "hidden_dropout_prob": "dropout",
}  # fmt: skip
"""Their name and ours, where the value is the same."""
OWN = ("image_size", "patch_size", "pooler_act", "pooler_output_size", "encoder_stride")
"""Fields read by themselves, and one that is pre-training's."""
DEFAULTS = {"epsilon": 1e-12}
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
    known["pooler"] = to_activation(values.get("pooler_act", "tanh"), "pooler_act")
    wide = values.get("pooler_output_size") or 0
    if isinstance(wide, bool) or not isinstance(wide, int):
        raise InputError(f"config.json: pooler_output_size is {wide!r}; it must be of type int")
    same = wide == known.get("width", Config.width)
    return known | {"pooler_width": 0 if same else wide}


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
        InputError: a classifier without classes, or an activation without a name.
    """
    if task == "image-classification" and not cfg.num_classes:
        raise InputError(
            "transformers keeps no classifier of 0 classes; save it for task feature-extraction"
        )
    return {
        "hidden_act": from_activation(cfg.activation),
        "image_size": write_size(cfg.image_size), "patch_size": write_size(cfg.patch_size),
        "pooler_act": from_activation(cfg.pooler or "tanh"),
        "pooler_output_size": cfg.pooler_width or cfg.width,
        **{theirs: getattr(cfg, ours) for theirs, ours in FIELDS.items()},
    }  # fmt: skip


def backbone(cfg: Config) -> list[Rule]:
    """Everything but pooler and head, without the prefix."""
    return tokens("class_token") + layers(cfg.depth, cfg.qkv_bias) + norm("layernorm", "norm")


def tokens(*special: str) -> list[Rule]:
    """Special tokens, positions and patches."""
    theirs = {"class_token": "cls_token", "distillation_token": "distillation_token"}
    return [
        *(Rule(f"embeddings.{theirs[name]}", f"tokens/{name}", "1 1 d -> d") for name in special),
        Rule("embeddings.position_embeddings", "tokens/positions", "1 t d -> t d"),
        *patches("embeddings.patch_embeddings.projection"),
    ]


def patches(theirs: str) -> list[Rule]:
    """A PyTorch `Conv2d` as our `Patches`."""
    return [
        Rule(f"{theirs}.weight", "tokens/patches/kernel", "o i p q -> p q i o"),
        Rule(f"{theirs}.bias", "tokens/patches/bias"),
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
    return dense("classifier", "head") if cfg.num_classes else []
