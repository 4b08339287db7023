"""The URLs in a request: a webhook's is checked, an image's is fetched, each in its own pool."""

from functools import partial
from typing import Final
from uuid import UUID

from api.concurrency.body_memory import Reservation
from api.ports import Ports
from api.submit.body import refuse_nul
from shared.errors import Busy
from shared.errors.images import ImageNotFetched, ImageTooLarge
from shared.outbound.errors import AnswerTooLarge, OutboundFailed, OutboundRefused, TooManyLookups

ACCEPT: Final = "image/jpeg,image/png,image/webp,image/avif"


async def check_webhook(ports: Ports, url: str, *, param: str, owner_id: UUID) -> None:
    """Refuse a URL to which nothing could be delivered now; each try checks it again.

    Raises:
        OutboundRefused: with the reason, for the field `param`.
        Busy: the name could not be looked up now, which says nothing about the URL.
    """
    refuse_nul(url, param)
    try:
        await ports.pools.lookups.run(
            partial(ports.webhook_url_checker.check, url, owner_id=owner_id), owner_id=owner_id
        )
    except TooManyLookups as error:
        raise Busy(error.message) from error
    except (OutboundRefused, OutboundFailed) as error:
        raise OutboundRefused(f"{param}: {error.message}", param=param) from error


async def fetch_image(
    ports: Ports, url: str, *, owner_id: UUID, reservation: Reservation, name: str = "image"
) -> bytes:
    """Return the bytes behind the URL of `name`; its decoder finds out whether they are an image.

    It keeps its turn until `share` has space for it. So memory holds only what was counted and
    what the pool's threads may hold.

    Raises:
        ImageTooLarge: the image is larger than an upload may be.
        ImageNotFetched: with the reason.
        Busy: as `check_webhook`.
    """
    try:
        fetch = partial(ports.image_fetcher.fetch, url, accept=ACCEPT, owner_id=owner_id)
        async with ports.pools.fetching.turn(owner_id) as run:
            fetched: bytes = await run(fetch)
            await reservation.grow(len(fetched))
            return fetched
    except AnswerTooLarge as error:
        raise ImageTooLarge(f"{name}.url: {error.message}", param=f"{name}.url") from error
    except TooManyLookups as error:
        raise Busy(error.message) from error
    except (OutboundRefused, OutboundFailed) as error:
        raise ImageNotFetched(error, param=f"{name}.url") from error
