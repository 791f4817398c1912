"""Several servers that share their topics: what each tells the others, and asks them. It stands on a Bus alone."""
