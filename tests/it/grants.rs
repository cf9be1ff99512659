//! Who may do a part of what an administrator may does that part, and nothing beside it.

use std::{os::unix::process::CommandExt as _, process::Command};

use muster_pki::x509::create_csr;
use muster_proto::{
    grant::{
        CreateRequest, DeleteRequest, Grant, ListRequest, UpdateRequest, grant::Subject,
        grants_client::GrantsClient,
    },
    spire::{
        server::{
            agent::{BanAgentRequest, CountAgentsRequest, CreateJoinTokenRequest, agent_client::AgentClient},
            entry::{
                BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest,
                CountEntriesRequest, GetEntryRequest, ListEntriesRequest, entry_client::EntryClient,
            },
            svid::{MintJwtsvidRequest, MintX509svidRequest, svid_client::SvidClient},
        },
        types::{self, EntryMask},
    },
};
use muster_tests::{Cluster, Identity, PATIENCE, Settings, TRUST_DOMAIN, binary, need_root, tcp_channel};
use serde_json::Value;
use tonic::{Code, Status, transport::Channel};

use crate::audit::{recorded, records};

const ROBOT: &str = "spiffe://example.org/robots/registrar";
const NODE: &str = "/spire/agent/join_token/none";

/// A registrar of /ai, who also mints there.
fn registrar() -> Grant {
    Grant {
        name: "ai".into(),
        subject: Some(Subject::SpiffeId(ROBOT.into())),
        verbs: [
            "entry.read",
            "entry.create",
            "entry.update",
            "entry.delete",
            "x509_svid.mint",
            "jwt_svid.mint",
        ]
        .map(str::to_owned)
        .to_vec(),
        paths: vec!["/ai".into()],
        parents: vec![NODE.into()],
        selector_types: vec!["unix".into()],
        dns_domains: vec!["ai.example.org".into()],
        max_lifetime: 300,
        max_entries: 3,
        ..Grant::default()
    }
}

async fn give(cluster: &Cluster, grant: Grant) -> Grant {
    GrantsClient::new(cluster.channel().await)
        .create(CreateRequest { grant: Some(grant) })
        .await
        .expect("an administrator may give grants")
        .into_inner()
}

fn member(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid {
        trust_domain: TRUST_DOMAIN.into(),
        path: path.into(),
    })
}

fn entry(path: &str, parent: &str, selector: (&str, &str)) -> types::Entry {
    types::Entry {
        spiffe_id: member(path),
        parent_id: member(parent),
        selectors: vec![types::Selector {
            r#type: selector.0.into(),
            value: selector.1.into(),
        }],
        ..Default::default()
    }
}

fn inside(path: &str) -> types::Entry {
    entry(path, NODE, ("unix", "uid:1"))
}

async fn create(channel: &Channel, entry: types::Entry) -> Result<types::Entry, Status> {
    let request = BatchCreateEntryRequest {
        entries: vec![entry],
        output_mask: None,
    };
    let answer = EntryClient::new(channel.clone())
        .batch_create_entry(request)
        .await?;
    let result = answer.into_inner().results.swap_remove(0);
    done(result.status)?;
    Ok(result.entry.expect("what was created"))
}

async fn update(channel: &Channel, entry: types::Entry, mask: EntryMask) -> Result<types::Entry, Status> {
    let request = BatchUpdateEntryRequest {
        entries: vec![entry],
        input_mask: Some(mask),
        output_mask: None,
    };
    let answer = EntryClient::new(channel.clone())
        .batch_update_entry(request)
        .await?;
    let result = answer.into_inner().results.swap_remove(0);
    done(result.status)?;
    Ok(result.entry.expect("what was updated"))
}

async fn delete(channel: &Channel, id: &str) -> Result<(), Status> {
    let request = BatchDeleteEntryRequest { ids: vec![id.into()] };
    let answer = EntryClient::new(channel.clone())
        .batch_delete_entry(request)
        .await?;
    done(answer.into_inner().results.swap_remove(0).status)
}

async fn mint(channel: &Channel, id: &str) -> Result<types::X509svid, Status> {
    let csr = create_csr(&*Identity::key(), Some(&id.parse().unwrap())).unwrap();
    let request = MintX509svidRequest { csr, ttl: 3_600 };
    let answer = SvidClient::new(channel.clone()).mint_x509svid(request).await?;
    Ok(answer.into_inner().svid.expect("an SVID"))
}

fn done(status: Option<types::Status>) -> Result<(), Status> {
    let status = status.expect("each item has a status");
    match Code::from(status.code) {
        Code::Ok => Ok(()),
        code => Err(Status::new(code, status.message)),
    }
}

/// A refusal for a reason that the log has under its reference.
fn is_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, why: &str) {
    let status = answer.expect_err(why);
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(why), "{status}");
    assert!(status.message().contains("(reference "), "{status}");
}

