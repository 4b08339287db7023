"""One pinned Celery worker for each GPU, and the watch over it."""
