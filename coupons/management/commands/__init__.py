"""`manage.py rush`, `manage.py demo_data`, `manage.py reconcile`, `manage.py issue_claims`."""
