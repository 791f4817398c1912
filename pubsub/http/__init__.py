"""Every HTTP route, and what accepts connections for them."""
