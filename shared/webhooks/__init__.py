"""Webhook endpoints, events, deliveries and signatures."""
