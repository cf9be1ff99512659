"""A workload that knows nothing of Muster: py-spiffe (grpcio), unchanged. It prints one JSON object per event.

    client.py fetch-x509 | watch-x509 | fetch-bundles | fetch-jwt AUDIENCE... | fetch-jwt-bundles
    client.py validate-jwt AUDIENCE TOKEN
    client.py serve ADDRESS PEER-ID         mTLS echo by OpenSSL, with the newest SVIDs and bundles
    client.py dial ADDRESS PEER-ID N [PAUSE]    N new connections, one echo each, PAUSE ms apart; stops early when stdin closes
    client.py tokens AUDIENCE PAUSE         fetches and validates JWT-SVIDs, PAUSE ms apart, until stdin closes; judges the
                                            tokens on stdin (AUDIENCE TOKEN, one a line)
    client.py hammer N            N times: a new connection to the Workload API and one fetch

Of serve, dial and tokens each says what it holds, at first and whenever that has changed.

The Workload API is the one that SPIFFE_ENDPOINT_SOCKET names.
"""

import base64
import collections
import json
import os
import re
import signal
import socket
import ssl
import sys
import tempfile
import threading

import spiffe
from cryptography.hazmat.primitives import serialization
from spiffe.errors import PySpiffeError

_OUTPUT = threading.Lock()
# py-spiffe keeps the status in its text: "... (StatusCode.PERMISSION_DENIED)".
_CODE = re.compile(r"StatusCode\.([A-Z_]+)")


def event(name, **fields):
    with _OUTPUT:
        print(json.dumps({"event": name, **fields}, sort_keys=True), flush=True)


def code_of(error):
    found = _CODE.search(str(error))
    return "".join(word.capitalize() for word in found.group(1).split("_")) if found else "Unknown"


def failure(error):
    event("error", code=code_of(error), message=str(error))


def describe(svid):
    leaf = svid.leaf
    return {
        "id": str(svid.spiffe_id),
        "serial": str(leaf.serial_number),
        "not_before": int(leaf.not_valid_before_utc.timestamp()),
        "not_after": int(leaf.not_valid_after_utc.timestamp()),
        "chain": len(svid.cert_chain),
    }


def domains(bundles):
    return sorted(
        ({"trust_domain": b.trust_domain.name, "authorities": len(b.x509_authorities)} for b in bundles.bundles),
        key=lambda bundle: bundle["trust_domain"],
    )


def context_event(context):
    event("x509", svids=[describe(s) for s in context.x509_svids], bundles=domains(context.x509_bundle_set))


def watch(client):
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    handle = client.stream_x509_contexts(context_event, failure)
    stop.wait()
    handle.cancel()


def hammer(rounds):
    served, refused = 0, collections.Counter()
    for _ in range(rounds):
        try:
            with spiffe.WorkloadApiClient() as client:
                client.fetch_x509_svid(timeout=30)
            served += 1
        except PySpiffeError as error:
            refused[str(error)] += 1
    event("hammered", ok=served, failed=rounds - served, errors=refused)


class Identity:
    """What the Workload API gave last, as OpenSSL wants it: an SVID, and the bundle of the peer's own trust domain alone."""

    def __init__(self, client, peer):
        self._peer, self._context = peer, None
        self._arrived = threading.Event()
        self._handle = client.stream_x509_contexts(self._take, failure)
        self._arrived.wait(60)

    def _take(self, context):
        self._context = context
        self._arrived.set()
        leaf = context.default_svid.leaf
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(context.default_svid.spiffe_id.trust_domain)
        event("holds", serial=str(leaf.serial_number), authorities=len(bundle.x509_authorities))

    def close(self):
        self._handle.cancel()

    def tls(self, protocol):
        context = self._context
        domain = spiffe.TrustDomain(self._peer.split("/")[2])
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(domain)
        if bundle is None:
            raise OSError(f"no bundle for {domain}")
        pem = serialization.Encoding.PEM
        svid = context.default_svid
        tls = ssl.SSLContext(protocol)
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_verify_locations(cadata="".join(a.public_bytes(pem).decode() for a in bundle.x509_authorities))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "svid.pem")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                for certificate in svid.cert_chain:
                    file.write(certificate.public_bytes(pem))
                file.write(
                    svid.private_key.private_bytes(
                        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                    )
                )
            tls.load_cert_chain(path)
        return tls

    def check(self, connection):
        names = [value for kind, value in connection.getpeercert().get("subjectAltName", ()) if kind == "URI"]
        if names != [self._peer]:
            raise OSError(f"the peer is {names}")


def serve(client, address, peer):
    identity = Identity(client, peer)
    host, port = address.rsplit(":", 1)
    listener = socket.create_server((host, int(port)))
    event("listening", addr="%s:%d" % listener.getsockname()[:2])
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=echo_back, args=(identity, plain), daemon=True).start()


