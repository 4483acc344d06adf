"""The transport with a deadline, over real sockets and TLS."""

import datetime as dt
import http.server
import ipaddress
import json
import ssl
import threading
import time

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from genopt_pipeline.sources.x_api.transport import DEADLINE, DeadlineTransport


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({"path": self.path, "agent": self.headers["User-Agent"]}).encode()
        if self.path == "/interim":
            # informational answers without end, none of them slow
            for _ in range(2000):
                self.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                time.sleep(0.005)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder


@pytest.fixture
def running(request, certificate):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    scheme = getattr(request, "param", "http")
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    server.daemon_threads = True
    thread.start()
    yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("running", ["http", "https"], indirect=True)
def test_requests_and_bodies_go_and_come_over_one_connection(running, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    with httpx.Client(transport=DeadlineTransport()) as client:
        for n in range(3):
            answer = client.get(f"{running}/{n}", extensions={DEADLINE: time.monotonic() + 10})
            assert answer.json()["path"] == f"/{n}"
        big = b"x" * 3_000_000
        assert client.post(f"{running}/echo", content=big).content == big


@pytest.mark.parametrize("running", ["https"], indirect=True)
def test_a_certificate_that_nobody_vouches_for_is_refused(running):
    with (
        httpx.Client(transport=DeadlineTransport()) as client,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get(running)


def test_interim_answers_without_end_are_ended_by_the_deadline(running):
    with (
        httpx.Client(transport=DeadlineTransport(), timeout=5.0) as client,
        pytest.raises(httpx.TimeoutException),
    ):
        client.get(f"{running}/interim", extensions={DEADLINE: time.monotonic() + 0.2})


def test_a_deadline_that_has_passed_sends_nothing(running):
    with (
        httpx.Client(transport=DeadlineTransport()) as client,
        pytest.raises(httpx.TimeoutException),
    ):
        client.get(running, extensions={DEADLINE: time.monotonic() - 1})


def test_a_port_where_nobody_listens_is_a_connection_error():
    with (
        httpx.Client(transport=DeadlineTransport()) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.get("http://127.0.0.1:9/")


def test_the_environments_proxy_is_not_used(running, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with httpx.Client(transport=DeadlineTransport(), trust_env=False) as client:
        assert client.get(running).status_code == 200
