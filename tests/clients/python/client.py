"""A workload that knows nothing of Muster: py-spiffe (grpcio), unchanged. It prints one JSON object per event.

    client.py fetch-x509 | watch-x509 | fetch-bundles | fetch-jwt AUDIENCE... | fetch-jwt-bundles
    client.py validate-jwt AUDIENCE TOKEN
    client.py hammer N            N times: a new connection to the Workload API and one fetch

The Workload API is the one that SPIFFE_ENDPOINT_SOCKET names.
"""

import collections
import json
import re
import signal
import sys
import threading

import spiffe
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
