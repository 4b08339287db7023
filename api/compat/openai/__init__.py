"""OpenAI Videos: `openai`, `litellm`, and other clients that use `/v1/videos`."""
