"""Certificates."""

import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from pipelines.fetch_options import certificate_bundle
from tests.pipelines import loopback
from tests.pipelines.hasty_fetch import BODY, fetch, to


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Self-signed for 127.0.0.1, for another name, and one that has expired; made by the openssl command line."""
    folder = tmp_path_factory.mktemp("tls")
    kinds = {"good": ("IP:127.0.0.1", "2"), "name": ("DNS:example.com", "2"), "expired": ("IP:127.0.0.1", "-1")}
    out = {}
    for kind, (name, days) in kinds.items():
        out[kind] = folder / f"{kind}.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-subj", "/CN=loopback", "-addext", f"subjectAltName={name}", "-days", days]
        command += ["-keyout", str(out[kind]), "-out", f"{out[kind]}.crt"]
        made = subprocess.run(command, capture_output=True, check=False)
        if made.returncode:
            out[kind] = _expired_certificate(folder)
            continue
        out[kind].write_bytes(out[kind].read_bytes() + Path(f"{out[kind]}.crt").read_bytes())
    return out


def _expired_certificate(folder: Path) -> Path:
    """openssl req takes no negative days in some versions; the cryptography package takes any dates."""
    x509 = pytest.importorskip("cryptography.x509")
    import datetime
    import ipaddress

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=3))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "expired_by_cryptography.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


@pytest.mark.parametrize(
    ("kind", "is_trusted", "reason"),
    [
        ("good", False, "net.tls_untrusted"),
        ("good", True, None),
        ("name", True, "net.tls_name"),
        ("expired", True, "net.tls_expired"),
    ],
)
def test_certificates(
    certificates: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str, is_trusted: bool, reason: str | None
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[kind])
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates[kind]))
    with loopback.Server(context=context) as server:
        server.routes |= {"/ok": lambda r: r.reply(BODY), "/down": to("http://127.0.0.1/ok")}
        out = fetch(server.url("/ok"))
        assert out.reason == reason
        if reason is None:
            assert out.body == BODY
            down = fetch(server.url("/down"))
            assert (down.reason, down.status) == ("http.redirect_blocked", "refused")
        else:
            assert server.hits == {}


def test_https_to_a_plain_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        out = fetch(f"https://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join(5)
    assert out.reason == "net.tls_handshake"
    assert Path(certificate_bundle()).is_file()
