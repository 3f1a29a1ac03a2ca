"""Chat templates: a conversation as the one text that a model was trained on.

A template comes with the weights of strangers. It is rendered in jinja2's immutable sandbox, has no
loader, and sees plain JSON values only; what it calls is listed in `_environment`.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import numpy as np

from zoo.errors import InputError

_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message's reasoning is given; templates read the first."""
_NOT_OURS = ("return_assistant_tokens_mask", "sanitize_control_tokens", "tokenizer_kwargs")
"""Arguments of the reference that would go unheard if the template were given them."""
_MARK = "ZOO_CONTINUE_HERE "


def choose(own: str | Mapping[str, str] | None, chosen: str | None, with_tools: bool) -> str:
    """The template to render: the caller's, one of several by its name, or the folder's only one.

    Raises:
        InputError: there is none, or there are several and none is the default.
    """
    if own is None or isinstance(own, str):
        if chosen is None and own is None:
            raise InputError("this tokenizer has no chat template; pass one as chat_template=")
        return str(own) if chosen is None else chosen
    if chosen is None:
        chosen = "tool_use" if with_tools and "tool_use" in own else "default"
        if chosen not in own:
            raise InputError(f"name a chat template: chat_template= one of {', '.join(own)}")
    return own.get(chosen, chosen)


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    documents: Sequence[Mapping[str, Any]] | None,
    add_generation_prompt: bool,
    continue_final_message: bool,
    variables: Mapping[str, Any],
) -> str:
    """The text of one conversation.

    Args:
        template: jinja2 source.
        messages: each with at least a `role`, and mostly a `content`.
        tools: JSON schemas of functions that the model may call.
        documents: for retrieval; each with `title` and `text`.
        add_generation_prompt: end with the header of the assistant's answer.
        continue_final_message: end inside the last message, so that the model continues it.
        variables: what else the template may read, such as `bos_token`.

    Raises:
        InputError: a message that is no mapping, a template that does not parse, refuses the
            conversation, or tries what the sandbox forbids, an argument that is not supported.
    """
    if asked := next((name for name in _NOT_OURS if variables.get(name)), None):
        raise InputError(f"{asked} is not supported; leave it out")
    if not messages:
        raise InputError("the conversation has no message; give at least one")
    chat = [_message(message, number) for number, message in enumerate(messages, 1)]
    for name, items in (("tools", tools), ("documents", documents)):
        if items is not None and not all(isinstance(item, Mapping) for item in items):
            raise InputError(f"{name} must be mappings (a tool: its JSON schema)")
    if continue_final_message:
        if not isinstance(chat[-1].get("content"), str):
            raise InputError("continue_final_message needs a last message whose content is text")
        chat[-1]["content"] += _MARK
    try:
        text = _compiled(template).render(
            **{
                **_plain(dict(variables)),
                "messages": chat,
                "tools": _plain(tools),
                "documents": _plain(documents),
                "add_generation_prompt": add_generation_prompt,
            }
        )
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"the chat template: line {error.lineno}: {error.message}") from None
    except Exception as error:  # a template can fail in any way that Python can
        raise InputError(f"the chat template refused the conversation: {error}") from None
    return _cut(text) if continue_final_message else text


def _cut(text: str) -> str:
    start = text.rfind(_MARK.strip())
    if start < 0:
        raise InputError("the chat template leaves out the message that should be continued")
    # A template that strips messages has stripped the mark's own space; then so do we.
    return text[:start] if text[start:].startswith(_MARK) else text[:start].rstrip()


def _message(message: Any, number: int) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InputError(
            f"message {number} is {message!r:.40}; expected a mapping such as "
            '{"role": "user", "content": "..."}'
        )
    # Absent rather than None: templates ask whether a key is there, then print what it holds.
    plain = {key: value for key, value in _plain(message).items() if value is not None}
    reasoning = next((plain[name] for name in _REASONING if name in plain), None)
    if reasoning is not None:
        plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
    return plain


def _plain(value: Any) -> Any:
    """A copy out of JSON's types; anything else becomes its type's name, `<ndarray>`.

    Objects have methods that the sandbox cannot know to be dangerous.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return f"<{type(value).__name__}>"


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` around the assistant's words: rendered as they are."""

    tags = {"generation"}

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


class _Namespace(jinja2.utils.Namespace):
    """`namespace()` without attributes that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # `self` may be an attribute's name
        for name in dict(*args[1:], **kwargs):
            _check(name)
        jinja2.utils.Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check(name)
        super().__setitem__(name, value)


def _check(name: Any) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace takes no attribute {name!r}")


class _Dict:
    """`dict()` without the attributes of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """jinja2's own filter escapes HTML, which models were not trained on."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


@functools.cache
def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _json
    environment.globals |= {
        "raise_exception": _refuse,
        "strftime_now": _now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    return _environment().from_string(template)
