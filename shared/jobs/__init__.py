"""A job: its row, its transitions, its queries, its views."""
