"""The tables, in their final form; `migrations/` makes them and a test compares the two.

Importing one of these modules imports all of them, because they refer to each other by name.
"""

from shared.tables import access, figures, jobs, webhooks, workers

__all__ = ["access", "figures", "jobs", "webhooks", "workers"]
