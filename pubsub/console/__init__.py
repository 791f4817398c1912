"""The interactive client, ``python -m pubsub client``: commands from a person or a script, and the server's answers.

It must never import the server: it knows the protocol alone, as any client does. This module imports nothing, so that
other commands take the console's words without its session.
"""
