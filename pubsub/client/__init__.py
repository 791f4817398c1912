"""The base of every client: the server's address, messages, requests, frames and close codes, as a client sees them.

It knows the protocol and nothing of the server. It must never print, and never decide when to connect.
"""
