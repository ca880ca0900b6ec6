"""A sale, its window and its phases, and what it needs from a stock (`events.stock`)."""
