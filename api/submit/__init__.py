"""From a request body to a queued job."""
