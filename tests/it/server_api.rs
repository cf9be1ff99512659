//! What SPIRE's own tools count on when they speak to our server: pages, masks, filters, a status for each item, their words.

use muster_pki::x509::create_csr;
use muster_proto::{
    convert::{Reason, denial_reason},
    spire::{
        server::{
            agent::{
                AgentX509svidParams, BanAgentRequest, CountAgentsRequest, CreateJoinTokenRequest,
                DeleteAgentRequest, GetAgentRequest, ListAgentsRequest, PostStatusRequest, RenewAgentRequest,
                agent_client::AgentClient, list_agents_request,
            },
            entry::{
                BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest,
                CountEntriesRequest, GetAuthorizedEntriesRequest, ListEntriesRequest,
                entry_client::EntryClient, list_entries_request::Filter,
            },
            svid::{BatchNewX509svidRequest, MintX509svidRequest, svid_client::SvidClient},
        },
        types::{self, EntryMask},
    },
};
use muster_tests::{Cluster, Identity, PATIENCE, Settings, TRUST_DOMAIN, join, tcp_channel};
use rcgen::{CertificateParams, KeyPair, SanType};
use tonic::{Code, Status, transport::Channel};

const NODE: &str = "/spire/agent/join_token/none";

fn member(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid {
        trust_domain: TRUST_DOMAIN.into(),
        path: path.into(),
    })
}

fn selector(text: &str) -> types::Selector {
    let (kind, value) = text.split_once(':').unwrap();
    types::Selector {
        r#type: kind.into(),
        value: value.into(),
    }
}

fn entry(id: &str, path: &str, selectors: &[&str]) -> types::Entry {
    types::Entry {
        id: id.into(),
        spiffe_id: member(path),
        parent_id: member(NODE),
        selectors: selectors.iter().map(|text| selector(text)).collect(),
        ..Default::default()
    }
}

async fn create(channel: &Channel, entries: Vec<types::Entry>) -> Vec<(types::Status, Option<types::Entry>)> {
    let request = BatchCreateEntryRequest {
        entries,
        output_mask: None,
    };
    let answer = EntryClient::new(channel.clone())
        .batch_create_entry(request)
        .await
        .unwrap();
    let results = answer.into_inner().results.into_iter();
    results
        .map(|result| (result.status.expect("never nil"), result.entry))
        .collect()
}

async fn list(channel: &Channel, filter: Filter) -> Result<Vec<String>, Status> {
    let request = ListEntriesRequest {
        filter: Some(filter),
        ..Default::default()
    };
    let answer = EntryClient::new(channel.clone()).list_entries(request).await?;
    let entries = answer.into_inner().entries.into_iter();
    Ok(entries.map(|entry| entry.id).collect())
}

fn says(status: &Status, code: Code, words: &str) {
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(words), "{status}");
}

#[test]
fn a_list_comes_in_pages_that_end_with_an_empty_one() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let channel = cluster.channel().await;
        let mut client = EntryClient::new(channel.clone());
        let names: Vec<_> = (0..7).map(|number| format!("e{number}")).collect();
        let all = names
            .iter()
            .map(|name| entry(name, &format!("/{name}"), &["unix:uid:1"]));
        create(&channel, all.collect()).await;
        let mask = EntryMask {
            spiffe_id: true,
            ..EntryMask::default()
        };
        let (mut token, mut sizes, mut seen) = (String::new(), vec![], vec![]);
        loop {
            let request = ListEntriesRequest {
                page_size: 3,
                page_token: token,
                output_mask: Some(mask),
                ..Default::default()
            };
            let page = client.list_entries(request).await.unwrap().into_inner();
            sizes.push(page.entries.len());
            for entry in page.entries {
                assert!(entry.spiffe_id.is_some() && entry.parent_id.is_none() && entry.selectors.is_empty());
                seen.push(entry.id);
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!((sizes, seen), (vec![3, 3, 1, 0], names));
        let whole = client
            .list_entries(ListEntriesRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert_eq!((whole.entries.len(), whole.next_page_token.as_str()), (7, ""));
        let wrong = ListEntriesRequest {
            page_size: 3,
            page_token: "no such/token".into(),
            ..Default::default()
        };
        let wrong = client.list_entries(wrong).await.unwrap_err();
        says(&wrong, Code::InvalidArgument, "could not parse token");
    });
}

