"""Who may ask: hosts, origins, lengths, and the headers of every reply."""

from __future__ import annotations

import pytest

from medseg.serve.guard import HEADERS, Guard, Refused


async def nothing(scope, receive, send):
    raise AssertionError("reached")


GUARD = Guard(nothing, ["scan.example"], 1000)
HERE = {"host": ["localhost:8000"]}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1:9",
        "[::1]:8000",
        "10.1.2.3:8000",
        "scan.example",
        "Scan.Example.:80",
    ],
)
def test_hosts_that_cannot_be_rebound_and_those_named_are_answered(host):
    GUARD.check("GET", {"host": [host]})


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "scan.example.evil.example",
        "127.0.0.1.nip.io",
        "",
        "[::1",
        "@x",
    ],
)
def test_other_hosts_are_refused(host):
    with pytest.raises(Refused, match="does not answer under that host name") as refused:
        GUARD.check("GET", {"host": [host]})
    assert refused.value.status == 421


@pytest.mark.parametrize("hosts", [[], ["localhost", "evil.example"]])
def test_a_request_names_one_host(hosts):
    with pytest.raises(Refused, match="host name"):
        GUARD.check("GET", {"host": hosts})


@pytest.mark.parametrize("origin", ["http://localhost:8000", "http://LOCALHOST:8000"])
def test_the_page_itself_may_post(origin):
    GUARD.check("POST", {**HERE, "origin": [origin], "sec-fetch-site": ["same-origin"]})


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://localhost:3000",
        "http://localhost",
        "",
        "file://",
        "http://[::1",
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "GET"])
def test_other_pages_may_not(origin, method):
    with pytest.raises(Refused, match="other web pages") as refused:
        GUARD.check(method, {**HERE, "origin": [origin]})
    assert refused.value.status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_that_the_browser_calls_foreign_are_refused_but_for_links_to_the_page(site):
    head = {**HERE, "sec-fetch-site": [site]}
    GUARD.check("GET", {**head, "sec-fetch-mode": ["navigate"]})
    for method, mode in (("GET", "no-cors"), ("GET", "cors"), ("POST", "navigate"), ("POST", "no-cors")):
        with pytest.raises(Refused, match="other web pages"):
            GUARD.check(method, {**head, "sec-fetch-mode": [mode]})


def test_lengths():
    GUARD.check("POST", {**HERE, "content-length": ["5096"]})
    for length in ("5097", "-1", "x", "1e9"):
        with pytest.raises(Refused, match=r"larger than 0.001 MB; --max-megabytes allows more") as refused:
            GUARD.check("POST", {**HERE, "content-length": [length]})
        assert refused.value.status == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/page.js", 200),
        ("GET", "/api/bundle", 200),
        ("GET", "/api/results/x/mask.png", 404),
        ("GET", "/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("PUT", "/api/predict", 405),
        ("POST", "/api/predict", 400),
    ],
)
def test_every_reply_has_the_headers_and_every_refusal_one_line(served, method, path, status):
    reply = served.client.request(method, path)
    assert reply.status_code == status
    for name, value in HEADERS.items():
        assert reply.headers.get_list(name) == [value]
    assert "server" not in reply.headers
    if status >= 400:
        assert list(reply.json()) == ["error"]
        assert "\n" not in reply.json()["error"]


def test_the_policy_lets_no_script_but_the_page_s_own_run():
    rules = dict(rule.split(" ", 1) for rule in HEADERS["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == rules["style-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["form-action"] == rules["base-uri"] == "'none'"
    assert "unsafe" not in HEADERS["content-security-policy"]


def test_the_page_is_refused_under_another_name(served):
    reply = served.client.get("/", headers={"host": "evil.example"})
    assert reply.status_code == 421
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "host name" in reply.json()["error"]


def test_a_foreign_page_can_neither_predict_nor_forget(served, make_png):
    number = served.post(make_png()).json()["id"]
    calls = served.predictor.calls
    foreign = {"origin": "http://evil.example"}
    assert served.post(make_png(), **foreign).status_code == 403
    assert served.client.delete(f"/api/results/{number}", headers=foreign).status_code == 403
    assert served.predictor.calls == calls
    assert served.client.get(f"/api/results/{number}/mask.png").status_code == 200


def test_web_sockets_are_closed(served):
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), served.client.websocket_connect("/"):
        pass
