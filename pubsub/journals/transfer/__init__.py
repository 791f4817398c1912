"""Topics on their way from one journal to another, with all that makes them: nothing is renumbered or renewed."""
