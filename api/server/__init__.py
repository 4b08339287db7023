"""Additions to uvicorn: connections and memory."""
