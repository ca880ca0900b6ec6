"""The rush: many users on one sale over real HTTP, and a checker of what they were told against the database."""
