//! Workloads of two trust domains that talk to each other without a rest: mTLS each way, and a token at each connection.

use std::time::Duration;

use muster_tests::{Process, Workload};
use serde_json::Value;

use super::domain::Domain;

/// More than any story needs.
const MANY: &str = "1000000000";

/// Between two connections, in milliseconds: traffic, not a measurement.
const PAUSE: &str = "20";

/// Whose client libraries the workloads of the first and of the second domain are.
const LANGUAGES: [Workload; 2] = [Workload::Go, Workload::Python];

/// Per trust domain one workload that serves the other's and one that dials it.
pub(super) struct Traffic {
    parties: [Party; 2],
}

struct Party {
    language: Workload,
    domain: &'static str,
    api: String,
    id: String,
    serving: Process,
    address: String,
    dialing: Option<Process>,
}

/// What became of a domain's connections to the other.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) errors: Value,
}

impl Traffic {
    /// Whether both clients are here.
    pub(super) fn is_possible() -> bool {
        LANGUAGES.into_iter().all(Workload::is_here)
    }

    /// Registers a workload in each domain, and lets them begin once each holds the other's bundle.
    pub(super) fn start(domains: [&dyn Domain; 2]) -> Self {
        let ids = domains.map(|domain| format!("spiffe://{}/talker", domain.name()));
        for (domain, other) in [(0, 1), (1, 0)] {
            domains[domain].register("/talker", domains[other].name());
        }
        let parties = [(0, 1), (1, 0)].map(|(this, other): (usize, usize)| {
            let (language, api) = (LANGUAGES[this], domains[this].workload_api());
            let serve = ["serve", "127.0.0.1:0", &ids[other], &ids[this]];
            muster_tests::until("an identity and the other's bundle", || {
                let fetched = language.start_at(&api, None, &["fetch-x509"]);
                let event = fetched.event_where("an answer", |event| {
                    event["event"] == "x509" || event["event"] == "error"
                });
                event["bundles"]
                    .as_array()
                    .is_some_and(|bundles| bundles.len() == 2)
            });
            let serving = language.start_at(&api, None, &serve);
            let address = serving.event("listening")["addr"].as_str().unwrap().to_owned();
            Party {
                language,
                domain: domains[this].name(),
                api,
                id: ids[this].clone(),
                serving,
                address,
                dialing: None,
            }
        });
        let mut traffic = Self { parties };
        for (this, other) in [(0, 1), (1, 0)] {
            let dialing = traffic.dial(this, other, MANY);
            dialing.event("exchange");
            traffic.parties[this].dialing = Some(dialing);
        }
        traffic
    }

    /// So many new connections of each domain's to the other's; what became of them.
    pub(super) fn try_both_ways(&self, connections: u32) -> [Dialed; 2] {
        [(0, 1), (1, 0)].map(|(this, other)| {
            let dialing = self.dial(this, other, &connections.to_string());
            dialed(&dialing.event("dialed"))
        })
    }

    /// Ends what never rested; what became of it.
    pub(super) fn end(&mut self) -> [Dialed; 2] {
        self.parties.each_mut().map(|party| {
            let mut dialing = party.dialing.take().expect("traffic that goes on");
            dialing.close_input();
            dialed(&dialing.event("dialed"))
        })
    }

    /// The workloads of the domain with this name that serve and that dial.
    pub(super) fn serving(&self, domain: &str) -> &Process {
        &self.party(domain).serving
    }

    pub(super) fn dialing(&self, domain: &str) -> &Process {
        self.party(domain).dialing.as_ref().expect("traffic that goes on")
    }

    /// The token-signing keys of `of` that the node of `domain` holds.
    pub(super) fn token_keys(&self, domain: &str, of: &str) -> Vec<String> {
        let asked = Workload::Go.start_at(&self.party(domain).api, None, &["fetch-jwt-bundles"]);
        let event = asked.event_where("an answer", |event| event["event"].is_string());
        let bundles = event["bundles"].as_array().into_iter().flatten();
        let keys = bundles.filter(|bundle| bundle["trust_domain"] == of);
        keys.flat_map(|bundle| bundle["keys"].as_array().into_iter().flatten())
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect()
    }

    /// A token of the domain's workload for the other's, and whether the other's node takes it.
    pub(super) fn token(&self, domain: &str) -> String {
        let (party, other) = (self.party(domain), self.other(domain));
        let fetched = party
            .language
            .start_at(&party.api, None, &["fetch-jwt", &other.id]);
        fetched.event("jwt")["svids"][0]["token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(super) fn takes(&self, domain: &str, token: &str) -> bool {
        let party = self.party(domain);
        let judging = party
            .language
            .start_at(&party.api, None, &["validate-jwt", &party.id, token]);
        judging.event_where("a verdict", |event| event["event"].is_string())["event"] == "valid"
    }

    fn dial(&self, this: usize, other: usize, connections: &str) -> Process {
        let (party, peer) = (&self.parties[this], &self.parties[other]);
        let dial = ["dial", &peer.address, &peer.id, connections, PAUSE, &peer.id];
        party.language.start_at(&party.api, None, &dial)
    }

    fn party(&self, domain: &str) -> &Party {
        let found = self.parties.iter().find(|party| party.domain == domain);
        found.expect("one of the two domains")
    }

    fn other(&self, domain: &str) -> &Party {
        let found = self.parties.iter().find(|party| party.domain != domain);
        found.expect("there are two domains")
    }
}

fn dialed(event: &Value) -> Dialed {
    Dialed {
        ok: event["ok"].as_u64().unwrap(),
        failed: event["failed"].as_u64().unwrap(),
        errors: event["errors"].clone(),
    }
}

/// How long a story's traffic goes on: in a soak many times as long.
pub(super) fn length() -> Duration {
    Duration::from_secs(90) * u32::try_from(muster_tests::rounds(1)).unwrap_or(u32::MAX)
}
