//! Part 6: the Workload Endpoint, on the socket of a running agent.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    process::{Command, Output},
};

use muster_tests::{Cluster, Process, Settings, as_user, binary, need_root, until};
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

use crate::{
    book::Book,
    caller::{HEADER, call, connect, opened, ourselves, within},
    contract, silent,
};

const METHODS: [&str; 7] = [
    "FetchX509SVID",
    "FetchX509Bundles",
    "FetchJWTSVID",
    "FetchJWTBundles",
    "ValidateJWTSVID",
    "FetchWITSVID",
    "FetchWITBundles",
];
/// A user who is not the one who runs the cases.
const OTHER: u32 = 1000;
const UNKNOWN: [&str; 3] = ["Unknown", "fetchx509svid", "FetchX509SVID/more"];

pub(crate) fn judge(book: &mut Book) {
    let mut cluster = Cluster::start(&Settings::default());
    headers(book, &cluster);
    book.case("WE-12", || {
        cluster.block_on(async {
            refused_with(
                &ask(&cluster, "FetchX509SVID", &[HEADER]).await,
                Code::PermissionDenied,
            );
        });
    });
    cluster.register("/endpoint", &[&ourselves()]);
    cluster.block_on(opened(&cluster, &["/endpoint"]));
    // A connection of our own, in plain text, with the header and nothing else: served by what this process is.
    for id in ["WE-05", "WE-08", "WE-09"] {
        book.case(id, || {
            cluster.block_on(async { ask(&cluster, "FetchX509SVID", &[HEADER]).await.unwrap() });
        });
    }
    book.case("WE-07", || not_grpc(&cluster));
    book.case("WE-13", || {
        cluster.block_on(silent::is_told_to_come_back(&cluster));
    });
    book.case("WE-17", || {
        let services = cluster.block_on(contract::services(&cluster));
        assert!(
            services.iter().any(|name| name == "SpiffeWorkloadAPI"),
            "{services:?}"
        );
        assert!(
            services.iter().all(|name| !name.contains("muster")),
            "{services:?}"
        );
    });
    book.case("WE-18", || {
        contract::is_the_published_one(&cluster.block_on(contract::descriptor(&cluster)));
    });
    addresses(book, &cluster);
    book.case("WE-10", || never_reached(&mut cluster));
    book.case("WE-11", too_many);
}

fn headers(book: &mut Book, cluster: &Cluster) {
    // Nobody is registered yet: a refusal for the header is not one for want of an identity.
    let refused = |methods: &[&str], headers: &[(&'static str, &'static str)]| {
        cluster.block_on(async {
            for method in methods {
                refused_with(&ask(cluster, method, headers).await, Code::InvalidArgument);
            }
        });
    };
    book.case("WE-01", || refused(&METHODS, &[]));
    book.case("WE-02", || {
        for value in ["True", "TRUE", "1", "true ", "false", ""] {
            refused(&METHODS, &[(HEADER.0, value)]);
        }
    });
    book.case("WE-03", || refused(&METHODS, &[HEADER, HEADER]));
    book.case("WE-04", || {
        refused(
            &["FetchX509SVID?workload.spiffe.io=true", "workload.spiffe.io/true"],
            &[],
        );
        refused(
            &METHODS,
            &[("workload-spiffe-io", "true"), ("x-workload.spiffe.io", "true")],
        );
    });
    let unimplemented = |methods: &[&str]| {
        cluster.block_on(async {
            for method in methods {
                refused_with(&ask(cluster, method, &[HEADER]).await, Code::Unimplemented);
            }
        });
    };
    book.case("WE-06", || {
        refused(&METHODS, &[]);
        refused(&UNKNOWN, &[]);
        unimplemented(&UNKNOWN);
    });
    book.case("WE-14", || unimplemented(&UNKNOWN));
    book.case("WE-15", || unimplemented(&["FetchWITSVID", "FetchWITBundles"]));
}

/// Requests that a web page or a careless proxy can send.
fn not_grpc(cluster: &Cluster) {
    let mut door = UnixStream::connect(cluster.workload_socket()).unwrap();
    door.write_all(
        b"GET /SpiffeWorkloadAPI/FetchX509SVID HTTP/1.1\r\nhost: a\r\nworkload.spiffe.io: true\r\n\r\n",
    )
    .unwrap();
    let _ = door.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = door.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        !answer.contains(" 200 ") && !answer.contains("spiffe://"),
        "{answer}"
    );

    cluster.block_on(async {
        for kind in ["application/json", "text/plain", "application/grpc-web"] {
            let mut channel = connect(cluster).await;
            let request = http::Request::post("http://localhost/SpiffeWorkloadAPI/FetchX509SVID")
                .header("content-type", kind)
                .header(HEADER.0, HEADER.1)
                .body(tonic::body::Body::empty())
                .unwrap();
            let answer = within(channel.ready().await.unwrap().call(request))
                .await
                .unwrap();
            assert_eq!(
                answer.status(),
                http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "{kind}"
            );
            assert!(answer.headers().get("grpc-status").is_none(), "{kind}");
        }
    });
}