def echo_back(identity, plain):
    try:
        with identity.tls(ssl.PROTOCOL_TLS_SERVER).wrap_socket(plain, server_side=True) as connection:
            identity.check(connection)
            while data := connection.recv(1024):
                connection.sendall(data)
    except OSError as error:
        event("refused", message=str(error))


def dial(client, address, peer, rounds, pause):
    identity = Identity(client, peer)
    host, port = address.rsplit(":", 1)
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
    served, refused = 0, []
    for _ in range(rounds):
        if closed.is_set():
            break
        try:
            with socket.create_connection((host, int(port)), timeout=30) as plain:
                with identity.tls(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain) as connection:
                    identity.check(connection)
                    connection.sendall(b"hello")
                    if connection.recv(5) != b"hello":
                        raise OSError("the echo is another")
            served += 1
        except OSError as error:
            refused.append(str(error))
        closed.wait(pause / 1000)
    identity.close()
    event("dialed", ok=served, failed=len(refused), errors=refused[:20])


class Verifier:
    """Asks the Workload API, and goes by the keys that it follows."""

    def __init__(self, client):
        self._client, self._bundles = client, None
        self._arrived = threading.Event()
        self._handle = client.stream_jwt_bundles(self._take, failure)
        self._arrived.wait(60)

    def _take(self, bundles):
        self._bundles = bundles
        self._arrived.set()

    def close(self):
        self._handle.cancel()

    def bundle(self, token):
        return self._bundles.get_bundle_for_trust_domain(token.spiffe_id.trust_domain)

    def judge(self, audience, text):
        """Why the Workload API and the library refuse a token; None where one takes it."""
        verdicts = []
        token = spiffe.JwtSvid.parse_insecure(text, {audience})
        for verdict in (
            lambda: self._client.validate_jwt_svid(token=text, audience=audience),
            lambda: spiffe.JwtSvid.parse_and_validate(text, self.bundle(token), {audience}),
        ):
            try:
                verdict()
                verdicts.append(None)
            except PySpiffeError as error:
                verdicts.append(str(error) or type(error).__name__)
        return verdicts


# One of so many tokens is for an audience of its own: it comes from the server, and not from what the agent holds.
ANEW = 10


def tokens(client, audience, pause):
    verifier = Verifier(client)
    closed = threading.Event()

    def judge_each():
        for line in sys.stdin:
            workload_api, library = verifier.judge(*line.split())
            event("judged", workload_api=workload_api is None, library=library is None, message=f"{workload_api}; {library}")
        closed.set()

    threading.Thread(target=judge_each, daemon=True).start()
    served, refused, said, done = 0, [], None, 0
    while not closed.is_set():
        done += 1
        wanted = f"{audience}-{done}" if done % ANEW == 0 else audience
        try:
            token = client.fetch_jwt_svid(audience={wanted})
            why = [reason for reason in verifier.judge(wanted, token.token) if reason]
            if why:
                raise PySpiffeError("; ".join(why))
            served += 1
            held = {"kid": signed_by(token.token), "authorities": len(verifier.bundle(token).jwt_authorities)}
            if held != said:
                event("holds", **held)
                said = held
        except PySpiffeError as error:
            refused.append(str(error))
        closed.wait(pause / 1000)
    verifier.close()
    event("checked", ok=served, failed=len(refused), errors=refused[:20])


def signed_by(token):
    head = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]


def run(command, args):
    if command == "hammer":
        hammer(int(args[0]))
        return
    with spiffe.WorkloadApiClient() as client:
        if command == "fetch-x509":
            context_event(client.fetch_x509_context())
        elif command == "watch-x509":
            watch(client)
        elif command == "fetch-bundles":
            event("bundles", bundles=domains(client.fetch_x509_bundles()))
        elif command == "fetch-jwt":
            svids = client.fetch_jwt_svids(audience=set(args))
            event(
                "jwt",
                svids=[
                    {"id": str(s.spiffe_id), "token": s.token, "audience": sorted(s.audience), "not_after": s.expiry}
                    for s in svids
                ],
            )
        elif command == "fetch-jwt-bundles":
            bundles = client.fetch_jwt_bundles().bundles
            event(
                "jwt-bundles",
                bundles=[{"trust_domain": b.trust_domain.name, "authorities": len(b.jwt_authorities)} for b in bundles],
            )
        elif command == "serve":
            serve(client, args[0], args[1])
        elif command == "dial":
            dial(client, args[0], args[1], int(args[2]), int(args[3]) if len(args) > 3 else 0)
        elif command == "tokens":
            tokens(client, args[0], int(args[1]))
        elif command == "validate-jwt":
            event("valid", id=str(client.validate_jwt_svid(token=args[1], audience=args[0]).spiffe_id))
        else:
            raise SystemExit(f"unknown command {command!r}")


def main():
    if len(sys.argv) < 2:
        raise SystemExit("which command?")
    try:
        run(sys.argv[1], sys.argv[2:])
    except PySpiffeError as error:
        failure(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
