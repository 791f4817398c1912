"""Topics, subscriptions and delivery. No I/O."""
