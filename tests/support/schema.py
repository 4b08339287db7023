"""/openapi.json as schemathesis reads it."""

from copy import deepcopy
from typing import Final

import schemathesis
from schemathesis.core.result import Ok

from tests.support.document import document

SCHEMA: Final = schemathesis.openapi.from_dict(deepcopy(document()))
OPERATIONS: Final = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]
