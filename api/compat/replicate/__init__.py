"""Replicate: `replicate`, in Python and JavaScript, and the AI SDK's provider."""
