"""Small folders of tokenizers, as the hub has them, for the tests of tokenizers."""

import json
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers as training

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and the dogs don't mind.",
    "A tokenizer turns text into numbers; numbers turn into text again.",
    "Wörter mit Umlauten, cafés and naïve résumés are words, too.",
    "日本語の文章と 中文 句子 in one line. Числа 1234 и слова.",
    "It's 7:30 p.m.; we've 3.50 left, haven't we? Yes! 🙂 🏳️‍🌈",
    "Fine-tuning wordpieces: unaffable, jumping, jumped, tokenization.",
] * 3
TEXTS = [
    "", " ", "The quick brown fox.", "Unaffable DOGS don't jump, do they?",
    "Wörter café naïve", "日本語 と 中文 in one line", "🙂 🏳️‍🌈 and  two  spaces",
    "Yes! 7:30 p.m.;   3.50\nnew line", "tokenization of zzzqqq \u20ac unknowns",
]  # fmt: skip
WORDS = ["Unaffable", "dogs", "don't", "jump", "日本語", ".", "tokenization"]
PIECES = """[PAD] [UNK] [CLS] [SEP] [MASK] the The quick brown fox dog dogs un ##aff ##able jump
##s ##ing ##ed token ##ization ##izer do don ' t they ? ! . , ; : wo ##rter Wörter cafe café na
##ive ##ive 日 本 語 中 文 と in one line and two 7 30 p m 3 50 new of a ##n""".split()
CHAT = """{%- for message in messages %}
    {%- if loop.first and message.role == 'system' %}{{ bos_token }}{% endif %}
<|{{ message['role'] }}|>
    {% generation %}{{ message['content'] | trim }}{% endgeneration %}{{ eos_token }}
    {%- if message.reasoning_content is defined %}({{ message.reasoning_content }}){% endif %}
    {%- if message.tool_calls is defined %}called{% endif %}
{% endfor %}
{%- if tools %}{{ tools | tojson(indent=1) }}{% endif %}
{%- if documents %}{{ documents[0]['title'] }}{% endif %}
{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}
{%- if ns.n > 1 %}{% break %}{% endif %}{% endfor %}{{ ns.n }}{{ extra }}
{%- if add_generation_prompt %}<|assistant|>
{% endif %}"""


def write(folder: Path, **files) -> Path:
    """Files by name, a dot written as `__`; values that are no text are JSON."""
    for name, value in files.items():
        path = folder / name.replace("__", ".")
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        path.write_text(text, encoding="utf-8")
    return folder


