//! Authorities of both trust domains turn over while workloads of two languages talk across: no connection and no token fails.

use std::time::Instant;

use muster_tests::{Web, until};
use serde_json::Value;

use super::{
    domain::{Domain, Kind, Taints},
    fates,
    pair::{believing, follow, pair, settings, web_endpoint},
    traffic::{Dialed, Traffic, length},
};

/// As few turns of each domain as count for «several», however slow the machine is.
const FEWEST: u32 = 3;

/// How a domain hears of the other's change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hears {
    /// By itself: pushed, or at its next look.
    ByItself,
    /// An operator lets it look.
    ByOrder,
}

#[test]
fn two_muster_domains_turn_over_under_traffic_ours_by_its_svid_and_theirs_by_the_web() {
    two_muster_domains(["https_spiffe", "https_web"]);
}

#[test]
fn two_muster_domains_turn_over_under_traffic_ours_by_the_web_and_theirs_by_its_svid() {
    two_muster_domains(["https_web", "https_spiffe"]);
}

/// The endpoints prove themselves by these profiles, ours first.
fn two_muster_domains(profiles: [&str; 2]) {
    if !Traffic::is_possible() {
        return;
    }
    let web = Web::new();
    let configured = profiles.map(|profile| match profile {
        "https_web" => settings(web_endpoint(&web)),
        _ => settings(believing(&web)),
    });
    let [mut ours, mut theirs] = pair(&configured[0], &configured[1]);
    follow(&theirs, &ours, profiles[0]);
    follow(&ours, &theirs, profiles[1]);
    let what = format!("Muster by {}, Muster by {}", profiles[0], profiles[1]);
    let mut traffic = turn_over([&ours, &theirs], &what, |_, _| Hears::ByItself);
    fates::all(&mut ours, &mut theirs, profiles[1], &web, &mut traffic, &what);
}

/// Lets traffic go on for [`length`] while both domains turn over again and again. `hears` says how the domain at this place hears of a change in this round.
pub(super) fn turn_over(
    domains: [&dyn Domain; 2],
    what: &str,
    hears: impl Fn(usize, u32) -> Hears,
) -> Traffic {
    let traffic = Traffic::start(domains);
    let (began, mut rounds) = (Instant::now(), 0);
    let mut slowest = [0; 2];
    while rounds < FEWEST || began.elapsed() < length() {
        for (turning, following) in [(0, 1), (1, 0)] {
            let turn = Turn {
                turning: domains[turning],
                following: domains[following],
                traffic: &traffic,
            };
            let began = Instant::now();
            turn.run(hears(following, rounds));
            slowest[turning] = began.elapsed().as_millis().max(slowest[turning]);
        }
        rounds += 1;
    }
    println!(
        "figure: federation: {what}: {rounds} turns of both kinds of authorities on each side in {} s, the slowest {} and {} ms",
        began.elapsed().as_secs(),
        slowest[0],
        slowest[1]
    );
    traffic
}

/// All connections with their tokens, of which none failed.
pub(super) fn nothing_failed(dialed: &[Dialed; 2], what: &str) {
    println!(
        "figure: federation: {what}: {} and {} handshakes with tokens, {} and {} failed",
        dialed[0].ok, dialed[1].ok, dialed[0].failed, dialed[1].failed
    );
    for dialed in dialed {
        assert_eq!(dialed.failed, 0, "{}", dialed.errors);
        assert!(dialed.ok > 100, "{dialed:?}");
    }
}

/// One turn of one domain's authorities, as an operator makes it who waits for the other side.
struct Turn<'a> {
    turning: &'a dyn Domain,
    following: &'a dyn Domain,
    traffic: &'a Traffic,
}

impl Turn<'_> {
    fn run(&self, hears: Hears) {
        let (turning, following) = (self.turning.name(), self.following.name());
        let old = Kind::ALL.map(|kind| self.turning.signing(kind));
        let new = Kind::ALL.map(|kind| self.turning.prepare(kind));
        let [x509, jwt] = &new;
        self.let_look(hears);
        self.until_held(&format!("{turning}'s next authority at {following}"), |held| {
            held.contains(&x509.as_str().into())
        });
        until("the next key for tokens at the other's node", || {
            self.traffic.token_keys(following, turning).contains(jwt)
        });

        for (kind, (new, old)) in Kind::ALL.into_iter().zip(new.iter().zip(&old)) {
            self.turning.activate(kind, new);
            if self.turning.taints(kind) == Taints::AtOnce {
                self.turning.taint(kind, old);
            }
        }
        let made_with = |event: &Value, what: &str, id: &str| event["made_with"][what] == id;
        let dialing = self.traffic.dialing(turning);
        dialing.event_where("connections and tokens by the new authorities", |event| {
            made_with(event, "own", x509) && made_with(event, "key", jwt)
        });
        let dialing = self.traffic.dialing(following);
        dialing.event_where("answers by the new authority", |event| {
            made_with(event, "peer", x509)
        });

        for (kind, old) in Kind::ALL.into_iter().zip(&old) {
            if self.turning.taints(kind) == Taints::WhenRenewed {
                self.turning.taint(kind, old);
            }
            self.turning.revoke(kind, old);
        }
        self.let_look(hears);
        self.until_held(
            &format!("{turning}'s old authority to leave {following}"),
            |held| !held.contains(&old[0].as_str().into()),
        );
        until("the old key for tokens to leave the other's node", || {
            !self.traffic.token_keys(following, turning).contains(&old[1])
        });
    }

    fn let_look(&self, hears: Hears) {
        if hears == Hears::ByOrder {
            let looked = self.following.refresh(self.turning.name());
            assert!(looked.status.success(), "{looked:?}");
        }
    }

    /// Waits until both of the follower's workloads hold what is wanted of the turning domain.
    fn until_held(&self, what: &str, wanted: impl Fn(&Vec<Value>) -> bool) {
        let following = self.following.name();
        let of = |held: &Value| {
            let held = held[self.turning.name()].as_array();
            held.is_some_and(&wanted)
        };
        let serving = self.traffic.serving(following);
        serving.event_where(what, |event| {
            event["event"] == "held" && of(&event["authorities"])
        });
        let dialing = self.traffic.dialing(following);
        dialing.event_where(what, |event| of(&event["made_with"]["authorities"]));
    }
}
