"""Tokens: rotated, never lost, sent to one origin only, and seen nowhere else."""

import http.server
import json
import logging
import stat
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from pydantic import SecretStr

from genopt_pipeline.sandbox.faults import AlwaysFault, FaultQueue
from genopt_pipeline.sandbox.server import OAuth2App
from genopt_pipeline.sources.base import SourceError, SourceRefusedError, TransientSourceError
from genopt_pipeline.sources.x_api import (
    OAuth1Credentials,
    OAuth2Credentials,
    XApiConfig,
    XApiSource,
)
from genopt_pipeline.sources.x_api.files import locked, replace_file
from genopt_pipeline.sources.x_api.redaction import Redactor
from genopt_pipeline.sources.x_api.tokens import TokenFile, TokenFileError, seed_of
from genopt_pipeline_tests.sources.x_api_scenario import TOKEN, USER, WINDOW, scenario

ACCESS, REFRESH, CLIENT_SECRET = "access-first-0001", "refresh-first-0001", "client-secret-0001"


def app(**options):
    return OAuth2App(
        access_token=ACCESS,
        refresh_token=REFRESH,
        client_id="client",
        client_secret=options.pop("client_secret", CLIENT_SECRET),
        **options,
    )


def credentials(path, *, client_secret=CLIENT_SECRET, access=ACCESS, refresh=REFRESH):
    return OAuth2Credentials(
        SecretStr(access),
        SecretStr(refresh),
        "client",
        None if client_secret is None else SecretStr(client_secret),
        path,
    )


@pytest.fixture
def token_path(tmp_path):
    return tmp_path / "tokens" / "x.json"


def rotating(token_path, **options):
    given = options.pop("app", app())
    return scenario(
        credentials=credentials(token_path, client_secret=given.client_secret),
        server_options={"oauth2": given},
        **options,
    )


def end_token(s):
    """The server forgets the access token, as it does when its two hours are over."""
    s.server._token_ends = s.time.now


@pytest.mark.parametrize("client_secret", [CLIENT_SECRET, None])
def test_an_ended_token_is_renewed_stored_and_used_within_the_same_window(
    token_path, client_secret
):
    with rotating(token_path, app=app(client_secret=client_secret)) as s:
        end_token(s)
        batch = s.collect()
        assert batch.report["complete"]
        assert len(batch.readings) == len(s.tracked())
        assert s.server.requests["oauth2/token"] == 1
        stored = TokenFile(token_path).load()
        assert [
            stored.access_token.get_secret_value(),
            stored.refresh_token.get_secret_value(),
        ] == (s.server.issued_tokens)
        assert stored.refreshing_since is None
        assert stat.S_IMODE(token_path.stat().st_mode) == 0o600


def test_a_token_is_renewed_before_it_ends_and_the_next_process_goes_on_with_it(token_path):
    with rotating(token_path) as s:
        end_token(s)
        s.collect()
        s.time.now += timedelta(hours=1, minutes=59, seconds=10)
        other = XApiSource(s.config, s.state, clock=s.time.clock, sleep=s.time.sleep)
        batch = other.collect(s.request())
        other.close()
        assert batch.report["complete"]
        assert s.server.requests["oauth2/token"] == 2
        assert "unauthorized" not in batch.report["faults"]


def test_two_processes_do_not_spend_the_same_refresh_token(token_path):
    with rotating(token_path) as s:
        other = XApiSource(s.config, s.state, clock=s.time.clock, sleep=s.time.sleep)
        end_token(s)
        s.collect()
        # the other still holds the first token in memory; it takes the renewed one from the file
        s.time.now += WINDOW
        batch = other.collect(s.request())
        other.close()
        assert batch.report["complete"]
        assert s.server.requests["oauth2/token"] == 1


def test_tokens_that_a_person_sets_anew_replace_the_stored_ones(token_path):
    with rotating(token_path) as s:
        end_token(s)
        s.collect()
    fresh = app()
    fresh = OAuth2App("access-second-02", "refresh-second-02", "client", CLIENT_SECRET)
    with scenario(
        credentials=credentials(token_path, access="access-second-02", refresh="refresh-second-02"),
        server_options={"oauth2": fresh},
    ) as s:
        assert s.collect().report["complete"]
        assert s.server.requests["oauth2/token"] == 0


def test_a_refused_refresh_token_asks_for_a_new_authorisation(token_path):
    with rotating(token_path) as s:
        end_token(s)
        s.server._refresh_token = "another"
        with pytest.raises(SourceRefusedError, match="authorise the app again"):
            s.collect()


def test_a_renewal_that_was_cut_off_is_told_when_the_old_token_is_refused(token_path):
    with rotating(token_path) as s:
        end_token(s)
        stored = s.source._client._auth._token
        TokenFile(token_path).mark_refreshing(stored, s.time.now)
        s.server._refresh_token = "rotated-and-lost"
        with pytest.raises(SourceRefusedError, match="was cut off, its answer is lost"):
            s.collect()


def test_the_refresh_token_is_not_spent_when_its_successor_could_not_be_stored(
    token_path, monkeypatch
):
    with rotating(token_path) as s:
        end_token(s)

        def full(path, content):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("genopt_pipeline.sources.x_api.tokens.replace_file", full)
        with pytest.raises(SourceRefusedError, match="nothing was spent"):
            s.collect()
        assert s.server.requests["oauth2/token"] == 0
        monkeypatch.undo()
        assert s.collect().report["complete"]


def test_a_renewal_whose_answer_fails_leaves_the_old_token_in_the_file(token_path):
    with rotating(token_path, faults=AlwaysFault("http_503", endpoint="oauth2/token")) as s:
        end_token(s)
        with pytest.raises(TransientSourceError):
            s.collect()
        assert TokenFile(token_path).load().refresh_token.get_secret_value() == REFRESH


