"""Metrics: what the server has counted anyway, gathered and written for Prometheus when somebody asks."""
