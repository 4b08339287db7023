"""The engines whose weights Stillreel can download, and those of which it can make small ones."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shared.errors import InvalidRequest
from worker.engines.animatediff.checkpoint import LAYOUT as ANIMATEDIFF
from worker.engines.diffusion.checkpoint import Layout
from worker.engines.i2vgen.checkpoint import LAYOUT as I2VGEN_XL
from worker.engines.svd.checkpoint import SVD, SVD_XT
from worker.engines.wan.checkpoint import LAYOUT as WAN

Layouts = Mapping[str, Layout]

LAYOUTS: Final[Layouts] = MappingProxyType(
    {layout.name: layout for layout in (ANIMATEDIFF, I2VGEN_XL, SVD, SVD_XT, WAN)}
)

TINY: Final[Mapping[str, str]] = MappingProxyType(
    {
        ANIMATEDIFF.name: "worker.engines.animatediff.tiny:tiny_animatediff",
        I2VGEN_XL.name: "worker.engines.i2vgen.tiny:tiny_i2vgen_xl",
        SVD.name: "worker.engines.svd.tiny:tiny_svd",
        SVD_XT.name: "worker.engines.svd.tiny:tiny_svd",
        WAN.name: "worker.engines.wan.tiny:tiny_wan",
    }
)
"""The builder of each engine's small random checkpoint, by name, because importing one takes
seconds."""


def layout_of(engine: str, layouts: Layouts = LAYOUTS) -> Layout:
    """Return the layout of the engine's weights.

    Raises:
        InvalidRequest: it is not known.
    """
    if engine in layouts:
        return layouts[engine]
    raise InvalidRequest(
        f"no weights of {engine} are known; there are those of {', '.join(layouts)}",
        param="engine",
    )
