"""The Redis that sales live on, for all who keep something of an event there: its client, breakers and scripts."""