#[test]
fn filters_mean_what_they_mean_to_spires_tools() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let channel = cluster.channel().await;
        let mut downstream = entry("down", "/down", &["unix:uid:3"]);
        downstream.downstream = true;
        let mut hinted = entry("hinted", "/hinted", &["unix:uid:4"]);
        hinted.hint = "web".into();
        let made = create(
            &channel,
            vec![
                entry("one", "/one", &["unix:uid:1"]),
                entry("both", "/both", &["unix:uid:1", "unix:uid:2"]),
                downstream,
                hinted,
            ],
        )
        .await;
        assert!(
            made.iter()
                .all(|(status, _)| status.code == 0 && status.message == "OK")
        );
        let matching = |how: i32, selectors: &[&str]| Filter {
            by_selectors: Some(types::SelectorMatch {
                selectors: selectors.iter().map(|text| selector(text)).collect(),
                r#match: how,
            }),
            ..Filter::default()
        };
        let (exact, subset, superset, any) = (0, 1, 2, 3);
        for (filter, expected) in [
            (matching(exact, &["unix:uid:1"]), &["one"][..]),
            (matching(subset, &["unix:uid:1", "unix:uid:3"]), &["down", "one"]),
            (matching(superset, &["unix:uid:1"]), &["both", "one"]),
            (matching(any, &["unix:uid:2", "unix:uid:3"]), &["both", "down"]),
            (
                Filter {
                    by_downstream: Some(false),
                    ..Filter::default()
                },
                &["both", "down", "hinted", "one"],
            ),
            (
                Filter {
                    by_downstream: Some(true),
                    ..Filter::default()
                },
                &["down"],
            ),
            (
                Filter {
                    by_hint: Some("web".into()),
                    ..Filter::default()
                },
                &["hinted"],
            ),
            (
                Filter {
                    by_spiffe_id: member("/one"),
                    by_parent_id: member(NODE),
                    ..Filter::default()
                },
                &["one"],
            ),
            (
                Filter {
                    by_parent_id: member("/one"),
                    ..Filter::default()
                },
                &[],
            ),
        ] {
            assert_eq!(
                list(&channel, filter.clone()).await.unwrap(),
                expected,
                "{filter:?}"
            );
        }
        let foreign = Some(types::Spiffeid {
            trust_domain: "other.org".into(),
            path: "/one".into(),
        });
        for (wrong, words) in [
            (matching(any, &[]), "malformed selectors filter"),
            (matching(9, &["unix:uid:1"]), "malformed selectors filter"),
            (
                Filter {
                    by_federates_with: Some(types::FederatesWithMatch::default()),
                    ..Filter::default()
                },
                "malformed federates with filter",
            ),
            (
                Filter {
                    by_parent_id: foreign.clone(),
                    ..Filter::default()
                },
                "malformed parent ID filter",
            ),
            (
                Filter {
                    by_spiffe_id: foreign,
                    ..Filter::default()
                },
                "malformed SPIFFE ID filter",
            ),
            (
                Filter {
                    by_spiffe_id: member(NODE),
                    ..Filter::default()
                },
                "malformed SPIFFE ID filter",
            ),
        ] {
            let status = list(&channel, wrong).await.unwrap_err();
            says(&status, Code::InvalidArgument, words);
        }
    });
}

