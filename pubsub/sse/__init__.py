"""One client of Server-Sent Events: its connection, the form of its events, and the positions that it resumes from."""
