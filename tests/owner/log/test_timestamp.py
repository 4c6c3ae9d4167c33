"""Timestamps by a local authority: OpenSSL answers the requests, with a certificate chain made for the test.

No public authority is asked.
"""

import dataclasses
import http.server
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta

import pytest

from owner.log.log import Log
from owner.log.timestamp import stamped, time_of
from owner.twins import study as studies
from tests.owner.papers import accuse, case_of, committed, judged, prepare
from wire import BadInput, Unreachable
from zoo import folder

pytest.importorskip("rfc3161_client")
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[root]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[tsa]
default_tsa = authority
[authority]
serial = {folder}/serial
signer_cert = {folder}/leaf.pem
signer_key = {folder}/leaf.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
ess_cert_id_alg = sha256
"""


class Authority:
    """A timestamping authority behind a URL."""

    def __init__(self, folder, name):
        self.folder, self.config = folder, folder / "openssl.cnf"
        folder.mkdir()
        self.config.write_text(CONFIG.format(folder=folder, name=name))
        (folder / "serial").write_text("01\n")
        new = ("req", "-config", str(self.config), "-newkey", "rsa:2048", "-nodes", "-subj")
        self.run(
            *new, f"/CN={name} root", "-x509", "-extensions", "root", "-keyout", "root.key", "-out", "root.pem"
        )
        self.run(*new, f"/CN={name}", "-keyout", "leaf.key", "-out", "leaf.csr")
        sign = ("x509", "-req", "-in", "leaf.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial")
        self.run(*sign, "-extfile", str(self.config), "-extensions", "leaf", "-out", "leaf.pem")

    def run(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def answer(self, query):
        (self.folder / "query").write_bytes(query)
        self.run(
            "ts",
            "-reply",
            "-config",
            str(self.config),
            "-section",
            "authority",
            "-queryfile",
            "query",
            "-out",
            "reply",
        )
        return (self.folder / "reply").read_bytes()

    def serve(self, answer=None):
        authority = answer or self.answer

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                reply = authority(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *arguments):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


@pytest.fixture(autouse=True, scope="module")
def secret():
    """The same twins in every run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("owner.twins.study.secrets.token_hex", lambda size: "17" * size)
        yield


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority") / "it", "authority")


@pytest.fixture(scope="module")
def url(authority):
    server = authority.serve()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def head(tmp_path_factory, url):
    log = Log.open(tmp_path_factory.mktemp("log"), create=True).append(b"a").append(b"b")
    log.replace_head(stamped(log.heads[0], url))
    return Log.open(log.folder).heads[0]


def test_an_authority_certifies_when_a_head_existed(head, authority):
    when = time_of(head, authority.folder / "root.pem")
    assert abs(when - datetime.now(UTC)) < timedelta(minutes=5)
    head.check()


def test_the_timestamp_of_another_head_is_refused(head, authority, tmp_path):
    other = Log.open(tmp_path, create=True).append(b"a").heads[0]
    with pytest.raises(BadInput, match="is not valid: Mismatch between messages"):
        time_of(dataclasses.replace(other, timestamp=head.timestamp), authority.folder / "root.pem")
    with pytest.raises(BadInput, match="has no timestamp"):
        time_of(other, authority.folder / "root.pem")


def test_an_authority_that_nobody_trusts_is_refused(head, tmp_path):
    stranger = Authority(tmp_path / "stranger", "stranger")
    with pytest.raises(BadInput, match="the timestamp of the head of 1 entries is not valid"):
        time_of(head, stranger.folder / "root.pem")
    (tmp_path / "no.pem").write_text("no")
    with pytest.raises(BadInput, match="not a file of certificates"):
        time_of(head, tmp_path / "no.pem")


def test_a_changed_timestamp_is_refused_or_says_the_same(head, authority):
    """Bytes that no signature covers, such as certificates that are not needed, may change; the time may not."""
    when, refused = time_of(head, authority.folder / "root.pem"), 0
    for place in range(0, len(head.timestamp), 7):
        changed = bytearray(head.timestamp)
        changed[place] ^= 0x55
        try:
            assert (
                time_of(dataclasses.replace(head, timestamp=bytes(changed)), authority.folder / "root.pem") == when
            )
        except BadInput:
            refused += 1
    assert refused > len(head.timestamp) / 7 / 2


@pytest.mark.parametrize("reply", [b"", b"no timestamp"])
def test_what_is_no_timestamp_is_told(head, authority, reply):
    server = authority.serve(lambda query: reply)
    with pytest.raises(Unreachable, match="no timestamp was granted"):
        stamped(head, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    with pytest.raises(Unreachable):
        stamped(head, f"http://127.0.0.1:{server.server_port}")


def test_the_answer_to_another_request_is_told(head, authority, tmp_path):
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    old = TimestampRequestBuilder().data(b"other").hash_algorithm(HashAlgorithm.SHA256).build().as_bytes()
    server = authority.serve(lambda query: authority.answer(old))
    with pytest.raises(Unreachable, match="answers another request"):
        stamped(head, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


def test_a_judge_relies_on_the_authority_in_place_of_the_owners_clock(authority, url, tmp_path):
    study = prepare(tmp_path)
    log = committed(study, tmp_path / "log")
    victim = folder.load(studies.model_folder(study, 0))
    log.replace_head(stamped(log.heads[0], url))
    evidence = accuse(study, victim, tmp_path / "log")
    case = case_of(evidence, study, tmp_path / "log", authority=authority.folder / "root.pem", retrained=0)
    found = judged(case, victim, tmp_path / "one")
    assert found.outcome == "derived" and any("by its timestamp, is older than" in one for one in found.checked)
    assert not any("owner's clock" in one for one in found.unchecked)
    young = dataclasses.replace(case, since=datetime.now(UTC) - timedelta(hours=1))
    found = judged(young, victim, tmp_path / "two")
    assert found.outcome == "refused" and "by its timestamp, no older than the suspect" in found.why
    bare = dataclasses.replace(evidence.receipt.head, timestamp=None)
    evidence = dataclasses.replace(evidence, receipt=dataclasses.replace(evidence.receipt, head=bare, latest=bare))
    case = dataclasses.replace(case, evidence=evidence.signed(log.key), heads=[bare])
    found = judged(case, victim, tmp_path / "three")
    assert found.outcome == "refused" and "has no timestamp" in found.why
