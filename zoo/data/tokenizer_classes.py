"""What the hub's tokenizer classes mean where a folder's files are silent.

Old folders state little more than a vocabulary: the names of their special tokens, their token
types and their side of padding lie in the class that `tokenizer_config.json` or `config.json`
names. Source: transformers 5, whose constructors have these defaults.
"""

from dataclasses import dataclass, field

NAMES = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
"""Special tokens that every tokenizer may have, in the hub's order."""


@dataclass(frozen=True)
class Family:
    """Defaults of a class.

    Attributes:
        tokens: special tokens; None where the class has none of that name.
        files: vocabulary files that suffice without `tokenizer.json`: `wordpiece` (vocab.txt),
            `bytes` and `ended` (vocab.json and merges.txt), or nothing.
        token_types: whether the model takes `token_type_ids`.
        padding_side: `right` or `left`.
        extras: whether the class has special tokens without a name, such as languages, which
            `tokenizer.json` lists and an old config does not.
    """

    tokens: dict[str, str | None] = field(default_factory=dict)
    files: str = ""
    token_types: bool = False
    padding_side: str = "right"
    extras: bool = False


def _tokens(text: str) -> dict[str, str | None]:
    """`"unk=[UNK] pad=[PAD]"` by full name."""
    pairs = (word.split("=") for word in text.split())
    return {f"{name}_token": token for name, token in pairs}


_BRACKETS = _tokens("unk=[UNK] sep=[SEP] pad=[PAD] cls=[CLS] mask=[MASK]")
_BRACKETS_ENDS = _BRACKETS | _tokens("bos=[CLS] eos=[SEP]")
_ANGLES = _tokens("bos=<s> eos=</s> sep=</s> cls=<s> unk=<unk> pad=<pad> mask=<mask>")
_END = _tokens("unk=<|endoftext|> bos=<|endoftext|> eos=<|endoftext|>")
_T5 = _tokens("eos=</s> unk=<unk> pad=<pad>")

PLAIN = Family()
"""A class that is not listed: `tokenizer.json` and `tokenizer_config.json` say everything."""

FAMILIES = {
    "AlbertTokenizer": Family(_BRACKETS_ENDS | _tokens("unk=<unk> pad=<pad>")),
    "BertTokenizer": Family(_BRACKETS, "wordpiece", token_types=True),
    "BigBirdTokenizer": Family(_ANGLES | _tokens("sep=[SEP] mask=[MASK] cls=[CLS]")),
    "BlenderbotTokenizer": Family(_ANGLES),
    "CLIPTokenizer": Family(_END | _tokens("bos=<|startoftext|> pad=<|endoftext|>"), "ended"),
    "CamembertTokenizer": Family(_ANGLES, extras=True),
    "DebertaTokenizer": Family(_BRACKETS_ENDS, token_types=True),
    "DebertaV2Tokenizer": Family(_BRACKETS_ENDS, token_types=True),
    "DistilBertTokenizer": Family(_BRACKETS, "wordpiece"),
    "GPT2Tokenizer": Family(_END | {"pad_token": None}, "bytes"),
    "GPTNeoXTokenizer": Family(_END | _tokens("pad=<|padding|>")),
    "GemmaTokenizer": Family(
        _tokens("unk=<unk> bos=<bos> eos=<eos> pad=<pad> mask=<mask>"), padding_side="left"
    ),
    "LlamaTokenizer": Family(_tokens("unk=<unk> bos=<s> eos=</s>"), padding_side="left"),
    "MBartTokenizer": Family(_ANGLES, extras=True),
    "MPNetTokenizer": Family(_ANGLES | _tokens("unk=[UNK]")),
    "NllbTokenizer": Family(_ANGLES, extras=True),
    "PegasusTokenizer": Family(_T5 | _tokens("mask=<mask_2>"), extras=True),
    "Qwen2Tokenizer": Family(_END | _tokens("pad=<|endoftext|>") | {"bos_token": None}),
    "RobertaTokenizer": Family(_ANGLES, "bytes"),
    "T5Tokenizer": Family(_T5, extras=True),
    "WhisperTokenizer": Family(_END),
    "XLMRobertaTokenizer": Family(_ANGLES),
    "XLNetTokenizer": Family(
        _ANGLES | _tokens("sep=<sep> cls=<cls>"), padding_side="left", extras=True
    ),
}

_SAME = {
    "BertTokenizer": "Electra LayoutLM Lxmert MobileBert SqueezeBert",
    "RobertaTokenizer": "Bart LED Longformer Mvp",
}
SAME = {f"{old}Tokenizer": name for name, olds in _SAME.items() for old in olds.split()}
"""Classes that are another one by an older name."""

_MODELS = {
    "AlbertTokenizer": "albert",
    "BertTokenizer": "bert distilbert electra layoutlm lxmert mobilebert squeezebert",
    "BigBirdTokenizer": "big_bird",
    "BlenderbotTokenizer": "blenderbot",
    "CLIPTokenizer": "clip",
    "CamembertTokenizer": "camembert",
    "DebertaTokenizer": "deberta",
    "DebertaV2Tokenizer": "deberta-v2",
    "GPT2Tokenizer": "gpt2 gpt_neo gptj",
    "GPTNeoXTokenizer": "gpt_neox",
    "GemmaTokenizer": "gemma gemma2",
    "MBartTokenizer": "mbart",
    "MPNetTokenizer": "mpnet",
    "PegasusTokenizer": "pegasus",
    "Qwen2Tokenizer": "qwen2",
    "RobertaTokenizer": "bart led longformer mvp roberta",
    "T5Tokenizer": "mt5 t5",
    "WhisperTokenizer": "whisper",
    "XLMRobertaTokenizer": "xlm-roberta",
    "XLNetTokenizer": "xlnet",
}
OF_MODEL = {model: name for name, models in _MODELS.items() for model in models.split()}
"""Class by the `model_type` of `config.json`, for folders whose tokenizer names none."""

UNNAMED = ("gpt_bigcode", "granite", "mistral", "mixtral", "modernbert", "olmo2", "phi3",
           "stablelm", "umt5", "xlm-roberta-xl")  # fmt: skip
"""Model types whose folders name a class that their `tokenizer.json` does not follow."""


def family_of(name: str | None, model_type: object) -> tuple[str, Family]:
    """Name without `Fast` (empty if there is none) and defaults of the class a folder names."""
    if model_type in UNNAMED:
        return "", PLAIN
    if name is None:
        name = OF_MODEL.get(model_type, "") if isinstance(model_type, str) else ""
    name = name if name == "PreTrainedTokenizerFast" else name.removesuffix("Fast")
    return name, FAMILIES.get(SAME.get(name, name), PLAIN)
