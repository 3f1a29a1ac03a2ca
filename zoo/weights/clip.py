"""CLIP as transformers keeps it (`CLIPModel`, its towers alone, and a classifier)."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import InputError
from zoo.models.clip import NEEDS, Config
from zoo.nn.patches import grid
from zoo.weights.configs import check_values, from_activation, read_size, to_activation, write_size
from zoo.weights.mapping import Rule, dense, first_conv, norm, repeat
from zoo.weights.positions import Positions

MODEL_TYPES = ("clip", "clip_text_model", "clip_vision_model")
ARCHITECTURES = {
    "CLIPModel": "zero-shot-image-classification",
    "CLIPVisionModelWithProjection": "image-feature-extraction",
    "CLIPTextModelWithProjection": "text-feature-extraction",
    "CLIPVisionModel": "image-encoder",
    "CLIPTextModel": "text-encoder",
    "CLIPForImageClassification": "image-classification",
}
PREFIX = ""
IGNORED = (
    r"(text_model|vision_model)\.embeddings\.position_ids",  # 0, 1, 2, ...
    r"vision_model\.post_layernorm\.(weight|bias)",  # which a classifier does not look at
)
ALONE = {"text-encoder": "text_model.", "image-encoder": "vision_model."}
"""Towers that transformers 5 saves alone without, and transformers 4 with, this before each name;
both read it, so it is written."""

_TOWER = {
    "hidden_size": "width", "num_hidden_layers": "depth", "num_attention_heads": "num_heads",
    "intermediate_size": "hidden", "layer_norm_eps": "epsilon",
    "attention_dropout": "attention_dropout",
}  # fmt: skip
TEXT = {theirs: f"text_{ours}" for theirs, ours in _TOWER.items()} | {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_length",
}
VISION = {theirs: f"vision_{ours}" for theirs, ours in _TOWER.items()} | {
    "num_channels": "in_chans"
}
BOTH = {"projection_dim": "projection_width", "logit_scale_init_value": "logit_scale"}
"""Their names and ours, where the value is the same."""
OWN = (
    "image_size", "patch_size", "text_config", "vision_config", "text_config_dict",
    "vision_config_dict", "dropout", "temperature", "top_k", "top_p", "typical_p", "max_length",
    "length_penalty", "repetition_penalty", "num_beams", "num_beam_groups",
    "num_return_sequences", "tie_word_embeddings",
)  # fmt: skip
"""Fields read by themselves, and those of generation, which older folders state of every tower."""
LARGEST_ID = 2
"""The `eos_token_id` of folders whose texts end with the token of the largest id."""
DEFAULTS = {"eos_token_id": 49_407, "num_classes": 2}
"""Of transformers, where they are not ours."""


def read_config(values: dict[str, Any]) -> Config:
    """The Config of a folder's config.json: of both towers, or of one of them alone.

    Raises:
        InputError: a value that changes the computation and is not implemented, or of the wrong
            type.
    """
    kind = values.get("model_type")
    known: dict[str, Any] = dict(DEFAULTS)
    if kind == "clip":
        known |= check_values(values, Config, BOTH, {}, OWN)
    if kind != "clip_vision_model":
        text = values if kind == "clip_text_model" else _part(values, "text_config")
        known |= _tower(text, "text", TEXT, {} if kind == "clip" else {"projection_dim"})
        known["eos_token_id"] = _end(text.get("eos_token_id", DEFAULTS["eos_token_id"]))
    if kind != "clip_text_model":
        vision = values if kind == "clip_vision_model" else _part(values, "vision_config")
        known |= _tower(vision, "vision", VISION, {} if kind == "clip" else {"projection_dim"})
        for name in ("image_size", "patch_size"):
            if name in vision:
                known[name] = read_size(name, vision[name])
    return Config(**known)


def _part(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What is said of a tower: a `..._dict`, which older folders have, counts in its place."""
    found = values.get(f"{name}_dict")
    found = values.get(name) if found is None else found
    if not isinstance(found, dict | None):
        raise InputError(f"config.json: {name} is {found!r}; it must be an object")
    return found or {}


def _tower(
    values: Mapping[str, Any], tower: str, fields: dict[str, str], more: Any
) -> dict[str, Any]:
    """Our fields of a tower; `more` are names that both towers share."""
    fields = fields | {name: BOTH[name] for name in more}
    known = check_values(values, Config, fields, {}, (*OWN, "projection_dim"))
    if "hidden_act" in values:
        known[f"{tower}_activation"] = to_activation(values["hidden_act"])
    return known


def _end(token: Any) -> int | None:
    if type(token) is not int or token < 0:
        raise InputError(f"config.json: eos_token_id is {token!r}; it must be one token's id")
    return None if token == LARGEST_ID else token