#[test]
fn each_item_of_a_batch_ends_alone_and_says_how() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let channel = cluster.channel().await;
        let mut client = EntryClient::new(channel.clone());
        let none = types::Entry::default();
        let made = create(
            &channel,
            vec![
                entry("one", "/one", &["unix:uid:1"]),
                none,
                entry("other", "/one", &["unix:uid:1"]),
                entry("one", "/two", &["unix:uid:2"]),
                entry("foreign", "/spire/server", &["unix:uid:2"]),
                entry("", "/three", &["unix:uid:3"]),
            ],
        )
        .await;
        let expected = [
            (Code::Ok, "OK"),
            (Code::InvalidArgument, "failed to convert entry"),
            (Code::AlreadyExists, "similar entry already exists"),
            (Code::AlreadyExists, "failed to create entry"),
            (Code::InvalidArgument, "failed to convert entry"),
            (Code::Ok, "OK"),
        ];
        for ((status, _), (code, words)) in made.iter().zip(expected) {
            assert_eq!(Code::from(status.code), code, "{status:?}");
            assert!(status.message.starts_with(words), "{status:?}");
        }
        let existing = made[2].1.as_ref().expect("the one that exists");
        assert_eq!(existing.id, "one");
        assert!(made[3].1.is_none(), "no entry where none is similar");

        let hinted = types::Entry {
            hint: "web".into(),
            // Not named by the mask, so not even looked at.
            spiffe_id: None,
            ..entry("one", "/one", &[])
        };
        let missing = types::Entry {
            id: "missing".into(),
            ..hinted.clone()
        };
        let mask = EntryMask {
            hint: true,
            ..EntryMask::default()
        };
        let request = BatchUpdateEntryRequest {
            entries: vec![hinted.clone(), hinted, missing],
            input_mask: Some(mask),
            output_mask: None,
        };
        let updated = client
            .batch_update_entry(request)
            .await
            .unwrap()
            .into_inner()
            .results;
        let codes: Vec<_> = updated
            .iter()
            .map(|result| Code::from(result.status.as_ref().expect("never nil").code))
            .collect();
        assert_eq!(codes, [Code::Ok, Code::Ok, Code::NotFound]);
        let last = updated[1].entry.as_ref().unwrap();
        assert_eq!(
            (last.hint.as_str(), last.revision_number, &last.spiffe_id),
            ("web", 2, &member("/one")),
            "each update is one revision more, the one without a change too"
        );

        let ids = ["one", "missing", ""].map(str::to_owned).to_vec();
        let deleted = client
            .batch_delete_entry(BatchDeleteEntryRequest { ids: ids.clone() })
            .await
            .unwrap()
            .into_inner()
            .results;
        let expected = [
            (Code::Ok, "OK"),
            (Code::NotFound, "entry not found"),
            (Code::InvalidArgument, "missing entry ID"),
        ];
        for ((result, id), (code, words)) in deleted.iter().zip(ids).zip(expected) {
            let status = result.status.as_ref().expect("never nil");
            assert_eq!((Code::from(status.code), &result.id), (code, &id));
            assert!(status.message.starts_with(words), "{status:?}");
        }
    });
}

#[test]
fn a_batch_of_more_than_4_mib_is_refused_and_the_door_stays_open() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let channel = cluster.channel().await;
        let large = |number: usize| {
            let selectors = (0..200).map(|line| format!("unix:user:{number:0100}-{line:0100}"));
            let selectors: Vec<_> = selectors.collect();
            let selectors: Vec<_> = selectors.iter().map(String::as_str).collect();
            entry("", &format!("/large/{number}"), &selectors)
        };
        let mut client = EntryClient::new(channel.clone());
        let request = |count: usize| BatchCreateEntryRequest {
            entries: (0..count).map(large).collect(),
            output_mask: Some(EntryMask::default()),
        };
        let refused = client.batch_create_entry(request(110)).await.unwrap_err();
        assert!(
            [Code::ResourceExhausted, Code::OutOfRange].contains(&refused.code()),
            "{refused}"
        );
        let made = client.batch_create_entry(request(80)).await.unwrap().into_inner();
        assert!(
            made.results
                .iter()
                .all(|result| result.status.as_ref().unwrap().code == 0)
        );
        // What one answer can't hold goes on under a token.
        let listed = client
            .list_entries(ListEntriesRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert!(!listed.entries.is_empty());
        let counted = client
            .count_entries(CountEntriesRequest::default())
            .await
            .unwrap();
        assert_eq!(counted.into_inner().count, 80);
    });
}

