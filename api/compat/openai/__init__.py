"""OpenAI Videos: `openai`, `litellm`, and whatever else speaks to `/v1/videos`."""
