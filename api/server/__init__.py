"""The edges of uvicorn: connections and memory."""
