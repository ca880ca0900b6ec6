"""Django's backend for PostgreSQL with an end to every wait: a server that hangs is refused, not waited for."""
