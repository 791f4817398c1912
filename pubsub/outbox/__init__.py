"""From a table of PostgreSQL to the topics of a server: each committed row once in effect, in order."""