#[test]
fn an_ai_agent_registers_and_mints_inside_its_grant_and_nowhere_else() {
    let mut cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let admin = cluster.channel().await;
        let robot = Identity::minted(&cluster, ROBOT, 600).await;
        let robot = tcp_channel(&cluster, Some(&robot)).await;
        let list = || async {
            EntryClient::new(robot.clone())
                .list_entries(ListEntriesRequest::default())
                .await
        };
        is_refused(
            list().await,
            Code::PermissionDenied,
            "authorization denied for method",
        );

        let given = give(&cluster, registrar()).await;
        assert_eq!((given.entries, given.verbs.len()), (0, 6));
        let foreign = create(&admin, inside("/prod/db")).await.unwrap();
        let mut boss = inside("/ai/boss");
        boss.admin = true;
        let boss = create(&admin, boss).await.unwrap();

        // Inside, it works as for anybody.
        let made = create(&robot, inside("/ai/scraper")).await.unwrap();
        assert_eq!(
            (made.x509_svid_ttl, made.jwt_svid_ttl),
            (300, 300),
            "cut, and said so"
        );
        let hinted = types::Entry {
            hint: "web".into(),
            ..made.clone()
        };
        let mask = EntryMask {
            hint: true,
            ..EntryMask::default()
        };
        update(&robot, hinted, mask).await.unwrap();

        // Outside, nothing does.
        for (wrong, why) in [
            (inside("/aix"), "under none of its paths"),
            (inside("/prod/web"), "under none of its paths"),
            (
                entry("/ai/a", "/spire/agent/join_token/other", ("unix", "uid:1")),
                "under none of its parents",
            ),
            (entry("/ai/a", "/spire/server", ("unix", "uid:1")), "parent"),
            (
                entry("/ai/a", NODE, ("k8s", "ns:kube-system")),
                "are not among its types",
            ),
            (
                types::Entry {
                    admin: true,
                    ..inside("/ai/a")
                },
                "entry.admin",
            ),
            (
                types::Entry {
                    downstream: true,
                    ..inside("/ai/a")
                },
                "entry.downstream",
            ),
            (
                types::Entry {
                    dns_names: vec!["db.example.org".into()],
                    ..inside("/ai/a")
                },
                "in none of its domains",
            ),
            (entry("/ai/boss", NODE, ("unix", "uid:2")), "is an administrator"),
        ] {
            is_refused(create(&robot, wrong).await, Code::PermissionDenied, why);
        }
        let out = types::Entry {
            spiffe_id: member("/prod/web"),
            ..made.clone()
        };
        let mask = EntryMask {
            spiffe_id: true,
            ..EntryMask::default()
        };
        is_refused(
            update(&robot, out, mask).await,
            Code::PermissionDenied,
            "under none of its paths",
        );
        // What is not inside is not there.
        let pulled = types::Entry {
            spiffe_id: member("/ai/db"),
            ..foreign.clone()
        };
        is_refused(
            update(&robot, pulled, mask).await,
            Code::NotFound,
            "entry not found",
        );
        is_refused(
            delete(&robot, &foreign.id).await,
            Code::NotFound,
            "entry not found",
        );
        let get = GetEntryRequest {
            id: foreign.id.clone(),
            output_mask: None,
        };
        is_refused(
            EntryClient::new(robot.clone()).get_entry(get).await,
            Code::NotFound,
            "entry not found",
        );
        // This one it sees, and may not touch.
        is_refused(
            delete(&robot, &boss.id).await,
            Code::PermissionDenied,
            "entry.admin",
        );
        let seen = list().await.unwrap().into_inner().entries;
        let seen: Vec<_> = seen.into_iter().filter_map(|entry| entry.spiffe_id).collect();
        assert!(seen.iter().all(|id| id.path.starts_with("/ai/")), "{seen:?}");
        assert_eq!(seen.len(), 2);
        let counted = EntryClient::new(robot.clone())
            .count_entries(CountEntriesRequest::default())
            .await;
        assert_eq!(counted.unwrap().into_inner().count, 2);

        // It may have three at a time, and again when one is gone.
        create(&robot, inside("/ai/b")).await.unwrap();
        create(&robot, inside("/ai/c")).await.unwrap();
        is_refused(
            create(&robot, inside("/ai/d")).await,
            Code::ResourceExhausted,
            "3 entries at a time",
        );
        delete(&robot, &made.id).await.unwrap();
        create(&robot, inside("/ai/d")).await.unwrap();

        // By name as by entry.
        let svid = mint(&robot, "spiffe://example.org/ai/scraper").await.unwrap();
        assert_eq!(svid.id, member("/ai/scraper"));
        let whole = mint(&admin, "spiffe://example.org/ai/scraper").await.unwrap();
        assert!(svid.expires_at + 3_000 < whole.expires_at, "the cap was kept");
        for (id, why) in [
            ("spiffe://example.org/prod/db", "under none of its paths"),
            ("spiffe://example.org/ai/boss", "is an administrator"),
            (ROBOT, "under none of its paths"),
        ] {
            is_refused(mint(&robot, id).await, Code::PermissionDenied, why);
        }
        let token = |path| {
            let request = MintJwtsvidRequest {
                id: member(path),
                audience: vec!["orders".into()],
                ttl: 3_600,
            };
            let mut tokens = SvidClient::new(robot.clone());
            async move { tokens.mint_jwtsvid(request).await }
        };
        token("/ai/scraper").await.unwrap();
        is_refused(
            token("/prod/db").await,
            Code::PermissionDenied,
            "under none of its paths",
        );

        // What its verbs do not name is closed, grants above all.
        let mut nodes = AgentClient::new(robot.clone());
        let ban = BanAgentRequest { id: member(NODE) };
        is_refused(
            nodes.ban_agent(ban).await,
            Code::PermissionDenied,
            "authorization denied for method",
        );
        let request = CreateJoinTokenRequest {
            ttl: 60,
            ..Default::default()
        };
        is_refused(
            nodes.create_join_token(request).await,
            Code::PermissionDenied,
            "authorization denied for method",
        );
        let mut grants = GrantsClient::new(robot.clone());
        let wider = Grant {
            paths: vec!["/".into()],
            ..registrar()
        };
        let request = UpdateRequest {
            grant: Some(wider),
            expected_version: 0,
        };
        is_refused(
            grants.update(request).await,
            Code::PermissionDenied,
            "authorization denied for method",
        );
        is_refused(
            grants.list(ListRequest::default()).await,
            Code::PermissionDenied,
            "authorization denied for method",
        );
    });
    assert!(cluster.take_server().stop().success());
    let records = records(&cluster.path().join("server/data/audit"));
    let by_robot = |record: &&&Value| record["actor"]["id"] == ROBOT;
    let created = recorded(&records, "entry.create");
    let (done, refused): (Vec<&&Value>, Vec<&&Value>) = created
        .iter()
        .filter(by_robot)
        .partition(|record| record["facts"]["grant"] == "ai");
    assert_eq!(
        (done.len(), refused.len()),
        (4, 10),
        "each by its grant, or refused"
    );
    assert!(refused.iter().all(|record| record["reference"].is_string()));
}

