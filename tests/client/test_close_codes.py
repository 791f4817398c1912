"""The close codes of the protocol, as a client takes them."""

from __future__ import annotations

import pytest

from pubsub.client.close_codes import ENDINGS, Ending, ending_of, refusal_of
from pubsub.protocol.errors import CloseReason


def test_every_close_code_of_the_server_is_known() -> None:
    assert {reason.code for reason in CloseReason} <= set(ENDINGS)


def test_close_codes_to_reconnect_after() -> None:
    assert {code for code, ending in ENDINGS.items() if ending.reconnects} == {1001, 1011, 1013}
    assert ending_of(4403, "bye") == Ending("an operator disconnected this client (4403: bye)", reconnects=False)
    assert ending_of(1001, "") == Ending("the server shuts down (1001)", reconnects=True)
    assert ending_of(3999, "").reconnects


@pytest.mark.parametrize(
    ("status", "reconnects"), [(400, False), (401, False), (404, False), (429, True), (500, True), (503, True)]
)
def test_refusals_to_reconnect_after(status: int, reconnects: bool) -> None:
    ending = refusal_of(status)
    assert f"status {status}" in ending.reason
    assert ending.reconnects is reconnects
    assert ("it wants another token" in ending.reason) == (status == 401)