#[test]
fn nodes_are_found_banned_and_evicted_as_in_spire() {
    let cluster = Cluster::start_server_only(&Settings {
        server: "[limits]\nattestation = false\n",
        ..Settings::default()
    });
    cluster.block_on(async {
        let mut admin = AgentClient::new(cluster.channel().await);
        let (banned, other) = (Identity::joined(&cluster).await, Identity::joined(&cluster).await);
        let id = |node: &Identity| member(node.svid.id().path().as_str());
        let banned_channel = tcp_channel(&cluster, Some(&banned)).await;
        let ask = |channel: &Channel| {
            let mut client = EntryClient::new(channel.clone());
            async move {
                client
                    .get_authorized_entries(GetAuthorizedEntriesRequest::default())
                    .await
            }
        };
        ask(&banned_channel).await.unwrap();
        let post = |channel: &Channel, version: &str| {
            let request = PostStatusRequest {
                agent_version: version.into(),
                ..Default::default()
            };
            let mut client = AgentClient::new(channel.clone());
            async move { client.post_status(request).await }
        };
        post(&banned_channel, "1.2.3").await.unwrap();
        post(&banned_channel, "").await.unwrap();
        let long = post(&banned_channel, &"x".repeat(256)).await.unwrap_err();
        assert_eq!(long.code(), Code::InvalidArgument);

        admin
            .ban_agent(BanAgentRequest { id: id(&banned) })
            .await
            .unwrap();
        let refused = ask(&banned_channel).await.unwrap_err();
        assert_eq!(denial_reason(&refused), Some(Reason::AgentBanned), "{refused}");
        let request = GetAgentRequest {
            id: id(&banned),
            output_mask: None,
        };
        let kept = admin.get_agent(request).await.unwrap().into_inner();
        assert!(kept.banned && kept.x509svid_serial_number.is_empty());
        assert_eq!(kept.agent_version, "1.2.3", "no version says nothing");

        let find = |filter: list_agents_request::Filter| {
            let mut admin = admin.clone();
            async move {
                let request = ListAgentsRequest {
                    filter: Some(filter),
                    ..Default::default()
                };
                let found = admin.list_agents(request).await?.into_inner().agents;
                Ok::<_, Status>(found.into_iter().map(|agent| agent.id).collect::<Vec<_>>())
            }
        };
        let all = list_agents_request::Filter::default();
        for (filter, expected) in [
            (
                list_agents_request::Filter {
                    by_banned: Some(true),
                    ..all.clone()
                },
                vec![id(&banned)],
            ),
            (
                list_agents_request::Filter {
                    by_banned: Some(false),
                    ..all.clone()
                },
                vec![id(&other)],
            ),
            (
                list_agents_request::Filter {
                    by_can_reattest: Some(true),
                    ..all.clone()
                },
                vec![],
            ),
            (
                list_agents_request::Filter {
                    by_attestation_type: "x509pop".into(),
                    ..all.clone()
                },
                vec![],
            ),
            (
                list_agents_request::Filter {
                    by_banned: Some(false),
                    by_expires_before: "2020-01-01 00:00:00 +0000 +00".into(),
                    ..all.clone()
                },
                vec![],
            ),
        ] {
            assert_eq!(find(filter.clone()).await.unwrap(), expected, "{filter:?}");
        }
        let wrong = list_agents_request::Filter {
            by_expires_before: "tomorrow".into(),
            ..all
        };
        assert_eq!(find(wrong).await.unwrap_err().code(), Code::InvalidArgument);
        for (wrong, code, words) in [
            (None, Code::InvalidArgument, "invalid agent ID"),
            (member("/web"), Code::InvalidArgument, "invalid agent ID"),
            (member(NODE), Code::NotFound, "agent not found"),
        ] {
            let status = admin.ban_agent(BanAgentRequest { id: wrong }).await.unwrap_err();
            says(&status, code, words);
        }

        // An eviction forgets the node, and its ban.
        for node in [&banned, &other] {
            admin
                .delete_agent(DeleteAgentRequest { id: id(node) })
                .await
                .unwrap();
        }
        let refused = ask(&banned_channel).await.unwrap_err();
        assert_eq!(
            denial_reason(&refused),
            Some(Reason::AgentNotAttested),
            "{refused}"
        );
        let counted = admin.count_agents(CountAgentsRequest::default()).await.unwrap();
        assert_eq!(counted.into_inner().count, 0);
    });
}

