"""Notifications by the REST API: the caller's own, by bearer token."""
