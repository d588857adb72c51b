"""Each recipe does what its first line says, under uvicorn and under gunicorn.

The site has all of them at once. How a callback of some request has ended is known
by an instrument; all else is seen from outside, as an effect.
"""

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from asgi_demo import recipes

from .conftest import SERVERS, Sites
from .serving import Site
from .site.names import ALWAYS, BROKEN, HELD, LIMIT, RECIPES

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


def test_every_recipe_is_in_the_site_and_says_what_it_does() -> None:
    (directory,) = map(Path, recipes.__path__)
    modules = {path.stem for path in directory.glob("*.py")}
    assert modules - {"__init__", "models", "task_before_6"} == set(RECIPES)
    for name in RECIPES:
        assert (directory / f"{name}.py").read_text().startswith('"""')


# delivered


def verdict(site: Site, path: str) -> str:
    """What the log says of the only request for this path."""
    assert site.ended(path, "log_delivery")["state"] == "SUCCEEDED"
    return site.line("delivered", repr(path))


def test_a_response_that_is_read_is_logged_as_delivered(site: Site) -> None:
    with site.connect("/delivered/hello") as client:
        assert client.response().body == b"Hello World"
        line = verdict(site, "/delivered/hello")
    # Other systems do not tell.
    told = "delivered" if sys.platform == "linux" else "sent, not confirmed"
    assert line == f"INFO GET '/delivered/hello' 200: {told}"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_client_that_reads_and_closes_at_once(site: Site) -> None:
    """As curl does: the server closes too, while Django still closes the response."""
    part = repr("/delivered/hello")
    before = len(site.lines("delivered", part))
    for _ in range(20):
        with site.connect("/delivered/hello") as client:
            assert client.response().body == b"Hello World"
    site.wait(lambda: len(site.lines("delivered", part)) == before + 20, "20 lines")
    told = [line.rpartition(": ")[2] for line in site.lines("delivered", part)[before:]]
    # Nobody can promise it: the acknowledgement may come after the server's look.
    assert told.count("delivered") > 10


def test_a_stream_whose_client_leaves_is_logged_as_not_delivered(site: Site) -> None:
    client = site.connect("/site/endless-stream")
    assert client.head()[0] == 200
    client.reset()
    line = verdict(site, "/site/endless-stream")
    assert line == "WARNING GET '/site/endless-stream' 200: not delivered (disconnected)"


@pytest.mark.parametrize("view", ["big", "long-stream"])
def test_a_response_that_is_not_read_is_not_logged_as_delivered(site: Site, view: str) -> None:
    client = site.connect(f"/site/{view}")
    assert client.head()[0] == 200
    client.reset()
    line = verdict(site, f"/site/{view}")
    # A server that takes it all at once may notice nothing.
    assert line.endswith((" 200: not delivered (disconnected)", " 200: sent, not confirmed"))


# then_callback


@pytest.mark.parametrize("path", ["contact", "acontact"])
def test_the_mail_is_written_after_the_response(site: Site, path: str) -> None:
    before = len(site.mails())
    with site.state(HELD):
        reply = site.post(f"/then_callback/{path}", message=f"Hello from {path}")
        assert reply.body == b"Thank you."
        assert len(site.mails()) == before
    site.wait(lambda: len(site.mails()) > before, "the mail")
    mails = [mail.as_string() for mail in site.mails()]
    assert len([mail for mail in mails if f"Hello from {path}" in mail]) == 1
    assert site.post(f"/then_callback/{path}").status == 400


# closer


def test_the_export_is_gone_when_the_client_has_it(site: Site) -> None:
    reply = site.get("/closer/export/3")
    assert reply.body == b"0,0\r\n1,1\r\n2,4\r\n"
    assert "squares.csv" in reply.headers["content-disposition"]
    assert site.ended("/closer/export/3", "cleanup")["state"] == "SUCCEEDED"


