"""The close codes of the protocol, and the client's reaction to each."""

from __future__ import annotations

import pytest

from pubsub.client.close_codes import BY_CLOSE_CODE, Disconnection, explain_close, explain_refusal
from pubsub.protocol.errors import CloseReason


def test_every_close_code_of_the_server_is_known() -> None:
    assert {reason.code for reason in CloseReason} <= set(BY_CLOSE_CODE)


def test_close_codes_to_reconnect_after() -> None:
    assert {code for code, known in BY_CLOSE_CODE.items() if known.reconnects} == {1000, 1001, 1011, 1013}
    told = "an operator disconnected this client (4403: bye)"
    assert explain_close(4403, "bye") == Disconnection(told, reconnects=False)
    assert explain_close(1001, "") == Disconnection("the server shuts down (1001)", reconnects=True)
    assert explain_close(3999, "").reconnects


@pytest.mark.parametrize(
    ("status", "reconnects"), [(400, False), (401, False), (404, False), (429, True), (500, True), (503, True)]
)
def test_refusals_to_reconnect_after(status: int, reconnects: bool) -> None:
    disconnection = explain_refusal(status)
    assert f"status {status}" in disconnection.reason
    assert disconnection.reconnects is reconnects
    assert ("it wants another token" in disconnection.reason) == (status == 401)
