//! What kind of server is at the other end. Nobody configures it: it is what the server answers to the opening of a Sync stream, at each connection anew.

use muster_identity::{Position, TrustDomain};
use muster_proto::convert;
use tonic::{Code, Status};

use super::channel::Pings;
use super::spire;

/// The full name by which a server that checks rights before it looks for the method refuses it.
const SYNC: &str = "/muster.node.v1.Node/Sync";

/// How the server tells this node what it is entitled to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// It pushes: a Muster server.
    Muster,
    /// It is polled: a SPIRE server.
    Spire,
}

impl Kind {
    /// What the server was when the entries that are held came from it.
    pub(super) fn last_time(position: Option<Position>, trust_domain: &TrustDomain) -> Self {
        match position {
            Some(position) if position.store == spire::store_of(trust_domain) => Self::Spire,
            _ => Self::Muster,
        }
    }

    /// What a server is that answered `status` to the opening of a Sync stream; none when the answer says nothing about it.
    ///
    /// A refusal of this node, which carries a reason, is a Muster server's word. One without a reason that names the method comes from a server which asks for
    /// rights on everything, also on what it does not have.
    pub(super) fn refusing(status: &Status) -> Option<Self> {
        let unknown = match status.code() {
            Code::Unimplemented => true,
            Code::PermissionDenied | Code::Internal => {
                status.message().contains(SYNC) && convert::denial_reason(status).is_none()
            }
            _ => false,
        };
        unknown.then_some(Self::Spire)
    }

    /// How an idle connection is watched. SPIRE's servers close one whose client pings oftener than every five minutes.
    pub(super) fn pings(self) -> Pings {
        match self {
            Self::Muster => Pings::Often,
            Self::Spire => Pings::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_identity::{Revision, StoreId};
    use muster_proto::convert::Reason;

    use super::*;

    #[test]
    fn a_server_without_the_method_is_polled_and_one_that_turns_the_node_away_is_not() {
        let denied = "authorization denied for method /muster.node.v1.Node/Sync";
        for unknown in [
            Status::unimplemented("unknown service muster.node.v1.Node"),
            Status::permission_denied(denied),
            Status::internal("rate limiter not configured for /muster.node.v1.Node/Sync"),
        ] {
            assert_eq!(Kind::refusing(&unknown), Some(Kind::Spire));
        }
        for other in [
            convert::denied(denied, Reason::AgentNotAttested),
            Status::permission_denied("no"),
            Status::internal("out of disk"),
            Status::unavailable("later"),
        ] {
            assert_eq!(Kind::refusing(&other), None);
        }
    }

    #[test]
    fn entries_that_were_polled_say_so_after_a_restart() {
        let own = "example.org".parse().unwrap();
        let at = |store| {
            Some(Position {
                store,
                revision: Revision(1),
            })
        };
        assert_eq!(Kind::last_time(None, &own), Kind::Muster);
        assert_eq!(
            Kind::last_time(at(StoreId::from_bytes([1; 16])), &own),
            Kind::Muster
        );
        assert_eq!(Kind::last_time(at(spire::store_of(&own)), &own), Kind::Spire);
    }
}