def test_the_export_is_gone_when_the_view_has_failed(site: Site) -> None:
    assert site.get("/closer/export/0").status == 404
    assert site.ended("/closer/export/0", "cleanup")["state"] == "SUCCEEDED"


def test_no_export_is_left(site: Site) -> None:
    assert site.get("/closer/export/4").status == 200
    site.ended("/closer/export/4", "cleanup")
    assert [*site.temporary.glob("export-*")] == []


# server_timing


def test_the_header_tells_of_the_application_and_the_log_of_the_last_byte(site: Site) -> None:
    begun = time.perf_counter()
    path = f"/site/gated-stream/{site.name}"
    client = site.connect(path)
    _, headers = client.head()
    came = time.perf_counter()
    app = float(headers["server-timing"].removeprefix("app;dur="))
    assert 0 <= app <= (came - begun) * 1000

    own = site.get("/server_timing/hello").headers["server-timing"]
    assert re.fullmatch(r"db;dur=0\.5, app;dur=\d+\.\d", own)
    released = time.perf_counter()
    site.server.release(site.name)
    assert [*iter(client.chunk, b"")] == [b"first", b"last"]
    client.close()

    line = site.line("server_timing", repr(path))
    found = re.search(r"app ([\d.]+) ms, last byte ([\d.]+) ms", line)
    assert found is not None, line
    assert float(found[1]) == app
    assert float(found[2]) - app >= (released - came) * 1000 - 0.1  # both are rounded


# view_timing


def test_views_are_timed_by_route_and_none_is_forgotten(site: Site) -> None:
    def timing() -> dict[str, float]:
        found: dict[str, float] = site.get("/view_timing/timings").json.get(
            "site/timed/<int:number>", {"responses": 0}
        )
        return found

    before = timing()["responses"]
    replies = site.at_once(lambda number: site.get(f"/site/timed/{number}"), 40)
    assert {reply.status for reply in replies} == {200}
    site.wait(lambda: timing()["responses"] >= before + 40, "all of the 40")
    found = timing()
    assert found["responses"] == before + 40
    assert 0 < found["view_seconds"] <= found["total_seconds"]
    assert found["slowest"] <= found["total_seconds"]


# error_mail


def test_the_mail_of_an_error_leaves_after_the_response_once_and_without_secrets(
    site: Site,
) -> None:
    with site.state(HELD):
        replies = site.at_once(lambda number: site.get(f"/error_mail/fail/secret-{number}"), 8)
        assert {reply.status for reply in replies} == {500}
        assert not [mail for mail in site.mails() if "RuntimeError" in str(mail["Subject"])]
    for number in range(8):
        event = site.ended(f"/error_mail/fail/secret-{number}", "_mail_error")
        assert event["state"] == "SUCCEEDED"
    text = site.mail("RuntimeError in error_mail/fail/<token>")
    assert text.startswith("GET error_mail/fail/<token>: 500, sent")
    assert "in fail" in text
    assert "secret" not in text


def test_a_404_is_no_error(site: Site) -> None:
    assert site.get("/visits/article/00").status == 404
    assert site.ended("/visits/article/00", "_mail_error")["state"] == "SKIPPED"


def test_a_mail_that_could_not_be_sent_is_logged_and_the_next_one_tries_again(site: Site) -> None:
    with site.state(BROKEN):
        assert site.get("/site/missing-key/1").status == 500
        assert site.ended("/site/missing-key/1", "_mail_error")["state"] == "FAILED"
    site.wait(lambda: "the mail server is out of order" in site.server.stderr(), "the log")
    assert site.get("/site/missing-key/2").status == 500
    assert "in missing_key" in site.mail("KeyError in site/missing-key/<int:number>")


# signal_timing


