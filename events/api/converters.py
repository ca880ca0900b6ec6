"""Path converters of the API. What they do not take is a 404, before anything is asked."""

from django.urls import register_converter


class EventIdConverter:
    """An event's key: a number that the database can hold."""

    regex = "[0-9]{1,19}"

    def to_python(self, value: str) -> int:
        """The key; `ValueError` (no such path) above 2^63."""
        event_id = int(value)
        if event_id >= 2**63:
            raise ValueError
        return event_id

    def to_url(self, value: int) -> str:
        """As text."""
        return str(value)


register_converter(EventIdConverter, "event_id")