def write_config(cfg: Config, task: str) -> dict[str, Any]:
    """What transformers needs to open the model, beside the names of labels.

    Raises:
        InputError: an activation without a name.
    """
    name = next(name for name, of in ARCHITECTURES.items() if of == task)
    end = LARGEST_ID if cfg.eos_token_id is None else cfg.eos_token_id
    both = {theirs: getattr(cfg, ours) for theirs, ours in BOTH.items()}
    shared = {"projection_dim": cfg.projection_width}
    text = {theirs: getattr(cfg, ours) for theirs, ours in TEXT.items()} | shared
    text |= {"hidden_act": from_activation(cfg.text_activation), "eos_token_id": end}
    text["model_type"] = "clip_text_model"
    vision = {theirs: getattr(cfg, ours) for theirs, ours in VISION.items()} | shared
    vision |= {
        "hidden_act": from_activation(cfg.vision_activation), "model_type": "clip_vision_model",
        "image_size": write_size(cfg.image_size), "patch_size": write_size(cfg.patch_size),
    }  # fmt: skip
    if task.startswith("text"):
        return {"architectures": [name], **text}
    if task in ("image-encoder", "image-feature-extraction"):
        return {"architectures": [name], **vision}
    parts = {"text_config": text, "vision_config": vision}
    return {"architectures": [name], "model_type": "clip", **parts, **both}


def full_name(name: str, task: str) -> str:
    """The name of a tensor with that of its tower before it; see `ALONE`."""
    tower = ALONE.get(task, "")
    return name if name.startswith(tower) else tower + name


def backbone(cfg: Config) -> list[Rule]:
    """Both towers."""
    return vision_tower(cfg, True) + text_tower(cfg)


def towers(cfg: Config, task: str) -> list[Rule]:
    """Those that a task looks at."""
    needs, rules = NEEDS.get(task, ("image",)), []
    if "image" in needs:
        rules += vision_tower(cfg, task != "image-classification")
    return rules + text_tower(cfg) if "input_ids" in needs else rules


def vision_tower(cfg: Config, pooled: bool) -> list[Rule]:
    """The vision tower, whose last norm a classifier does not have."""
    theirs = "vision_model.embeddings"
    return [
        Rule(f"{theirs}.class_embedding", "vision/tokens/class_token"),
        *first_conv(f"{theirs}.patch_embedding", "vision/tokens/patches", cfg.in_chans),
        Positions(
            f"{theirs}.position_embedding.weight", "vision/tokens/positions", special=1,
            grid=grid(cfg.image_size, cfg.patch_size),
        ),
        *norm("vision_model.pre_layrnorm", "vision/pre_norm"),
        *layers("vision_model", "vision", cfg.vision_depth),
        *(norm("vision_model.post_layernorm", "vision/norm") if pooled else []),
    ]  # fmt: skip


def text_tower(cfg: Config) -> list[Rule]:
    """The text tower."""
    theirs = "text_model.embeddings"
    return [
        Rule(f"{theirs}.token_embedding.weight", "text/embed/embedding"),
        Rule(f"{theirs}.position_embedding.weight", "text/positions"),
        *layers("text_model", "text", cfg.text_depth),
        *norm("text_model.final_layer_norm", "text/norm"),
    ]


def layers(theirs: str, ours: str, depth: int) -> list[Rule]:
    """The layers of a tower."""
    layer, mine = f"{theirs}.encoder.layers.{{i}}", f"{ours}/layer{{i}}"
    return repeat(
        [
            *norm(f"{layer}.layer_norm1", f"{mine}/attention_norm"),
            *dense(f"{layer}.self_attn.q_proj", f"{mine}/attention/query"),
            *dense(f"{layer}.self_attn.k_proj", f"{mine}/attention/key"),
            *dense(f"{layer}.self_attn.v_proj", f"{mine}/attention/value"),
            *dense(f"{layer}.self_attn.out_proj", f"{mine}/attention/out"),
            *norm(f"{layer}.layer_norm2", f"{mine}/mlp_norm"),
            *dense(f"{layer}.mlp.fc1", f"{mine}/mlp/up"),
            *dense(f"{layer}.mlp.fc2", f"{mine}/mlp/down"),
        ],
        depth,
    )


def head(cfg: Config, task: str) -> list[Rule]:
    """Projections and the scale, or a classifier."""
    image = dense("visual_projection", "image_projection", bias=False)
    text = dense("text_projection", "text_projection", bias=False)
    rules = {
        "zero-shot-image-classification": [*image, *text, Rule("logit_scale", "logit_scale")],
        "image-feature-extraction": image,
        "text-feature-extraction": text,
        "image-classification": dense("classifier", "head"),
    }
    return rules.get(task, [])
