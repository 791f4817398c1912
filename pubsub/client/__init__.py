"""The base of every client: the server's address, messages, requests, frames and close codes, as a client sees them.

It knows the protocol and nothing of the server; it shows nothing, and never decides when to connect.
"""