@KINDS
def test_each_request_has_its_own_time_while_others_are_under_way(site: Site, kind: str) -> None:
    slow = [f"{site.name}-{kind}-{number}" for number in range(4)]
    pattern = r"sent, ([\d.]+) s to the first byte, ([\d.]+) s to the last"

    def logged(path: str) -> float:
        found = re.search(pattern, site.line("signal_timing", repr(path)))
        assert found is not None
        assert float(found[1]) <= float(found[2])
        return float(found[2])

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(site.get, f"/site/gated-{kind}/{ident}") for ident in slow]
        for ident in slow:
            site.server.wait(ident, "in view")
        for number in range(4):
            target = f"/signal_timing/hello/{kind}{number}"
            begun = time.perf_counter()
            assert site.get(target).status == 200
            took = logged(target)
            # Nothing of those that began earlier and have not ended.
            assert took <= time.perf_counter() - begun
        for ident in slow:
            site.server.release(ident)
        for ident, reply in zip(slow, asked, strict=True):
            # Nor has a later one taken their beginning away.
            assert float(reply.result().body) <= logged(f"/site/gated-{kind}/{ident}")


def test_a_path_cannot_forge_a_line_of_the_log(site: Site) -> None:
    path = "/x\nERROR asgi_demo.recipes.forged: all is lost"
    assert site.get(quote(path)).status == 404
    assert "404" in site.line("signal_timing", "forged")
    assert site.lines("forged", "") == []


# analytics


def test_each_response_is_a_row(site: Site) -> None:
    paths = {f"/site/timed/{number}" for number in range(1000, 1020)}
    site.at_once(lambda number: site.get(f"/site/timed/{1000 + number}?token=secret"), 20)
    for path in paths:
        assert site.ended(path, "record_hit")["state"] == "SUCCEEDED"
    rows = site.rows("SELECT path, method, status, body_bytes, completion FROM recipes_hit")
    assert sorted(row for row in rows if row[0] in paths) == [
        (path, "GET", 200, 4, "sent") for path in sorted(paths)
    ]


def test_the_report_sums_up(site: Site) -> None:
    for _ in range(2):
        site.post("/site/timed/5000", field="x" * 100)
    wanted = {"method": "POST", "path": "/site/timed/5000", "status": 200, "hits": 2, "bytes": 8}

    def row() -> dict[str, object]:
        rows = site.get("/analytics/report").json["rows"]
        (found,) = [row for row in rows if (row["method"], row["path"]) == ("POST", wanted["path"])]
        return {name: value for name, value in found.items() if name != "mean"}

    site.wait(
        lambda: len(site.server.events("/site/timed/5000", "callback")) >= 12, "its callbacks"
    )
    assert row() == wanted


def test_what_is_no_text_for_a_database_is_recorded_all_the_same(site: Site) -> None:
    assert site.get(f"/%00{'long' * 100}").status == 404
    path = f"/\x00{'long' * 100}"
    assert site.ended(path, "record_hit")["state"] == "SUCCEEDED"
    (row,) = site.rows("SELECT length(path), status FROM recipes_hit WHERE path LIKE '/longlong%'")
    assert row == (200, 404)


# post_log


def test_every_post_is_one_line_whichever_process_writes_it(sites: Sites) -> None:
    running = [sites.get(server) for server in SERVERS]
    targets = {f"/post_log/form/{number}" for number in range(100)}
    for site in running:
        assert site.get("/post_log/form/100").status == 200
        site.ended("/post_log/form/100", "log_post")

    def post(number: int) -> None:
        reply = running[number % 2].post(f"/post_log/form/{number}?token=secret", password="secret")
        assert reply.body == b"Thank you."

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(post, range(100)))
    for number in range(100):
        event = running[number % 2].ended(f"/post_log/form/{number}", "log_post")
        assert event["state"] == "SUCCEEDED"
    text = (running[0].directory.parent / "posts.jsonl").read_text()
    assert "secret" not in text
    entries = [json.loads(line) for line in text.splitlines()]
    entries = [entry for entry in entries if entry["path"].startswith("/post_log/")]
    assert sorted(entry["path"] for entry in entries) == sorted(targets)
    assert {(entry["status"], entry["completion"], entry["body_bytes"]) for entry in entries} == {
        (200, "sent", 10)
    }
    assert len({entry["process"] for entry in entries}) == 2


