"""The parts of a job's texts that the encoder does not read, for the plan."""

import json
from typing import Any

from shared.engines.parameters import RenderParameters


def text_plan(
    name: str, tokenizer: Any, most: int, given: RenderParameters
) -> dict[str, bool | tuple[str, ...]]:
    """Return the plan's entries about the texts: whether the prompt is cut, and the warnings.

    Args:
        most: the most tokens of one text, including its begin and end tokens.
    """
    texts = {"prompt": given.prompt, "negative_prompt": given.negative_prompt}
    cut = {field: cut_part(tokenizer, most, text) for field, text in texts.items()}
    reads = most - len(tokenizer("").input_ids)
    return {
        "is_prompt_cut": bool(cut["prompt"]),
        "warnings": tuple(
            f"the end of {field} was not read, since {name} reads {reads} tokens:"
            f" {json.dumps(part, ensure_ascii=False)}"
            for field, part in cut.items()
            if part
        ),
    }


def cut_part(tokenizer: Any, most: int, text: str) -> str:
    """Return the end of a text that the encoder does not read; empty if it reads all."""
    tokens = tokenizer(text, verbose=False).input_ids
    if len(tokens) <= most:
        return ""
    # The last token that is read is the end token.
    cut = str(tokenizer.decode(tokens[most - 1 :], skip_special_tokens=True)).strip()
    end = text.rstrip()[-len(cut) :]
    # A tokenizer may know only lower-case letters.
    return end if end.lower() == cut.lower() else cut
