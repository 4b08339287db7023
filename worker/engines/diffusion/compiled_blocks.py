"""A transformer's repeated blocks, compiled for the warmed clips and for no others."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

Clip = tuple[int, int, int]
"""Width, height and frames: they decide the shapes that a block gets."""


class CompiledBlocks:
    """The blocks of some transformers of diffusers, compiled once for all blocks of a kind.

    A block is eager except inside `serving` of a warm clip: another shape would be compiled in the
    middle of a render, for a minute.
    """

    def __init__(self, transformers: Sequence[Any], **options: Any) -> None:
        """`options` are those of torch.compile."""
        self._blocks = [
            block
            for transformer in transformers
            for block in transformer.modules()
            if type(block).__name__ in transformer._repeated_blocks
        ]
        self._warm: set[Clip] = set()
        for transformer in transformers:
            transformer.compile_repeated_blocks(**options)
        self._compiled = [block._compiled_call_impl for block in self._blocks]
        self._use(compiled=False)

    @property
    def has_clips(self) -> bool:
        return bool(self._warm)

    def serves(self, clip: Clip) -> bool:
        return clip in self._warm

    def warm(self, clip: Clip, run: Callable[[], object]) -> bool:
        """Compile by a run of this clip; if it fails, such clips are rendered eagerly."""
        try:
            self._use(compiled=True)
            run()
        except (RuntimeError, TypeError, AssertionError, OSError) as error:
            log.warning("compile_failed: %dx%dx%d: %s", *clip, str(error).splitlines()[:1])
            return False
        finally:
            self._use(compiled=False)
        self._warm.add(clip)
        return True

    @contextmanager
    def serving(self, clip: Clip) -> Iterator[None]:
        """Run the blocks compiled inside the block, if the clip is a warm one."""
        self._use(compiled=self.serves(clip))
        try:
            yield
        finally:
            self._use(compiled=False)

    def _use(self, *, compiled: bool) -> None:
        for block, call in zip(self._blocks, self._compiled, strict=True):
            block._compiled_call_impl = call if compiled else None
