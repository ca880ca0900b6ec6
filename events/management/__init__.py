"""Commands of `events`."""