# every_100


def test_there_is_a_report_of_each_100_requests_and_none_is_missed(site: Site) -> None:
    site.at_once(lambda number: site.get("/signal_timing/hello/many"), 210)
    asked = site.asked

    def is_counted() -> bool:
        events = site.server.events(None, "callback")
        return len([e for e in events if e["name"].endswith("every_100.count")]) == asked

    site.wait(is_counted, f"{asked} requests counted")
    reports = site.lines("every_100", "requests")
    assert len(reports) == asked // 100
    assert site.get("/every_100/total").json["requests"] == asked
    found = [re.search(r"requests (\d+) to (\d+): ", line) for line in reports]
    numbers = [(int(match[1]), int(match[2])) for match in found if match is not None]
    assert sorted(numbers) == [(100 * n + 1, 100 * n + 100) for n in range(len(reports))]


# rate_limit


@KINDS
def test_so_many_requests_pass_and_no_more(site: Site, kind: str) -> None:
    target = f"/site/limited-{kind}"
    key = f"rate-limit:tests.recipes.site.views.limited_{kind}:127.0.0.1:0"

    def counted() -> int | None:
        value: int | None = site.get(f"/site/cached?key={key}").json["value"]
        return value

    replies = site.at_once(lambda number: site.get(target), LIMIT)
    assert [reply.status for reply in replies] == [200] * LIMIT
    site.wait(lambda: counted() == LIMIT, "all counted")
    refused = site.get(target)
    assert refused.status == 429
    assert 0 < int(refused.headers["retry-after"]) <= ALWAYS
    assert counted() == LIMIT


def test_the_view_of_the_recipe_is_limited(site: Site) -> None:
    def is_refused() -> bool:
        return site.get("/rate_limit/search").status == 429

    assert not is_refused()
    site.wait(is_refused, "the limit")


# visits


def test_each_visit_counts_once(site: Site) -> None:
    site.at_once(lambda number: site.get("/visits/article/7"), 50)

    def visits() -> int:
        found: int = site.get("/visits/visits/7").json["visits"]
        return found

    site.wait(lambda: visits() >= 50, "50 visits")
    assert visits() == 50


def test_no_response_no_visit(site: Site) -> None:
    assert site.get("/visits/article/0").status == 404
    assert site.ended("/visits/article/0", "send_robust")["state"] == "SKIPPED"
    assert site.get("/visits/visits/0").json == {"visits": 0}


# job_queue


def test_the_job_is_done_after_the_response_and_the_commit(site: Site) -> None:
    with site.state(HELD):
        order = site.post("/job_queue/checkout", item="green tea").json["order"]
        assert site.rows(f"SELECT item FROM asgi_demo_order WHERE id = {order}") == [("green tea",)]
        assert not [mail for mail in site.mails() if mail["Subject"] == f"Order {order}"]
    assert "green tea" in site.mail(f"Order {order}")


def test_the_job_of_an_order_that_is_undone_is_skipped(site: Site) -> None:
    before = site.rows("SELECT count(*) FROM asgi_demo_order")
    assert site.post("/job_queue/checkout?undone", item="").status == 400
    site.wait(lambda: "SKIPPED" in enqueued(site), "the rollback")
    assert site.rows("SELECT count(*) FROM asgi_demo_order") == before
    assert set(enqueued(site)) <= {"SKIPPED", "SUCCEEDED"}


def enqueued(site: Site) -> list[str]:
    events = site.server.events("/job_queue/checkout", "callback")
    return [event["state"] for event in events if "enqueue" in event["name"]]


# All together.


def test_nothing_else_has_failed(site: Site) -> None:
    """No callback but the one whose mail server was out of order."""
    site.get("/signal_timing/hello/last")
    failed = [e for e in site.server.events(None, "callback") if e["state"] == "FAILED"]
    assert {event["id"] for event in failed} <= {"/site/missing-key/1"}
