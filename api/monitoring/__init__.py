"""Metrics, readiness, and what admins see."""
