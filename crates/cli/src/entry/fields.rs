//! What `create` and `update` say of an entry.

use muster_identity::{DnsName, Hint, Selector, SpiffeId, TrustDomain, UnixTime};
use muster_proto::{
    convert::spiffe_id_to_wire,
    spire::types::{self, EntryMask, entry::AdditionalAttributes},
};

use crate::duration;

/// Everything beside the identity itself. Values are checked while the command line is read, so that a typing
/// error is named by its flag.
#[derive(clap::Args, Debug)]
pub(super) struct Fields {
    /// What a process must be, as unix:uid:1000. Repeat it: all must hold.
    #[arg(long = "selector", value_name = "TYPE:VALUE")]
    selectors: Vec<Selector>,
    /// Lifetime of X.509-SVIDs, as 30m. [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
    x509_ttl: Option<i32>,
    /// Lifetime of JWT-SVIDs. [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
    jwt_ttl: Option<i32>,
    /// A DNS name for the certificate. The first is also its common name.
    #[arg(long = "dns", value_name = "NAME")]
    dns_names: Vec<DnsName>,
    /// A foreign trust domain whose bundle the workload gets.
    #[arg(long, value_name = "TRUST DOMAIN")]
    federates_with: Vec<TrustDomain>,
    /// Tells a workload with several identities what this one is for.
    #[arg(long)]
    hint: Option<Hint>,
    /// When the entry ends by itself, as a time from now.
    #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
    expires_in: Option<i32>,
    /// May administer the server.
    #[arg(long)]
    admin: bool,
    /// May ask for an authority of its own.
    #[arg(long)]
    downstream: bool,
    /// For a store, not for processes.
    #[arg(long)]
    store_svid: bool,
    /// Don't sign its X.509-SVIDs before somebody asks.
    #[arg(long)]
    no_prefetch: bool,
    /// Give each JWT-SVID an id of its own.
    #[arg(long)]
    jti: bool,
}

impl Fields {
    /// The wire form, with what was given, and a mask that names it.
    pub(super) fn to_wire(
        &self,
        spiffe_id: Option<&SpiffeId>,
        parent: Option<&SpiffeId>,
        now: UnixTime,
    ) -> (types::Entry, EntryMask) {
        let attributes = self.no_prefetch || self.jti;
        let entry = types::Entry {
            spiffe_id: spiffe_id.map(spiffe_id_to_wire),
            parent_id: parent.map(spiffe_id_to_wire),
            selectors: self.selectors.iter().map(types::Selector::from).collect(),
            x509_svid_ttl: self.x509_ttl.unwrap_or(0),
            jwt_svid_ttl: self.jwt_ttl.unwrap_or(0),
            federates_with: self.federates_with.iter().map(TrustDomain::to_string).collect(),
            dns_names: self.dns_names.iter().map(DnsName::to_string).collect(),
            hint: self.hint.as_ref().map(Hint::to_string).unwrap_or_default(),
            expires_at: self
                .expires_in
                .map_or(0, |seconds| now.as_secs().saturating_add(seconds.into())),
            admin: self.admin,
            downstream: self.downstream,
            store_svid: self.store_svid,
            additional_attributes: attributes.then_some(AdditionalAttributes {
                disable_x509_svid_prefetch: self.no_prefetch,
                jwt_svid_include_jti: self.jti,
            }),
            ..types::Entry::default()
        };
        let mask = EntryMask {
            spiffe_id: spiffe_id.is_some(),
            parent_id: parent.is_some(),
            selectors: !self.selectors.is_empty(),
            x509_svid_ttl: self.x509_ttl.is_some(),
            jwt_svid_ttl: self.jwt_ttl.is_some(),
            federates_with: !self.federates_with.is_empty(),
            dns_names: !self.dns_names.is_empty(),
            hint: self.hint.is_some(),
            expires_at: self.expires_in.is_some(),
            admin: self.admin,
            downstream: self.downstream,
            store_svid: self.store_svid,
            additional_attributes: attributes,
            ..EntryMask::default()
        };
        (entry, mask)
    }

    pub(super) fn has_selectors(&self) -> bool {
        !self.selectors.is_empty()
    }
}

/// A field that `update --clear` sets back to what it is in a new entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Clearable {
    X509Ttl,
    JwtTtl,
    Dns,
    FederatesWith,
    Hint,
    Expiry,
    Admin,
    Downstream,
    StoreSvid,
    Attributes,
}

impl Clearable {
    pub(super) fn put_into(self, mask: &mut EntryMask) {
        *match self {
            Self::X509Ttl => &mut mask.x509_svid_ttl,
            Self::JwtTtl => &mut mask.jwt_svid_ttl,
            Self::Dns => &mut mask.dns_names,
            Self::FederatesWith => &mut mask.federates_with,
            Self::Hint => &mut mask.hint,
            Self::Expiry => &mut mask.expires_at,
            Self::Admin => &mut mask.admin,
            Self::Downstream => &mut mask.downstream,
            Self::StoreSvid => &mut mask.store_svid,
            Self::Attributes => &mut mask.additional_attributes,
        } = true;
    }
}