#[test]
fn a_renewed_certificate_takes_over_at_its_first_use() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let node = Identity::joined(&cluster).await;
        let old = tcp_channel(&cluster, Some(&node)).await;
        let key = Identity::key();
        let request = RenewAgentRequest {
            params: Some(AgentX509svidParams {
                csr: create_csr(&*key, None).unwrap(),
            }),
        };
        let answer = AgentClient::new(old.clone()).renew_agent(request).await.unwrap();
        let chain = answer.into_inner().svid.unwrap().cert_chain;
        let chain = chain.into_iter().map(|der| der.to_vec().into()).collect();
        let svid = muster_pki::x509::X509Svid::parse(chain).unwrap();
        let ask = |channel: &Channel| {
            let mut client = EntryClient::new(channel.clone());
            async move {
                client
                    .get_authorized_entries(GetAuthorizedEntriesRequest::default())
                    .await
            }
        };
        ask(&old)
            .await
            .expect("the old one counts until the new one is used");
        let new = tcp_channel(&cluster, Some(&Identity { svid, key })).await;
        ask(&new)
            .await
            .expect("its first use makes it the one that counts");
        let refused = ask(&old).await.unwrap_err();
        assert_eq!(denial_reason(&refused), Some(Reason::AgentNotActive), "{refused}");
        ask(&new).await.unwrap();
    });
}

#[test]
fn what_hangs_below_a_nodes_second_name_and_below_others_entries_reaches_the_node() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let admin = cluster.channel().await;
        let request = CreateJoinTokenRequest {
            ttl: 600,
            agent_id: member("/fleet/a"),
            ..Default::default()
        };
        let token = AgentClient::new(admin.clone())
            .create_join_token(request)
            .await
            .unwrap()
            .into_inner()
            .value;
        let key = Identity::key();
        let svid = join(tcp_channel(&cluster, None).await, &token, &*key)
            .await
            .unwrap();
        let node = tcp_channel(&cluster, Some(&Identity { svid, key })).await;
        let below = |id: &str, path: &str, parent: &str| types::Entry {
            parent_id: member(parent),
            ..entry(id, path, &["unix:uid:1"])
        };
        create(
            &admin,
            vec![
                below("child", "/child", "/fleet/a"),
                below("grandchild", "/grandchild", "/child"),
                below("elsewhere", "/elsewhere", "/fleet/b"),
            ],
        )
        .await;
        let mine = EntryClient::new(node.clone())
            .get_authorized_entries(GetAuthorizedEntriesRequest::default())
            .await
            .unwrap()
            .into_inner()
            .entries;
        let mine: Vec<_> = mine.into_iter().filter_map(|entry| entry.spiffe_id).collect();
        for (path, there) in [
            ("/fleet/a", true),
            ("/child", true),
            ("/grandchild", true),
            ("/elsewhere", false),
        ] {
            assert_eq!(mine.contains(&member(path).unwrap()), there, "{path}: {mine:?}");
        }
        // The second name goes with the node.
        let request = DeleteAgentRequest {
            id: member(&format!("/spire/agent/join_token/{token}")),
        };
        AgentClient::new(admin.clone())
            .delete_agent(request)
            .await
            .unwrap();
        let left = list(
            &admin,
            Filter {
                by_spiffe_id: member("/fleet/a"),
                ..Filter::default()
            },
        )
        .await
        .unwrap();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn requests_for_certificates_are_refused_in_spires_words() {
    let cluster = Cluster::start_server_only(&Settings {
        server: "[ca]\nwildcards = \"allow\"\n",
        ..Settings::default()
    });
    cluster.block_on(async {
        let mut client = SvidClient::new(cluster.channel().await);
        let key = KeyPair::generate().unwrap();
        let csr = |uris: &[&str], names: &[&str]| {
            let mut params = CertificateParams::default();
            let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
            let names = names
                .iter()
                .map(|name| SanType::DnsName((*name).try_into().unwrap()));
            params.subject_alt_names = uris.chain(names).collect();
            params.serialize_request(&key).unwrap().der().to_vec()
        };
        let web = "spiffe://example.org/web";
        for (csr, words) in [
            (vec![], "missing CSR"),
            (vec![1, 2, 3], "malformed CSR"),
            (csr(&[], &["web.example.org"]), "CSR URI SAN is required"),
            (
                csr(&[web, "spiffe://example.org/b"], &[]),
                "only one URI SAN is expected",
            ),
            (csr(&["https://example.org/web"], &[]), "CSR URI SAN is invalid"),
            (csr(&["spiffe://other.org/web"], &[]), "CSR URI SAN is invalid"),
            (
                csr(&["spiffe://example.org/spire/server"], &[]),
                "CSR URI SAN is invalid",
            ),
            (
                csr(&[web], &["*.example.org", "web.example.org"]),
                "contains a wildcard that covers another non-wildcard name",
            ),
        ] {
            let request = MintX509svidRequest { csr, ttl: 60 };
            let status = client.mint_x509svid(request).await.unwrap_err();
            says(&status, Code::InvalidArgument, words);
        }
        let request = MintX509svidRequest {
            csr: csr(&[web], &["*.example.org", "a.b.example.org"]),
            ttl: 60,
        };
        client.mint_x509svid(request).await.unwrap();
        let node = Identity::joined(&cluster).await;
        let mut client = SvidClient::new(tcp_channel(&cluster, Some(&node)).await);
        let nothing = client
            .batch_new_x509svid(BatchNewX509svidRequest::default())
            .await
            .unwrap_err();
        says(&nothing, Code::InvalidArgument, "missing parameters");
    });
}

