"""Events by the REST API: public, no token needed."""
