"""How tokens are chosen: the options of `zoo.generate`, which a compiled loop is fixed to."""

from dataclasses import dataclass

from zoo.errors import InputError


@dataclass(frozen=True)
class Options:
    """See `zoo.generate` for their meaning."""

    max_new_tokens: int
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    num_return_sequences: int = 1
    eos: tuple[int, ...] = ()
    pad: int = 0
    return_log_probs: bool = False
    draft_tokens: int = 0
    """0: no draft model."""

    @property
    def min_candidates(self) -> int:
        """Tokens that no filter takes away: with beams one more than there are ends, so that a
        beam can always go on."""
        return 1 if self.num_beams == 1 else max(2, 1 + len(self.eos))

    def check(self, vocab_size: int) -> None:
        """Raises InputError, naming all that is wrong."""
        ranges = {
            "max_new_tokens": (self.max_new_tokens >= 1, "is at least 1"),
            "min_new_tokens": (
                0 <= self.min_new_tokens <= self.max_new_tokens,
                f"is from 0 to max_new_tokens, {self.max_new_tokens}",
            ),
            "temperature": (self.temperature > 0, "is above 0; for greedy set do_sample=False"),
            "top_k": (self.top_k >= 0, "is at least 0, which is off"),
            "top_p": (0 < self.top_p <= 1, "is above 0, at most 1, which is off"),
            "min_p": (0 <= self.min_p <= 1, "is from 0, which is off, to 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "is above 0; 1 is off"),
            "num_beams": (self.num_beams >= 1, "is at least 1"),
            "early_stopping": (
                self.early_stopping in (True, False, "never"),
                'is True, False or "never"',
            ),
            "num_return_sequences": (self.num_return_sequences >= 1, "is at least 1"),
            "eos_token_id": (
                all(0 <= token < vocab_size for token in self.eos),
                f"is below the vocabulary's size, {vocab_size}",
            ),
        }
        values = {**vars(self), "eos_token_id": self.eos}
        wrong = [
            f"{name} {what}, not {values[name]!r}"
            for name, (right, what) in ranges.items()
            if not right
        ]
        if not self.do_sample:
            filters = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
            used = [name for name, off in filters.items() if values[name] != off]
            if used:
                wrong.append(f"{', '.join(used)} would have no effect; set do_sample=True")
            if self.num_return_sequences > self.num_beams:
                wrong.append(
                    f"num_return_sequences is at most num_beams, {self.num_beams}, unless tokens "
                    f"are sampled, not {self.num_return_sequences}"
                )
        elif 1 < self.num_beams < self.num_return_sequences:
            wrong.append(
                f"num_return_sequences is at most num_beams, {self.num_beams}, not "
                f"{self.num_return_sequences}"
            )
        if wrong:
            raise InputError("generate: " + "; ".join(wrong))
