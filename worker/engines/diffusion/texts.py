"""What of a job's texts the encoder does not read, said in the plan."""

import json
from typing import Any

from shared.engines.parameters import RenderParameters


def text_plan(
    name: str, tokenizer: Any, most: int, given: RenderParameters
) -> dict[str, bool | tuple[str, ...]]:
    """Return what the plan says of the texts: whether the prompt is cut, and the warnings.

    Args:
        most: the tokens of one text, those that begin and end it included.
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
    """Return the end of a text that the encoder does not read; empty where it reads all."""
    tokens = tokenizer(text, verbose=False).input_ids
    if len(tokens) <= most:
        return ""
    # The last token that is read is the end of a text.
    cut = str(tokenizer.decode(tokens[most - 1 :], skip_special_tokens=True)).strip()
    end = text.rstrip()[-len(cut) :]
    return end if end.lower() == cut.lower() else cut  # A tokenizer may know small letters only.
