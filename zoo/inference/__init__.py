"""Generation and prediction."""
