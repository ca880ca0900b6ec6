"""Stock, claims, issuing and reconciling: what this project exists for."""
