"""The workers of docs/deploying.md: the Lambda's handler, and the Edge Function on Node."""

# ruff: noqa: S603 (the commands are ours)

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Final

import httpx
import pytest
import respx

from tests.docs.pages import load, named
from tests.docs.typescript import TSC, node_command
from tests.factories import REST_URL, leased_row

pytest_plugins = ["tests.unit.command_line"]

PAGE: Final = "docs/deploying.md"
_DEVICES: Final = [{"token": "one", "platform": "ios"}, {"token": "two", "platform": "android"}]
RUNTIME: Final = """
const database = JSON.parse(process.env.DATABASE);
const settled = [];
globalThis.settled = settled;
export const createClient = () => ({
  async rpc(name, parameters) {
    if (name === "scenario_lease_notifications") return { data: { leased: database.shift() ?? [] }, error: null };
    settled.push(...parameters.p_results);
    return { data: { answers: [] }, error: null };
  },
});
globalThis.Deno = { env: { get: (name) => process.env[name] }, serve: (handler) => { globalThis.handler = handler; } };
globalThis.fetch = async (_, { body }) => ({ ok: JSON.parse(body).to !== "gone", status: 503 });
"""
CALLS: Final = """
import "./function.mjs";
const ask = async (password) => {
  const headers = { "X-Deliver-Password": password };
  return await globalThis.handler(new Request("http://function", { method: "POST", headers }));
};
const refused = await ask("wrong");
const answer = await ask("right");
console.log(JSON.stringify([refused.status, answer.status, await answer.json(), globalThis.settled]));
"""


@pytest.fixture
def sender() -> Iterator[list[str]]:
    """Put a sender in place of fcm.py; collect the tokens it was called with."""
    reached: list[str] = []

    async def send(_: object, device: object) -> None:
        reached.append(str(getattr(device, "token", "")))

    module = ModuleType("fcm")
    vars(module)["send"] = send
    sys.modules["fcm"] = module
    yield reached
    for name in ("fcm", "worker"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("environment")
def test_the_lambda_delivers_call_after_call(sender: list[str]) -> None:
    """In one event loop, until nothing is due."""
    worker = load(PAGE, "worker.py")
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 300_000)
    with respx.mock(base_url=REST_URL) as rest:
        lease = rest.post("/rpc/scenario_lease_notifications")
        rest.post("/rpc/scenario_settle_notifications").respond(json={"answers": ["sent"]})
        for _ in range(2):
            lease.mock(
                side_effect=[
                    httpx.Response(200, json={"leased": rows})
                    for rows in ([leased_row(device_tokens=_DEVICES)], *[[]] * 9)
                ]
            )
            assert worker.handler({}, context) == {"sent": 1}
    worker.RUNNER.close()
    assert sorted(sender) == ["one", "one", "two", "two"]


def test_the_edge_function_delivers(tmp_path: Path) -> None:
    """It asks for its password; leases, sends and settles; and retries only where it has not arrived."""
    leased = [
        leased_row(id="1", device_tokens=_DEVICES),
        leased_row(id="2", device_tokens=[*_DEVICES, {"token": "gone", "platform": "ios"}]),
        leased_row(id="3", device_tokens=[]),
    ]
    text = named(PAGE, "deliver/index.ts").text.replace("npm:@supabase/supabase-js@2", "./runtime.mjs")
    (tmp_path / "function.mts").write_text(text, encoding="utf-8")
    (tmp_path / "runtime.mjs").write_text(RUNTIME, encoding="utf-8")
    (tmp_path / "calls.mjs").write_text(CALLS, encoding="utf-8")
    # Without the runtime's types it only strips ours: test_blocks.py checks them.
    subprocess.run([*TSC, "--noCheck", "--target", "es2022", "function.mts"], cwd=tmp_path, check=False)
    settings = {"SUPABASE_URL": "u", "SUPABASE_SECRET_KEY": "k", "PUSH_URL": "p", "DELIVER_PASSWORD": "right"}
    said = subprocess.run(
        [*node_command(), "calls.mjs"],
        cwd=tmp_path,
        env={**os.environ, **settings, "DATABASE": json.dumps([leased])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stderr == ""
    refused, answered, answer, settled = json.loads(said.stdout)
    assert (refused, answered, answer) == (401, 200, {"settled": 3})
    assert [(one["id"], one["result"], one.get("reached")) for one in settled] == [
        ("1", "sent", None),
        ("2", "retry", ["one", "two"]),
        ("3", "suppressed", None),
    ]
