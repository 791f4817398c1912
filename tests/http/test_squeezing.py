"""Scripts and styles as they are served: shorter than their sources, and the same to a browser."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pubsub.http.dashboard import parts
from pubsub.http.squeezing import squeeze_script, squeeze_style
from pubsub.http.static_files import FOLDER, load_file
from tests.harness import REPOSITORY
from tests.http.test_chromium import browser
from tests.javascript.node import NODE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser"]

SCRIPTS = ["client.js", "client-more.js", *(path for path in parts().values() if path.endswith(".js"))]
STYLES = ["docs.css", *(path for path in parts().values() if path.endswith(".css"))]
TYPESCRIPT = REPOSITORY / ".venv/npm/node_modules/typescript/lib/typescript.js"
COMPARE = REPOSITORY / "tests/javascript/same_program.mjs"
PREACT = FOLDER / "vendor/standalone.module.js"
RULES = """text => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    return [...sheet.cssRules].map(rule => rule.cssText.replaceAll(", ", ","));
}"""


def different(scripts: list[dict[str, str]]) -> list[str]:
    if not TYPESCRIPT.exists():
        assert os.environ.get("CI") != "true", "needs typescript: make test"
        pytest.skip("needs typescript: make test")
    done = subprocess.run(
        [NODE, COMPARE, TYPESCRIPT, PREACT], input=json.dumps(scripts), capture_output=True, text=True, check=True
    )
    return done.stdout.split("\n")[:-1]


def test_a_script_is_the_same_program_as_its_source() -> None:
    scripts = [
        {"name": name, "source": (FOLDER / name).read_text(), "served": load_file(name).content.decode()}
        for name in SCRIPTS
    ]
    broken = {"name": "broken", "source": "let a = 1", "served": "const a = 1"}
    cut = {"name": "cut", "source": "html`<p>a\n b</p>`", "served": "html`<p>ab</p>`"}
    assert different([*scripts, broken, cut]) == ["broken", "cut"]


def test_a_style_has_the_same_rules_as_its_source(browser: Browser) -> None:
    page = browser.new_page()
    for name in STYLES:
        rules = page.evaluate(RULES, (FOLDER / name).read_text())
        assert rules
        assert page.evaluate(RULES, load_file(name).content.decode()) == rules, name
    page.close()


@pytest.mark.parametrize(
    ("source", "squeezed"),
    [
        ("const a = 1; // one\n/* two\n lines */\n\n  b ( a )\n", "const a=1;b(a)"),
        ('const a = "x  // no";\nb', 'const a="x  // no";b'),
        ("a\nb\n(c)", "a\nb\n(c)"),
        ("a = b\n  .c()\n  ? d\n  : e", "a=b.c()?d:e"),
        ("if (a) {\n  b();\n  c();\n}\nd", "if(a){b();c()}\nd"),
        ("{\n  return a\n}", "{return a}"),
        ("a + +b - -c + d", "a+ +b- -c+d"),
        ("a = / x \\/ [/ ] /g.test(b) / 2 / c", "a= / x \\/ [/ ] /g.test(b) / 2 / c"),
        ("x = (a) => (b) => async (c) => d(e)", "x=a=>b=>async(c)=>d(e)"),
        ("f((a, b) => c, (d) => e)", "f((a,b)=>c,d=>e)"),
        ("`a  ${ b + `c  ${ { d : 1 } } }` }  e`", "`a  ${b+`c  ${{d:1}} }`}  e`"),
        ("html`\n  <p>\n    ${ a }\n    b  c\n  </p>`", "html`<p>${a}\nb  c\n</p>`"),
    ],
)
def test_only_what_nobody_needs_is_left_out(source: str, squeezed: str) -> None:
    assert squeeze_script(source) == squeezed


@pytest.mark.parametrize(
    ("source", "squeezed"),
    [
        ("/* one */\na , b > c { color : red ; margin: -1px 0; }\n", "a,b>c{color :red;margin:-1px 0}"),
        ("a :hover { width: calc(1px + 2px) }", "a :hover{width:calc(1px + 2px)}"),
        (
            'a::before { content: "; }  x"; font: 1px "A  B", serif; }',
            'a::before{content:"; }  x";font:1px "A  B",serif}',
        ),
        ("@media (max-width: 1px) {\n  a { b: c; }\n}", "@media (max-width:1px){a{b:c}}"),
    ],
)
def test_a_style_keeps_what_means_something(source: str, squeezed: str) -> None:
    assert squeeze_style(source) == squeezed


def test_foreign_files_are_served_as_they_are() -> None:
    for path in Path(FOLDER / "vendor").glob("*.js"):
        assert load_file(f"vendor/{path.name}").content == path.read_bytes()