def test_a_process_killed_while_it_writes_leaves_the_old_or_the_new_token(tmp_path):
    path = tmp_path / "x.json"
    replace_file(path, b"0" * 5000)
    script = (
        "import sys, pathlib\n"
        "from genopt_pipeline.sources.x_api.files import replace_file\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "for n in range(10**9): replace_file(path, str(n % 10).encode() * 5000)\n"
    )
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
        child.stdout.readline()
        for _ in range(200):
            content = path.read_bytes()
            assert len(content) == 5000
            assert len(set(content)) == 1
        child.kill()
        child.wait()
        child.stdout.close()
        content = path.read_bytes()
        assert len(content) == 5000
        assert len(set(content)) == 1


def test_a_lock_that_another_holds_is_waited_for_and_then_given_up(tmp_path):
    seconds = iter(range(100))
    path = tmp_path / "x.json"
    options = {"monotonic": lambda: next(seconds), "sleep": lambda _: None}
    with (
        locked(path, timeout_seconds=5, **options),
        pytest.raises(TimeoutError, match="another process"),
        locked(path, timeout_seconds=5, **options),
    ):
        pass


def test_a_token_file_that_others_could_read_is_closed_to_them(tmp_path):
    path = tmp_path / "x.json"
    file = TokenFile(path)
    token = credentials(path)
    from genopt_pipeline.sources.x_api.tokens import StoredToken

    file.save(StoredToken(token.access_token, token.refresh_token, None, "seed"))
    path.chmod(0o644)
    file.load()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 9}', b'{"access_token": "s3cr3t-x"}']
)
def test_a_damaged_token_file_is_an_error_that_does_not_quote_it(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(TokenFileError, match="damaged") as caught:
        TokenFile(path).load()
    assert "s3cr3t" not in str(caught.value)


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    seen: list = []  # noqa: RUF012  one server a test

    def do_GET(self):
        self.seen.append(dict(self.headers))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


def test_the_token_is_never_sent_to_another_host():
    _Elsewhere.seen.clear()
    elsewhere = http.server.HTTPServer(("127.0.0.1", 0), _Elsewhere)
    thread = threading.Thread(target=elsewhere.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        target = f"http://127.0.0.1:{elsewhere.server_address[1]}/2/users/me"
        options = {"redirect_to": target}
        with (
            scenario(faults=AlwaysFault("redirect"), server_options=options) as s,
            pytest.raises(SourceRefusedError, match="redirect"),
        ):
            s.collect()
    finally:
        elsewhere.shutdown()
        thread.join()
        elsewhere.server_close()
    assert _Elsewhere.seen == []


def test_no_secret_reaches_logs_errors_reports_state_or_representations(token_path, caplog):
    caplog.set_level(logging.DEBUG)
    faults = [None, "wrong_types", "http_500", "unauthorized", "client_forbidden", "not_json"]
    with rotating(token_path, faults=FaultQueue(faults * 3)) as s:
        told = [repr(s.config), repr(s.config.credentials), repr(s.source), str(s.config)]
        end_token(s)
        for _ in range(8):
            try:
                batch = s.collect()
            except SourceError as error:
                told += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
            else:
                told += [repr(batch), batch.model_dump_json()]
            s.time.now += WINDOW
        told.append(json.dumps(s.state._documents))
        secrets = [ACCESS, REFRESH, CLIENT_SECRET, *s.server.issued_tokens]
    assert s.server.requests["oauth2/token"] >= 1
    logged = [record.getMessage() for record in caplog.records]
    assert any("users/me" in text for text in logged)
    for secret in secrets:
        assert not any(secret in text for text in told)
        assert not any(secret in text for text in logged)


def test_a_server_that_repeats_the_token_does_not_get_it_into_the_report(monkeypatch):
    from genopt_pipeline.sandbox import server_answers

    echo = f"your header was Bearer {TOKEN}"
    monkeypatch.setattr(
        server_answers, "problem", lambda name, _: {"type": f"/{name}", "detail": echo}
    )
    with scenario(faults=FaultQueue([None, "wrong_types"])) as s:
        real = s.server.answerer._break
        monkeypatch.setattr(
            s.server.answerer, "_break", lambda record: {**real(record), "text": echo, TOKEN: 1}
        )
        batch = s.collect()
        assert len(batch.rejected) == 1
        assert "your header was" in str(batch.rejected)
        assert TOKEN not in str(batch)
        monkeypatch.setattr(s.server.answerer, "only_parameter", "post.fields")
        s.time.now += WINDOW
        batch = s.collect()
        assert "your header was" in str(batch.report)
        assert TOKEN not in str(batch.report)


def test_the_redaction_masks_every_form_of_a_secret_wherever_a_text_is_cut():
    secret = "s3cr3t/with+signs=="
    redactor = Redactor([secret])
    for filler in range(0, 4200, 7):
        text = redactor.text("x" * filler + secret + "tail" * 10, max_chars=200)
        assert "s3cr3t" not in text
        assert len(text) <= 200
    assert "s3cr3t" not in redactor.text("s3cr3t%2Fwith%2Bsigns%3D%3D")
    assert "\x00" not in redactor.text("a\x00b\ud800c")


def test_the_fingerprint_of_a_token_does_not_contain_it():
    assert ACCESS not in seed_of(SecretStr(ACCESS), SecretStr(REFRESH))
    assert seed_of(SecretStr(ACCESS), None) != seed_of(SecretStr(ACCESS), SecretStr(REFRESH))


def test_settings_do_not_show_their_secrets():
    keys = [SecretStr(f"very-secret-{n}") for n in range(4)]
    config = XApiConfig(USER, OAuth1Credentials(*keys))
    assert "very-secret" not in repr(config) + str(config)