#[test]
fn a_grant_that_ended_or_was_deleted_opens_nothing_on_a_warm_connection() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let robot = Identity::minted(&cluster, ROBOT, 600).await;
        let robot = tcp_channel(&cluster, Some(&robot)).await;
        let mut entries = EntryClient::new(robot.clone());
        give(&cluster, registrar()).await;
        create(&robot, inside("/ai/a")).await.unwrap();
        let request = DeleteRequest { name: "ai".into() };
        GrantsClient::new(cluster.channel().await)
            .delete(request)
            .await
            .unwrap();
        is_refused(
            create(&robot, inside("/ai/b")).await,
            Code::PermissionDenied,
            "authorization denied",
        );
        // One that ends by itself: what is waited for is its end, and each call looks whether it came.
        let made_at = create(&cluster.channel().await, inside("/ai/clock"))
            .await
            .unwrap();
        let short = Grant {
            name: "short".into(),
            expires_at: made_at.created_at + 4,
            ..registrar()
        };
        give(&cluster, short).await;
        entries
            .count_entries(CountEntriesRequest::default())
            .await
            .expect("it has not ended");
        let give_up = tokio::time::Instant::now() + PATIENCE;
        while let Ok(_counted) = entries.count_entries(CountEntriesRequest::default()).await {
            assert!(tokio::time::Instant::now() < give_up, "still open");
        }
        is_refused(
            create(&robot, inside("/ai/b")).await,
            Code::PermissionDenied,
            "authorization denied",
        );
    });
}

