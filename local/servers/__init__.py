"""Postgres, Valkey and SeaweedFS from wheels."""
