"""Topics, subscriptions and delivery: who gets what. No I/O."""
