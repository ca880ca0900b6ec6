"""`manage.py vapid_key`."""
