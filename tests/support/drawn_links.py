"""Links and seals as the settings of a test would make them."""

from datetime import timedelta
from typing import Final

from shared.installation_secret import InstallationSecret, Purpose
from shared.jobs.links import Links
from shared.settings import Settings
from shared.webhooks.headers import HeaderSeal

LINKS: Final = Links([b"a key of the tests"], lives=timedelta(hours=24))
"""Links for tests in which the signer does not matter."""


def seal_of(settings: Settings) -> HeaderSeal:
    return HeaderSeal(InstallationSecret.of(settings).keys(Purpose.WEBHOOK_HEADERS))


def links_of(settings: Settings) -> Links:
    keys = InstallationSecret.of(settings).keys(Purpose.LINKS)
    return Links(keys, lives=settings.link_lives)
