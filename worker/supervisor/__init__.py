"""One pinned Celery worker for each GPU, and the supervisor that watches them."""
