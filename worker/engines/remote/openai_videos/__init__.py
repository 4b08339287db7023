"""Servers that speak `/v1/videos`, such as vLLM-Omni and sglang: Stillreel is their queue."""
