"""The stock of an event in Redis: key names, scripts, and the class that calls them."""