#[test]
fn host_a_uid_with_a_grant_is_no_administrator_even_when_the_grant_has_ended() {
    if !need_root() {
        return;
    }
    const OPERATOR: u32 = 40_023;
    let cluster = Cluster::start_server_only(&Settings::default());
    let as_operator = |words: &[&str]| {
        // In the group of the socket, so that the door lets it in.
        let mut command = Command::new(binary("muster"));
        command
            .uid(OPERATOR)
            .gid(nix::unistd::getegid().as_raw())
            .args(words)
            .env("MUSTER_SERVER_SOCKET", cluster.server_socket());
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(
        as_operator(&["token", "create"]).0,
        Some(0),
        "an administrator so far"
    );
    let uid = OPERATOR.to_string();
    cluster.muster_ok(&["grant", "create", "eyes", "--uid", &uid, "--role", "viewer"]);
    for looks in [&["entry", "list"][..], &["node", "list"], &["health"]] {
        assert_eq!(as_operator(looks).0, Some(0), "{looks:?}");
    }
    for does in [
        &["token", "create"][..],
        &["log", "level", "trace"],
        &["grant", "list"],
        &["grant", "delete", "eyes"],
    ] {
        let (code, said) = as_operator(does);
        assert_eq!(code, Some(1), "{does:?}: {said}");
        assert!(said.contains("authorization denied"), "{does:?}: {said}");
    }
    // It ended long ago, which is no way to become an administrator.
    cluster.muster_ok(&["grant", "update", "eyes", "--expires-at", "2020-01-01T00:00:00Z"]);
    assert_eq!(as_operator(&["entry", "list"]).0, Some(1));
    assert_eq!(as_operator(&["token", "create"]).0, Some(1));
    cluster.muster_ok(&["grant", "delete", "eyes"]);
    assert_eq!(as_operator(&["token", "create"]).0, Some(0));
}

#[test]
fn an_operator_keeps_grants_by_the_command() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let json = |words: &[&str]| -> Value {
        let words: Vec<_> = ["--output", "json"].iter().chain(words).copied().collect();
        serde_json::from_str(&cluster.muster_ok(&words)).unwrap()
    };
    assert_eq!(cluster.muster_ok(&["grant", "list"]).trim(), "no grants");
    let words = [
        "grant",
        "create",
        "ai",
        "--subject",
        ROBOT,
        "--role",
        "registrar",
        "--verb",
        "x509_svid.mint",
        "--path",
        "/ai",
        "--parent",
        "/spire/agent",
        "--selector-type",
        "unix",
        "--max-ttl",
        "10m",
        "--max-entries",
        "5",
        "--expires-in",
        "1h",
    ];
    let made = json(&words);
    assert_eq!(
        (&made["subject"], &made["max_entries"], &made["max_lifetime"]),
        (&ROBOT.into(), &5.into(), &600.into())
    );
    let again = cluster.muster(&words);
    assert_eq!(again.status.code(), Some(1), "the name is taken");
    let updated = json(&[
        "grant",
        "update",
        "ai",
        "--path",
        "/ai/tools",
        "--clear",
        "max-entries",
    ]);
    assert_eq!(updated["paths"], Value::from(vec!["/ai/tools"]));
    assert!(updated["max_entries"].is_null());
    assert_eq!(updated["verbs"], made["verbs"], "what was not named stays");
    assert_eq!(json(&["grant", "show", "ai"]), updated);
    let table = cluster.muster_ok(&["grant", "list", "--subject", ROBOT]);
    assert!(
        table.starts_with("GRANT") && table.contains("/ai/tools"),
        "{table}"
    );
    assert_eq!(
        json(&["grant", "list", "--subject", "uid:7"]),
        Value::Array(vec![])
    );
    for (wrong, code) in [
        (&["grant", "create", "x", "--uid", "7"][..], 1),
        (&["grant", "create", "x", "--uid", "7", "--verb", "everything"], 2),
        (&["grant", "create", "x", "--role", "viewer"], 2),
        (&["grant", "update", "ai"], 2),
        (&["grant", "show", "nobody"], 1),
    ] {
        assert_eq!(cluster.muster(wrong).status.code(), Some(code), "{wrong:?}");
    }
    cluster.muster_ok(&["grant", "delete", "ai"]);
    assert_eq!(cluster.muster_ok(&["grant", "list"]).trim(), "no grants");
}

#[test]
fn a_responder_sees_and_bans_the_nodes_of_its_grant() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let (ours, theirs) = (Identity::joined(&cluster).await, Identity::joined(&cluster).await);
        let grant = Grant {
            name: "response".into(),
            subject: Some(Subject::SpiffeId(ROBOT.into())),
            verbs: vec!["node.read".into(), "node.ban".into()],
            parents: vec![ours.svid.id().path().to_string()],
            ..Grant::default()
        };
        give(&cluster, grant).await;
        let robot = Identity::minted(&cluster, ROBOT, 600).await;
        let robot = tcp_channel(&cluster, Some(&robot)).await;
        let mut nodes = AgentClient::new(robot.clone());
        let counted = nodes.count_agents(CountAgentsRequest::default()).await.unwrap();
        assert_eq!(counted.into_inner().count, 1);
        let ban = |node: &Identity| BanAgentRequest {
            id: member(node.svid.id().path().as_str()),
        };
        is_refused(
            nodes.ban_agent(ban(&theirs)).await,
            Code::NotFound,
            "agent not found",
        );
        nodes.ban_agent(ban(&ours)).await.unwrap();
        is_refused(
            create(&robot, inside("/ai/a")).await,
            Code::PermissionDenied,
            "authorization denied for method",
        );
    });
}
