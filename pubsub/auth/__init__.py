"""Identities, keys, tokens, permissions, rates and quotas. No I/O but in jwks."""
