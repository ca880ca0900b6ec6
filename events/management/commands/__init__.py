"""`manage.py verify_shuffle`."""