#[test]
fn nodes_that_are_long_gone_are_forgotten_and_banned_ones_are_not() {
    let mut cluster = Cluster::start_server_only(&Settings {
        server: "[ca]\nnode = \"2s\"\n[nodes]\nprune_expired_for = \"1s\"\nprune_non_reattestable = true\n[limits]\nattestation = false\n",
        ..Settings::default()
    });
    let banned = cluster.block_on(async {
        let (gone, banned) = (Identity::joined(&cluster).await, Identity::joined(&cluster).await);
        let id = member(banned.svid.id().path().as_str());
        AgentClient::new(cluster.channel().await)
            .ban_agent(BanAgentRequest { id: id.clone() })
            .await
            .unwrap();
        // What is waited for is the end of its certificate, and a little more: a restart looks at once.
        let ends = gone.svid.not_after().as_secs();
        let give_up = tokio::time::Instant::now() + PATIENCE;
        loop {
            let token = CreateJoinTokenRequest {
                ttl: 1,
                ..Default::default()
            };
            let token = AgentClient::new(cluster.channel().await)
                .create_join_token(token)
                .await
                .unwrap();
            // The server's clock, by what it says.
            if token.into_inner().expires_at > ends + 3 {
                break id;
            }
            assert!(tokio::time::Instant::now() < give_up, "time stands still");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    assert!(cluster.take_server().stop().success());
    cluster.start_server();
    cluster.block_on(async {
        let mut admin = AgentClient::new(cluster.channel().await);
        let give_up = tokio::time::Instant::now() + PATIENCE;
        loop {
            let left = admin.list_agents(ListAgentsRequest::default()).await.unwrap();
            let left: Vec<_> = left.into_inner().agents.into_iter().map(|node| node.id).collect();
            if left == [banned.clone()] {
                break;
            }
            assert!(tokio::time::Instant::now() < give_up, "{left:?}");
        }
    });
}
