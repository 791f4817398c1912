"""A page on both documents, for people: HTML without scripts. It tells nothing that the documents do not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, Final

from pubsub.documents.prose import code, kind, limits, phrase, prose
from pubsub.documents.schemas import Schema

START: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pubsub: the protocol</title>
<link rel="stylesheet" href="docs.css">
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
"""
END: Final = "</main>\n</body>\n</html>\n"


def make_page(openapi: Schema, asyncapi: Schema) -> str:
    types = openapi["components"]["schemas"] | asyncapi["components"]["schemas"]
    parts = [
        START,
        header(openapi),
        contents(openapi, asyncapi),
        '<main id="main">\n<h2 id="rest">REST</h2>\n',
        prose(openapi["info"]["description"]),
        *(call(*each) for each in calls_of(openapi)),
        '<h2 id="websocket">WebSocket</h2>\n',
        prose(asyncapi["info"]["description"]),
        *(operation(name, each, types) for name, each in asyncapi["operations"].items()),
        '<h2 id="types">Types</h2>\n',
        *(type_(name, each) for name, each in sorted(types.items())),
        END,
    ]
    return "".join(parts)


def header(openapi: Schema) -> str:
    return (
        f"<header><h1>pubsub {escape(openapi['info']['version'])}</h1><p>The protocol. For machines: "
        '<a href="openapi.json">OpenAPI</a> (REST) and <a href="asyncapi.json">AsyncAPI</a> (WebSocket).</p></header>\n'
    )


def contents(openapi: Schema, asyncapi: Schema) -> str:
    calls = [(each["operationId"], each["summary"]) for _, _, each in calls_of(openapi)]
    operations = [(f"op-{name}", each["summary"]) for name, each in asyncapi["operations"].items()]
    groups = {"rest": ("REST", calls), "websocket": ("WebSocket", operations), "types": ("Types", [])}
    links = [f"<li>{link(anchor, title)}{listed(inner)}</li>" for anchor, (title, inner) in groups.items()]
    return f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>\n'


def listed(links: Iterable[tuple[str, str]]) -> str:
    found = "".join(f"<li>{link(anchor, text)}</li>" for anchor, text in links)
    return f"<ul>{found}</ul>" if found else ""


def link(anchor: str, text: str) -> str:
    return f'<a href="#{escape(anchor)}">{phrase(text)}</a>'


def calls_of(openapi: Schema) -> Iterator[tuple[str, str, Schema]]:
    """The method, the path and the description of each call, in the order of the tags."""
    for tag in openapi["tags"]:
        for path, item in openapi["paths"].items():
            yield from ((method.upper(), path, each) for method, each in item.items() if tag["name"] in each["tags"])


def call(method: str, path: str, each: Schema) -> str:
    title = f'<span class="method">{method}</span> <code>{escape(path)}</code>'
    sample = "".join(f"<pre><code>{escape(text['source'])}</code></pre>" for text in each.get("x-codeSamples", ()))
    return article(
        each["operationId"],
        title,
        f"<p><strong>{phrase(each['summary'])}.</strong></p>{prose(each['description'])}",
        section("Parameters", rows(map(parameter_row, each["parameters"]))),
        section("Body", body(each["requestBody"]["content"]) if "requestBody" in each else ""),
        section("Answers", rows((answer_row(*answer) for answer in each["responses"].items()), "answers")),
        section("Example", sample),
    )


def parameter_row(parameter: Schema) -> str:
    schema = parameter["schema"]
    place = f"{'required, ' if parameter.get('required') else ''}in the {parameter['in']}"
    return row(parameter["name"], f"{kind(schema)}, {place}", parameter["description"], schema)


def answer_row(status: str, answer: Schema) -> str:
    """A row without the type of all errors."""
    about = body(answer.get("content", {})) if status[0] in "123" else ""
    return row(status, about, answer["description"])


def body(content: Schema) -> str:
    """The kinds of a body, by its media type if that is not JSON."""
    return ", ".join(
        kind(each["schema"]) if media == "application/json" else f"<code>{escape(media)}</code>"
        for media, each in content.items()
    )


def operation(name: str, each: Schema, types: Schema) -> str:
    """A request of the WebSocket with its answers, or messages that come without one."""
    names = [message["$ref"].rpartition("/")[2] for message in each["messages"]]
    answers = [message["$ref"].rpartition("/")[2] for message in each.get("reply", {}).get("messages", ())]
    direction = "client" if each["action"] == "receive" else "server"
    return article(
        f"op-{name}",
        f'<span class="method">{direction}</span> <code>{escape(name)}</code>',
        f"<p><strong>{phrase(each['summary'])}.</strong></p>{prose(each.get('description', ''))}",
        section("Message", rows(message_row(each, types) for each in names)),
        section("Answer", rows(message_row(each, types) for each in answers)),
        section("Example", code(types[names[0]]["examples"][0])),
    )


def message_row(name: str, types: Schema) -> str:
    return row(link(name, name), "", types[name].get("description", ""), named=False)


def type_(name: str, schema: Schema) -> str:
    required = schema.get("required", ())
    fields = (
        row(field, f"{kind(each)}{', required' if field in required else ''}", each.get("description", ""), each)
        for field, each in schema.get("properties", {}).items()
    )
    examples = "".join(code(each) for each in schema.get("examples", ()))
    return article(name, f"<code>{name}</code>", prose(schema.get("description", "")), rows(fields), examples)


def row(name: str, about: str, text: str, schema: Schema | None = None, *, named: bool = True) -> str:
    """A row of a list: a name, its kind, and its meaning with its limits."""
    term = f"<code>{escape(name)}</code>" if named else name
    bounds = "; ".join(limits(schema or {}))
    small = f"<small>{bounds}</small>" if bounds else ""
    return f"<div><dt>{term} <span>{about}</span></dt><dd>{phrase(text)} {small}</dd></div>"


def rows(found: Iterable[str], style: str = "fields") -> str:
    text = "".join(found)
    return f'<dl class="{style}">{text}</dl>' if text else ""


def section(title: str, content: str) -> str:
    return f"<h4>{title}</h4>{content}" if content else ""


def article(anchor: str, title: str, *parts: Any) -> str:
    return f'<article id="{escape(anchor)}"><h3>{title}</h3>{"".join(parts)}</article>\n'
