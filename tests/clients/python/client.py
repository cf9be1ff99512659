"""A workload that knows nothing of Muster: py-spiffe (grpcio), unchanged. It prints one JSON object per event.

    client.py fetch-x509 | watch-x509 | fetch-bundles | fetch-jwt AUDIENCE... | fetch-jwt-bundles
    client.py validate-jwt AUDIENCE TOKEN
    client.py serve ADDRESS PEER-ID [AUDIENCE]   mTLS echo by OpenSSL, with the newest SVIDs and bundles; with AUDIENCE the peer
                                  must also show a token
    client.py dial ADDRESS PEER-ID N [PAUSE [AUDIENCE]]   N new connections, one echo each, PAUSE ms apart; stops early when stdin closes
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
from cryptography import x509
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

    def __init__(self, client, peer, told=None):
        self._peer, self._context, self._told = peer, None, told
        self._arrived = threading.Event()
        self._handle = client.stream_x509_contexts(self._take, failure)
        self._arrived.wait(60)

    def _take(self, context):
        self._context = context
        self._arrived.set()
        leaf = context.default_svid.leaf
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(context.default_svid.spiffe_id.trust_domain)
        event("holds", serial=str(leaf.serial_number), authorities=len(bundle.x509_authorities))
        if self._told:
            self._told(self)

    def close(self):
        self._handle.cancel()

    def authority(self):
        """The authority that signed our SVID, by its key's identifier."""
        return authority_of(self._context.default_svid.leaf)

    def held(self):
        """The authorities that are held of the peer's trust domain and of ours, by their keys' identifiers."""
        own = self._context.default_svid.spiffe_id.trust_domain.name
        return {
            bundle.trust_domain.name: [key_identifier(a) for a in bundle.x509_authorities]
            for bundle in self._context.x509_bundle_set.bundles
            if bundle.trust_domain.name in (own, self._peer.split("/")[2])
        }

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


def key_identifier(certificate):
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()


def authority_of(leaf):
    return leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier.hex()


def serve(client, address, peer, audience=None):
    told = (lambda identity: event("held", authorities=identity.held())) if audience else None
    identity = Identity(client, peer, told)
    host, port = address.rsplit(":", 1)
    listener = socket.create_server((host, int(port)))
    event("listening", addr="%s:%d" % listener.getsockname()[:2])
    if told:
        told(identity)
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=answer, args=(client, identity, plain, peer, audience), daemon=True).start()


def answer(client, identity, plain, peer, audience):
    try:
        with identity.tls(ssl.PROTOCOL_TLS_SERVER).wrap_socket(plain, server_side=True) as connection:
            identity.check(connection)
            if audience:
                with connection.makefile("r") as lines:
                    token = lines.readline(64 << 10).strip()
                svid = client.validate_jwt_svid(token=token, audience=audience)
                if str(svid.spiffe_id) != peer:
                    raise OSError(f"the token is of {svid.spiffe_id}")
                connection.sendall(b"taken\n")
                return
            while data := connection.recv(1024):
                connection.sendall(data)
    except (OSError, PySpiffeError) as error:
        event("refused", message=str(error))


def dial(client, address, peer, rounds, pause, audience=None):
    identity = Identity(client, peer)
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
    served, refused, told = 0, [], None
    for _ in range(rounds):
        if closed.is_set():
            break
        try:
            made_with = exchange(client, identity, address, audience)
            served += 1
        except (OSError, PySpiffeError) as error:
            refused.append(str(error))
            made_with = None
        # What an exchange was made with that has ended is what no later one goes back behind.
        if audience and made_with and made_with != told:
            told = made_with
            event("exchange", made_with=made_with)
        closed.wait(pause / 1000)
    identity.close()
    event("dialed", ok=served, failed=len(refused), errors=refused[:20])


def exchange(client, identity, address, audience):
    """One connection, with an echo or a token; what it was made with."""
    host, port = address.rsplit(":", 1)
    made_with = {"own": identity.authority(), "key": "", "authorities": identity.held()}
    said, expected = b"hello", b"hello"
    if audience:
        token = client.fetch_jwt_svid(audience={audience}).token
        made_with["key"] = signed_by(token)
        said, expected = token.encode() + b"\n", b"taken\n"
    with socket.create_connection((host, int(port)), timeout=30) as plain:
        with identity.tls(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain) as connection:
            identity.check(connection)
            connection.sendall(said)
            answered = b""
            while len(answered) < len(expected) and (more := connection.recv(16)):
                answered += more
            if answered != expected:
                raise OSError("the peer did not take certificate or token")
            made_with["peer"] = authority_of(x509.load_der_x509_certificate(connection.getpeercert(binary_form=True)))
    return made_with


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
            serve(client, *args[:3])
        elif command == "dial":
            dial(client, args[0], args[1], int(args[2]), int(args[3]) if len(args) > 3 else 0, *args[4:5])
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
