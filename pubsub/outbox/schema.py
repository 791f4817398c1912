"""The table and the functions of an outbox, as SQL. It must never run a statement.

Versions are as those of a journal on disk: each has the statements that make an outbox of the version before into it.
"""

from __future__ import annotations

from typing import Final

from pubsub.protocol.patterns import MAX_TOPIC, TOPIC_SYNTAX

DEFAULT_SCHEMA: Final = "public"
TABLE: Final = "pubsub_outbox"
CHANNEL: Final = "pubsub_outbox"
"""The channel of NOTIFY, the same for all schemas of a database."""
LOCK_CLASS: Final = 0x70756273
"""The first of the two numbers of each advisory lock here: other programs have locks too."""

# {schema} is the quoted name of the schema.
MIGRATIONS: Final = (
    rf"""
CREATE TABLE {{schema}}.{TABLE} (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    id uuid NOT NULL,
    payload jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires timestamptz,
    error text
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000);
COMMENT ON TABLE {{schema}}.{TABLE} IS
    'Messages for a pubsub server. A row is deleted once its topic has it. One with an error was refused, and stays.';
CREATE INDEX {TABLE}_waiting ON {{schema}}.{TABLE} (number) WHERE error IS NULL;

CREATE FUNCTION {{schema}}.pubsub_publish(
    topic text, id uuid, payload jsonb, ttl_sec double precision DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    message uuid := coalesce(id, gen_random_uuid());
BEGIN
    IF topic !~ '^{TOPIC_SYNTAX}$' OR length(topic) > {MAX_TOPIC} THEN
        RAISE 'topic: expected 1 to {MAX_TOPIC} of ASCII letters, digits and _ - . : ~ in segments, got %',
            quote_literal(left(topic, 100)) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT ttl_sec > 0 THEN
        RAISE 'ttl_sec: expected more than 0, got %', ttl_sec USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO {{schema}}.{TABLE} (topic, id, payload, expires)
        VALUES (topic, message, payload, clock_timestamp() + make_interval(secs => ttl_sec));
    -- Transactions with NOTIFY commit one after the other. The setting is for those to whom that is a limit.
    IF coalesce(current_setting('pubsub.notify', true), '') <> 'off' THEN
        PERFORM pg_notify('{CHANNEL}', '');
    END IF;
    RETURN message;
END $$;

CREATE FUNCTION {{schema}}.pubsub_publish(topic text, payload jsonb) RETURNS uuid LANGUAGE sql
    AS $$ SELECT {{schema}}.pubsub_publish(topic, NULL, payload) $$;
""",
)
VERSION: Final = len(MIGRATIONS)


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def statements(schema: str, version: int = 0) -> str:
    """Return the statements that make an outbox of ``version`` into one of this program; 0 is none."""
    parts = [each.format(schema=quoted(schema)).strip() for each in MIGRATIONS[version:]]
    parts.append(
        f"CREATE OR REPLACE FUNCTION {quoted(schema)}.pubsub_outbox_version() RETURNS integer\n"
        f"    LANGUAGE sql IMMUTABLE AS 'SELECT {VERSION}';"
    )
    return "\n\n".join(parts)
