"""Looking into models: summary and features."""
