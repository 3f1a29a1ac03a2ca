"""Adapters beside PEFT's: folders of either are opened by the other, and compute the same."""

import json

import jax
import numpy as np
import optax
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file

import zoo
from zoo import surgery
from zoo.paths import leaf_paths

pytestmark = pytest.mark.filterwarnings("ignore")
BERT = dict(
    vocab_size=19, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
    max_position_embeddings=16,
)  # fmt: skip
GPT2 = dict(
    vocab_size=19, n_embd=8, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0,
    pad_token_id=0,
)  # fmt: skip
VIT = dict(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, image_size=8,
    patch_size=4,
)  # fmt: skip
DINOV2 = dict(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=8,
    patch_size=4,
)  # fmt: skip
CONFIGS = {"Bert": BERT, "GPT2": GPT2, "ViT": VIT, "DeiT": VIT, "Dinov2": DINOV2}
CASES = {
    "BertForSequenceClassification": dict(
        target_modules=["query", "value"], bias="lora_only", task_type="SEQ_CLS", use_dora=True,
        lora_alpha=5,
    ),
    "GPT2LMHeadModel": dict(
        target_modules=["c_attn", "c_proj"], task_type="CAUSAL_LM", use_dora=True, r=3,
        rank_pattern={"c_attn": 2, r"h\.1\.mlp\.c_proj": 1}, alpha_pattern={"c_attn": 7},
    ),
    "BertModel": dict(target_modules="all-linear", use_rslora=True, lora_dropout=0.1, bias="all"),
    "BertForQuestionAnswering": dict(
        target_modules=r".*layer\.1\..*dense", task_type="QUESTION_ANS",
        modules_to_save=["LayerNorm"],
    ),
    "BertForMaskedLM": dict(target_modules=["dense"], bias="all"),
    "GPT2ForSequenceClassification": dict(
        target_modules=["c_attn", "c_fc"], task_type="SEQ_CLS", bias="all", use_rslora=True
    ),
    "GPT2Model": dict(target_modules=r"h\.1\.attn\.c_attn", modules_to_save=["ln_f"]),
    "ViTForImageClassification": dict(
        target_modules=["q_proj", "v_proj", "o_proj", "fc1", "fc2"], r=3, use_dora=True,
        modules_to_save=["classifier"], rank_pattern={"fc1": 2}, alpha_pattern={"q_proj": 7},
    ),
    "ViTModel": dict(target_modules=["q_proj", "v_proj"], bias="all", use_rslora=True),
    "DeiTForImageClassification": dict(target_modules=["k_proj", "fc1"], bias="lora_only"),
    "Dinov2ForImageClassification": dict(
        target_modules=["v_proj", "o_proj", "fc2"], modules_to_save=["classifier"], use_dora=True
    ),
}  # fmt: skip
QUICK = ("BertForSequenceClassification", "GPT2LMHeadModel", "ViTForImageClassification")
NAMES = [n if n in QUICK else pytest.param(n, marks=pytest.mark.full) for n in CASES]
# The zoo's own kinds of adapters, for the way to PEFT.
OURS = {
    "BertForSequenceClassification": surgery.LoRA(
        ("*/query", "layer1"), rank=2, alpha=3.0, dora=True, bias="all", whole=("head",)
    ),
    "GPT2LMHeadModel": surgery.LoRA(
        ("*/query", "*/value", "block0/mlp", "block1/attention"), rank=3, dora=True,
        exceptions=(("*/value", 2, 5.0),), bias="lora_only",
    ),
    "GPT2ForSequenceClassification": surgery.LoRA(("*attention",), rank=2, rslora=True),
    "BertForTokenClassification": surgery.LoRA(
        ("*",), rank=1, rslora=True, whole=("*norm", "head")
    ),
    "ViTForImageClassification": surgery.LoRA(
        ("*/query", "*/value", "layer1/mlp", "*/out"), rank=2, alpha=3.0, bias="lora_only",
        whole=("head",), exceptions=(("*/value", 1, 5.0),),
    ),
}  # fmt: skip
OURS_NAMES = [n if n in QUICK else pytest.param(n, marks=pytest.mark.full) for n in OURS]


def reference(name, folder):
    """transformers' model with random weights, saved."""
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    config = next(c for start, c in CONFIGS.items() if name.startswith(start))
    config = config | {"num_labels": 2 if "Question" in name else 3}
    model = kind(kind.config_class(**config)).eval()
    shaken(model)
    model.save_pretrained(folder)
    return model