/// What `muster` reads as an address, and what the agent takes for its socket.
fn addresses(book: &mut Book, cluster: &Cluster) {
    let path = cluster.workload_socket().display().to_string();
    book.case("WE-19", || succeeded(&fetch(&format!("unix://{path}"), &[])));
    book.case("WE-20", || {
        for wrong in [
            format!("unix://host{path}"),
            "unix:api.sock".into(),
            format!("unix://{path}?x"),
            format!("unix://{path}#f"),
        ] {
            refused_as_usage(&wrong);
        }
    });
    book.case("WE-22", || {
        for wrong in [
            "tcp://127.0.0.1",
            "tcp://localhost:8000",
            "tcp://127.0.0.1:8000/foo",
            "tcp://u@127.0.0.1:8000",
            "http://127.0.0.1:8000",
        ] {
            refused_as_usage(wrong);
        }
    });
    book.case("WE-24", || {
        succeeded(&fetch("unix:///nowhere/api.sock", &["--socket", &path]));
        let argument_alone = fetch(&format!("unix://{path}"), &["--socket", "/nowhere/api.sock"]);
        assert!(!argument_alone.status.success());
    });
    book.case("WE-23", || {
        let config = cluster.path().join("tcp.toml");
        let text = fs::read_to_string(cluster.path().join("agent.toml")).unwrap();
        fs::write(&config, text.replace(&path, "tcp://0.0.0.0:8000")).unwrap();
        let started = Command::new(binary("muster-agent"))
            .args(["run", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        assert_eq!(
            started.status.code(),
            Some(2),
            "{}",
            String::from_utf8_lossy(&started.stderr)
        );
        assert!(String::from_utf8_lossy(&started.stderr).contains("workload_socket"));
    });
}

/// An agent that joined, was never told what runs here, and can't reach its server.
fn never_reached(cluster: &mut Cluster) {
    cluster.take_agent().kill();
    cluster.take_server().kill();
    let _ = fs::remove_file(cluster.path().join("agent/data/svids.sealed"));
    let mut command = Command::new(binary("muster-agent"));
    command
        .args(["run", "--config"])
        .arg(cluster.path().join("agent.toml"));
    let _agent = Process::start("muster-agent", &mut command);
    until("the agent's socket", || {
        UnixStream::connect(cluster.workload_socket()).is_ok()
    });
    cluster.block_on(async {
        for method in ["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"] {
            refused_with(&ask(cluster, method, &[HEADER]).await, Code::Unavailable);
        }
    });
}

/// One user calls in a loop; another one is served meanwhile.
fn too_many() {
    let cluster = Cluster::start(&Settings {
        agent: "[workload]\ncalls_per_second = 1\n",
        ..Settings::default()
    });
    // Nobody else is registered: a call within the rate is PermissionDenied, one beyond it is not even looked at.
    let refused = || {
        let answers = (0..200).map(|_| cluster.block_on(ask(&cluster, "FetchX509SVID", &[HEADER])));
        let within = |answer: &Result<(), Status>| {
            let status = answer.as_ref().expect_err("nobody registered this user");
            status.code() == Code::PermissionDenied
        };
        let beyond = answers.filter(|answer| !within(answer));
        beyond
            .inspect(|answer| refused_with(answer, Code::Unavailable))
            .count()
    };
    assert!(refused() > 0, "200 calls were all within a rate of one a second");
    // Only root can be somebody else too.
    if need_root() {
        let selector = format!("unix:uid:{OTHER}");
        let entry = [
            "entry",
            "create",
            "spiffe://example.org/other",
            "--parent",
            cluster.node(),
        ];
        cluster.muster_ok(&[&entry[..], &["--selector", &selector, "--wait"]].concat());
        let mut command = as_user(&binary("muster"), OTHER);
        command
            .args(["fetch", "x509", "--socket"])
            .arg(cluster.workload_socket());
        let mut other = Process::start("muster fetch x509", &mut command);
        assert!(refused() > 0, "the loop was let in beside another user");
        assert!(other.ended().success(), "{}", other.said());
        assert!(other.said().contains("spiffe://example.org/other"));
    }
}

async fn ask(
    cluster: &Cluster,
    method: &str,
    headers: &[(&'static str, &'static str)],
) -> Result<(), Status> {
    call(
        connect(cluster).await,
        &format!("/SpiffeWorkloadAPI/{method}"),
        headers,
    )
    .await
}

fn refused_with(answer: &Result<(), Status>, code: Code) {
    let status = answer.as_ref().expect_err("it is refused");
    assert_eq!(status.code(), code, "{status}");
    assert!(
        !status.message().contains("spiffe://"),
        "the refusal tells of identities: {status}"
    );
}

fn fetch(address: &str, more: &[&str]) -> Output {
    Command::new(binary("muster"))
        .args(["fetch", "x509"])
        .args(more)
        .env("SPIFFE_ENDPOINT_SOCKET", address)
        .output()
        .unwrap()
}

fn succeeded(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn refused_as_usage(address: &str) {
    let output = fetch(address, &[]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "{address}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