def byte_pairs(special=()):
    """A byte-level BPE of 400 tokens."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = training.BpeTrainer(
        vocab_size=400, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(SENTENCES, trainer)
    return backend


def byte_files(folder: Path, special) -> Path:
    """`vocab.json` and `merges.txt` of such a tokenizer."""
    model = json.loads(byte_pairs(special).to_str())["model"]
    merges = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"])
    return write(folder, vocab__json=model["vocab"], merges__txt=merges)


def bert(folder):
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": 32, "do_lower_case": True}
    return write(folder, vocab__txt="\n".join(PIECES) + "\n", tokenizer_config__json=config)


def bert_cased(folder):
    config = {"do_lower_case": False, "model_max_length": 512}
    return write(
        folder, vocab__txt="\n".join(PIECES), tokenizer_config__json=config,
        config__json={"model_type": "bert"},
    )  # fmt: skip


def distilbert(folder):
    config = {"tokenizer_class": "DistilBertTokenizerFast", "strip_accents": False,
              "tokenize_chinese_chars": False, "truncation_side": "left"}  # fmt: skip
    return write(
        folder, vocab__txt="\n".join(PIECES), tokenizer_config__json=config,
        added_tokens__json={"<new>": len(set(PIECES)) + 1, "dogsled": len(set(PIECES))},
    )  # fmt: skip


def bert_whole(folder):
    """As sentence-transformers write it: padding and truncation are part of the file."""
    backend = tokenizers.Tokenizer(
        models.WordPiece(
            {token: i for i, token in enumerate(dict.fromkeys(PIECES))}, unk_token="[UNK]"
        )
    )
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(PIECES[:5])
    backend.enable_padding(direction="left", length=20, pad_id=0, pad_token="[PAD]")
    backend.enable_truncation(20, direction="left")
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"),
                     PIECES, strict=False))  # fmt: skip
    return write(
        folder, tokenizer__json=backend.to_str(), special_tokens_map__json=named,
        tokenizer_config__json={"tokenizer_class": "BertTokenizer", "model_max_length": 40},
    )  # fmt: skip


def gpt2(folder):
    """As of 2019: a vocabulary and nothing else; no pad token."""
    byte_files(folder, ["<|endoftext|>"])
    return write(folder, config__json={"model_type": "gpt2"})


def gpt2_ends(folder):
    byte_files(folder, ["<|endoftext|>"])
    pad = {"content": "<pad>", "lstrip": False, "rstrip": True, "normalized": False}
    return write(
        folder,
        tokenizer_config__json={
            "tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_eos_token": True,
            "add_prefix_space": True, "padding_side": "left", "model_max_length": 48,
            "additional_special_tokens": ["<a>", "<b>"],
        },
        special_tokens_map__json={"bos_token": "<|endoftext|>", "pad_token": pad},
        added_tokens__json={"<pad>": 400, "<a>": 401, "<b>": 402, "plain added": 403},
    )  # fmt: skip


ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def roberta(folder):
    byte_files(folder, ROBERTA)
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False}
    return write(
        folder, special_tokens_map__json={"mask_token": mask},
        tokenizer_config__json={"tokenizer_class": "RobertaTokenizer", "model_max_length": 64},
    )  # fmt: skip


def roberta_whole(folder):
    backend = byte_pairs(ROBERTA)
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    config = {"tokenizer_class": "BartTokenizer", "add_prefix_space": False, "model_max_length": 64}
    return write(folder, tokenizer__json=backend.to_str(), tokenizer_config__json=config)


def clip(folder):
    """Bytes that stand within a word and at its end, and some merges."""
    merges = (
        "t h|th e</w>|q u|o g|o g</w>|d og|d og</w>|u m|um p|um p</w>|j ump|j ump</w>|i n|in g</w>|"
        "' t</w>"
    )
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*bytes_, *(f"{byte}</w>" for byte in bytes_)]
    tokens += [pair.replace(" ", "") for pair in merges.split("|")]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return write(
        folder, vocab__json={token: i for i, token in enumerate(tokens)},
        merges__txt="#version: 0.2\n" + merges.replace("|", "\n") + "\n",
        tokenizer_config__json={"tokenizer_class": "CLIPTokenizer", "model_max_length": 77},
    )  # fmt: skip


def chat(folder):
    """A language model that is talked to: left padding, a template, tokens of its own."""
    backend = byte_pairs(["<|end|>", "<|start|>"])
    backend.add_special_tokens(["<|user|>", "<|assistant|>", "<image>"])
    added = {
        str(i): {"content": token.content, "lstrip": False, "rstrip": False, "normalized": False,
                 "single_word": False, "special": True}
        for i, token in backend.get_added_tokens_decoder().items()
    }  # fmt: skip
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": added,
        "bos_token": "<|start|>", "eos_token": "<|end|>", "pad_token": "<|end|>",
        "additional_special_tokens": ["<|user|>", "<|assistant|>"], "image_token": "<image>",
        "padding_side": "left", "chat_template": "not this one", "add_bos_token": True,
        "model_input_names": ["input_ids", "attention_mask"], "clean_up_tokenization_spaces": True,
    }  # fmt: skip
    return write(
        folder, tokenizer__json=backend.to_str(), tokenizer_config__json=config,
        chat_template__jinja=CHAT,
    )  # fmt: skip


def chats(folder):
    """Several templates, in the config; special tokens in texts are text."""
    chat(folder)
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = [
        {"name": "default", "template": CHAT},
        {"name": "tool_use", "template": "{{ tools | tojson }}" + CHAT},
    ]
    config["split_special_tokens"] = True
    return write(folder, tokenizer_config__json=config)


def unigram(folder):
    """A SentencePiece vocabulary, as tokenizer.json holds it."""
    text = " ".join(SENTENCES[:6])
    words = sorted({f"\u2581{word}" for word in text.split()} | {*text} | {"\u2581", "ing", "ed"})
    scores = [(word, -9.0 + len(word) / 2) for word in words if word != " "]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scores]
    backend = tokenizers.Tokenizer(models.Unigram(vocabulary, 2))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<pad>", "</s>", "<unk>"])
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    config = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
              "tokenizer_class": "PreTrainedTokenizerFast"}  # fmt: skip
    return write(folder, tokenizer__json=backend.to_str(), tokenizer_config__json=config)


def bare(folder):
    """tokenizer.json alone: words, no template."""
    words = dict.fromkeys(word for text in SENTENCES for word in text.split())
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *words])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.enable_padding(pad_id=0, pad_token="[UNK]")
    return write(folder, tokenizer__json=backend.to_str(), tokenizer_config__json={})


FOLDERS = {
    make.__name__: make
    for make in (
        bert, bert_cased, distilbert, bert_whole, gpt2, gpt2_ends, roberta, roberta_whole, clip,
        chat, chats, unigram, bare,
    )
}  # fmt: skip
"""Functions that write a folder, by name."""


def frozen(tokenizer):
    """What `tests/golden/tokenizers.json` holds of a tokenizer, ours or the reference's."""
    everything = {
        "return_token_type_ids": True, "return_special_tokens_mask": True,
        "return_offsets_mapping": True, "truncation": True, "max_length": 9,
    }  # fmt: skip
    found = {
        "texts": [tokenizer(text)["input_ids"] for text in TEXTS],
        "pair": dict(tokenizer(TEXTS[2], TEXTS[3], **everything)),
        "rows": tokenizer(
            TEXTS[3], stride=2, return_overflowing_tokens=True, **everything
        )["input_ids"],
        "words": tokenizer(WORDS, is_split_into_words=True).word_ids(),
        "special": tokenizer.all_special_ids,
    }  # fmt: skip
    found["decoded"] = [
        [tokenizer.decode(ids), tokenizer.decode(ids, skip_special_tokens=True)]
        for ids in found["texts"]
    ]
    if tokenizer.pad_token is not None:
        found["padded"] = dict(tokenizer(TEXTS[:4], padding=True, truncation=True, max_length=9))
    if tokenizer.chat_template is not None:
        message = {"role": "user", "content": " What's \u65e5\u672c? "}
        found["chat"] = tokenizer.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=False
        )
    return json.loads(json.dumps(found))