def shaken(model):
    """Random parameters everywhere, those of adapters and norms included."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))


def theirs(model, ids, mask=None):
    with torch.no_grad():
        if mask is None:
            out = model(pixel_values=torch.tensor(ids.transpose(0, 3, 1, 2)))
        else:
            out = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))
    if hasattr(out, "start_logits"):
        return torch.stack([out.start_logits, out.end_logits], -1).numpy()
    return (out.logits if hasattr(out, "logits") else out.last_hidden_state).numpy()


def ours(model, variables, *inputs):
    out = model.apply(variables, *inputs)
    return np.asarray(getattr(out, "last_hidden_state", out))


def batch(name):
    """Token ids and their mask, or images alone."""
    if not name.startswith(("Bert", "GPT2")):
        return (np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f"),)
    ids = np.random.default_rng(0).integers(1, 19, (3, 6))
    mask = np.ones_like(ids)
    mask[0, 4:] = 0
    return ids * mask, mask


def close(found, wanted, ids, mask=None):
    if found.ndim == 3 and mask is not None:  # of tokens that count
        found, wanted = found[mask > 0], wanted[mask > 0]
    assert np.abs(found - wanted).max() <= 2e-5 * wanted.std()


@pytest.mark.parametrize("name", NAMES)
def test_adapters_of_peft(tmp_path, name):
    base = reference(name, tmp_path / "base")
    before = theirs(base, *batch(name))
    adapted = peft.get_peft_model(base, peft.LoraConfig(**({"r": 2} | CASES[name]))).eval()
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight))
    adapted.save_pretrained(tmp_path / "adapter")
    wanted = theirs(adapted, *batch(name))
    assert np.abs(wanted - before).max() > 0.01 * wanted.std()

    plain, variables = zoo.from_pretrained(tmp_path / "base")
    model, variables = surgery.load_adapter(tmp_path / "adapter", plain, variables)
    close(ours(model, variables, *batch(name)), wanted, *batch(name))
    close(ours(*surgery.merge(model, variables), *batch(name)), wanted, *batch(name))

    # What is trained is what PEFT trains: fused weights count once there.
    trained = leaf_paths(model.lora.trained(variables["params"]))
    assert {path.rpartition("/")[2] for path, is_trained in trained.items() if is_trained} >= {
        "lora_a", "lora_b"
    }  # fmt: skip
    # And the same folder comes back.
    surgery.save_adapter(tmp_path / "again", model, variables)
    again, saved = ({p.name: p for p in (tmp_path / n).iterdir()} for n in ("again", "adapter"))
    first, second = (load_file(f["adapter_model.safetensors"]) for f in (saved, again))
    copies = ("original_module", "modules_to_save", "decoder.bias")
    first = {n: x for n, x in first.items() if not any(copy in n for copy in copies)}
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[n], second[n]) for n in first)
    reopened(name, tmp_path, wanted)


@pytest.mark.parametrize("name", OURS_NAMES)
def test_adapters_of_the_zoo(tmp_path, name):
    reference(name, tmp_path / "base")
    plain, variables = zoo.from_pretrained(tmp_path / "base")
    model, variables = surgery.inject(plain, variables, OURS[name], jax.random.key(0))
    trained = model.lora.trained(variables["params"])
    rng = np.random.default_rng(0)
    variables["params"] = jax.tree.map(
        lambda leaf, moves: leaf + 0.3 * rng.normal(size=leaf.shape).astype("f") * moves,
        variables["params"], trained,
    )  # fmt: skip
    wanted = ours(model, variables, *batch(name))
    surgery.save_adapter(tmp_path / "again", model, variables, base="base")
    reopened(name, tmp_path, wanted)
    model, variables = surgery.load_adapter(
        tmp_path / "again", *zoo.from_pretrained(tmp_path / "base")
    )
    close(ours(model, variables, *batch(name)), wanted, *batch(name))


def test_adapters_of_vit_train_as_peft_trains_them(tmp_path):
    name, rate = "ViTForImageClassification", 0.1
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj", "v_proj", "fc1"], modules_to_save=["classifier"]
    )
    adapted = peft.get_peft_model(reference(name, tmp_path / "base"), config).eval()
    adapted.save_pretrained(tmp_path / "before")
    model, variables = surgery.load_adapter(
        tmp_path / "before", *zoo.from_pretrained(tmp_path / "base")
    )
    (image,), labels = batch(name), np.array([0, 2, 1])
    trained = model.lora.trained(variables["params"])

    @jax.jit
    def step(params):
        def loss(params):
            logits = model.apply({"params": params}, image)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, grads = jax.value_and_grad(loss)(params)
        moved = jax.tree.map(lambda p, g, moves: p - rate * g * moves, params, grads, trained)
        return value, moved

    params = variables["params"]
    sgd = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=rate)
    for _ in range(5):
        sgd.zero_grad()
        logits = adapted(pixel_values=torch.tensor(image.transpose(0, 3, 1, 2))).logits
        wanted = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
        wanted.backward()
        sgd.step()
        found, params = step(params)
        assert abs(float(found) - wanted.item()) < 1e-5
    assert jax.tree.all(
        jax.tree.map(
            lambda old, new, moves: moves or np.array_equal(old, new),
            variables["params"], params, trained,
        )
    )  # fmt: skip
    adapted.save_pretrained(tmp_path / "after")
    surgery.save_adapter(tmp_path / "again", model, {"params": params})
    theirs_after, ours_after = (
        load_file(tmp_path / folder / "adapter_model.safetensors") for folder in ("after", "again")
    )
    assert theirs_after.keys() == ours_after.keys()
    for key, value in ours_after.items():
        np.testing.assert_allclose(value, theirs_after[key], rtol=0, atol=1e-5)
    reopened(name, tmp_path, ours(model, {"params": params}, image))


def reopened(name, folder, wanted):
    """PEFT computes the same from the folder that the zoo wrote."""
    base = getattr(transformers, name).from_pretrained(folder / "base")
    opened = peft.PeftModel.from_pretrained(base, folder / "again").eval()
    close(theirs(opened, *batch(name)), wanted, *batch(name))
    merged = opened.merge_and_unload()
    close(theirs(merged, *batch(name)), wanted, *batch(name))
    assert json.loads((folder / "again" / "adapter_config.json").read_text())["peft_type"] == "LORA"
