"""What a user is told: rows written in the transaction that issues or rejects, delivered by whoever comes to it."""
