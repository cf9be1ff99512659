use std::sync::Arc;

use muster_identity::{
    Attributes, DnsName, Entry, EntryId, EntrySpec, Hint, Lifetime, SelectorSet, SpiffeId, TrustDomain,
    UnixTime,
};

use super::{
    FieldError,
    field::at_most,
    id::{spiffe_id, trust_domain},
    selectors::{selector_set, selectors_to_wire},
};
use crate::spire::types::{self, EntryMask, entry::AdditionalAttributes};

/// The most DNS names in one certificate: a chain with more would not fit into common limits on handshakes.
const MOST_DNS_NAMES: usize = 256;
/// The most trust domains that one entry may federate with.
const MOST_TRUST_DOMAINS: usize = 1_024;

/// Reads an entry that is to be created: its id, if the caller chose one, and the rest.
///
/// # Errors
/// Names the first field that is wrong.
pub fn new_entry(wire: &types::Entry) -> Result<(Option<EntryId>, EntrySpec), FieldError> {
    let id = match wire.id.as_str() {
        "" => None,
        _ => Some(entry_id("id", &wire.id)?),
    };
    let spec = EntrySpec {
        spiffe_id: id_of(wire)?,
        parent_id: parent_of(wire)?,
        selectors: selectors_of(wire)?,
        x509_svid_ttl: lifetime("x509_svid_ttl", wire.x509_svid_ttl)?,
        jwt_svid_ttl: lifetime("jwt_svid_ttl", wire.jwt_svid_ttl)?,
        federates_with: federates_with_of(wire)?,
        dns_names: dns_names_of(wire)?,
        admin: wire.admin,
        downstream: wire.downstream,
        store_svid: wire.store_svid,
        expires_at: moment("expires_at", wire.expires_at)?,
        hint: hint("hint", &wire.hint)?,
        attributes: attributes(wire.additional_attributes.as_ref()),
    };
    Ok((id, spec))
}

/// Puts the fields of `wire` that `mask` names into `spec`; without a mask, all of them. Fields that the mask
/// leaves out are not even looked at.
///
/// # Errors
/// Names the first field that is wrong.
pub fn merge_entry(
    spec: &EntrySpec,
    wire: &types::Entry,
    mask: Option<&EntryMask>,
) -> Result<EntrySpec, FieldError> {
    let mask = mask.copied().unwrap_or(ALL);
    let mut spec = spec.clone();
    if mask.spiffe_id {
        spec.spiffe_id = id_of(wire)?;
    }
    if mask.parent_id {
        spec.parent_id = parent_of(wire)?;
    }
    if mask.selectors {
        spec.selectors = selectors_of(wire)?;
    }
    if mask.x509_svid_ttl {
        spec.x509_svid_ttl = lifetime("x509_svid_ttl", wire.x509_svid_ttl)?;
    }
    if mask.jwt_svid_ttl {
        spec.jwt_svid_ttl = lifetime("jwt_svid_ttl", wire.jwt_svid_ttl)?;
    }
    if mask.federates_with {
        spec.federates_with = federates_with_of(wire)?;
    }
    if mask.dns_names {
        spec.dns_names = dns_names_of(wire)?;
    }
    if mask.admin {
        spec.admin = wire.admin;
    }
    if mask.downstream {
        spec.downstream = wire.downstream;
    }
    if mask.store_svid {
        spec.store_svid = wire.store_svid;
    }
    if mask.expires_at {
        spec.expires_at = moment("expires_at", wire.expires_at)?;
    }
    if mask.hint {
        spec.hint = hint("hint", &wire.hint)?;
    }
    if mask.additional_attributes {
        spec.attributes = attributes(wire.additional_attributes.as_ref());
    }
    Ok(spec)
}

/// Reads an entry as a server holds it: what a client gets.
///
/// # Errors
/// Names the first field that is wrong.
pub fn entry(wire: &types::Entry) -> Result<Entry, FieldError> {
    let (id, spec) = new_entry(wire)?;
    Ok(Entry {
        id: id.ok_or_else(|| FieldError::missing("id"))?,
        spec,
        revision_number: wire.revision_number,
        created_at: UnixTime::from_secs(wire.created_at),
    })
}

/// Writes an entry, with the fields that `mask` names; without a mask, all of them. The id is always there.
pub fn entry_to_wire(entry: &Entry, mask: Option<&EntryMask>) -> types::Entry {
    let mask = mask.copied().unwrap_or(ALL);
    let spec = &entry.spec;
    let mut wire = types::Entry {
        id: entry.id.to_string(),
        ..types::Entry::default()
    };
    if mask.spiffe_id {
        wire.spiffe_id = Some((&spec.spiffe_id).into());
    }
    if mask.parent_id {
        wire.parent_id = Some((&spec.parent_id).into());
    }
    if mask.selectors {
        wire.selectors = selectors_to_wire(&spec.selectors);
    }
    if mask.x509_svid_ttl {
        wire.x509_svid_ttl = seconds(spec.x509_svid_ttl);
    }
    if mask.jwt_svid_ttl {
        wire.jwt_svid_ttl = seconds(spec.jwt_svid_ttl);
    }
    if mask.federates_with {
        wire.federates_with = spec.federates_with.iter().map(TrustDomain::to_string).collect();
    }
    if mask.dns_names {
        wire.dns_names = spec.dns_names.iter().map(DnsName::to_string).collect();
    }
    wire.admin = mask.admin && spec.admin;
    wire.downstream = mask.downstream && spec.downstream;
    wire.store_svid = mask.store_svid && spec.store_svid;
    if mask.expires_at {
        wire.expires_at = spec.expires_at.map_or(0, UnixTime::as_secs);
    }
    if mask.hint {
        wire.hint = spec.hint.as_ref().map(Hint::to_string).unwrap_or_default();
    }
    if mask.revision_number {
        wire.revision_number = entry.revision_number;
    }
    if mask.created_at {
        wire.created_at = entry.created_at.as_secs();
    }
    // Left out when nothing is asked for, as it was when the entry was created by a tool that doesn't know it.
    if mask.additional_attributes && spec.attributes != Attributes::default() {
        wire.additional_attributes = Some(AdditionalAttributes {
            disable_x509_svid_prefetch: spec.attributes.disable_x509_svid_prefetch,
            jwt_svid_include_jti: spec.attributes.jwt_svid_include_jti,
        });
    }
    wire
}

/// Reads the name of an entry.
///
/// # Errors
/// When it is empty, too long, or holds something else than letters, digits, dots, dashes and underscores.
pub fn entry_id(field: &'static str, id: &str) -> Result<EntryId, FieldError> {
    id.parse().map_err(|error| FieldError::new(field, error))
}

/// What an absent mask stands for.
const ALL: EntryMask = EntryMask {
    spiffe_id: true,
    parent_id: true,
    selectors: true,
    x509_svid_ttl: true,
    federates_with: true,
    admin: true,
    downstream: true,
    expires_at: true,
    dns_names: true,
    revision_number: true,
    store_svid: true,
    jwt_svid_ttl: true,
    hint: true,
    created_at: true,
    additional_attributes: true,
};

pub(super) fn id_of(wire: &types::Entry) -> Result<SpiffeId, FieldError> {
    spiffe_id("spiffe_id", wire.spiffe_id.as_ref())
}

fn parent_of(wire: &types::Entry) -> Result<SpiffeId, FieldError> {
    spiffe_id("parent_id", wire.parent_id.as_ref())
}

pub(super) fn selectors_of(wire: &types::Entry) -> Result<SelectorSet, FieldError> {
    if wire.selectors.is_empty() {
        return Err(FieldError::new("selectors", "selector list is empty"));
    }
    selector_set("selectors", &wire.selectors)
}

pub(super) fn federates_with_of(wire: &types::Entry) -> Result<Arc<[TrustDomain]>, FieldError> {
    trust_domains("federates_with", &wire.federates_with)
}

/// Reads names of trust domains, sorted and each once.
pub(super) fn trust_domains(field: &'static str, names: &[String]) -> Result<Arc<[TrustDomain]>, FieldError> {
    at_most(field, names, MOST_TRUST_DOMAINS)?;
    let mut all: Vec<TrustDomain> = names
        .iter()
        .map(|name| trust_domain(field, name))
        .collect::<Result<_, _>>()?;
    all.sort_unstable();
    all.dedup();
    Ok(all.into())
}

fn dns_names_of(wire: &types::Entry) -> Result<Arc<[DnsName]>, FieldError> {
    const FIELD: &str = "dns_names";
    at_most(FIELD, &wire.dns_names, MOST_DNS_NAMES)?;
    let mut all: Vec<DnsName> = Vec::with_capacity(wire.dns_names.len());
    for (index, text) in wire.dns_names.iter().enumerate() {
        let name = text
            .parse()
            .map_err(|error| FieldError::at(FIELD, index, error))?;
        // The order matters (the first is the common name), so only exact repetitions go.
        if !all.contains(&name) {
            all.push(name);
        }
    }
    Ok(all.into())
}

pub(super) fn hint(field: &'static str, text: &str) -> Result<Option<Hint>, FieldError> {
    match text {
        "" => Ok(None),
        _ => text
            .parse()
            .map(Some)
            .map_err(|error| FieldError::new(field, error)),
    }
}

pub(super) fn attributes(wire: Option<&AdditionalAttributes>) -> Attributes {
    wire.map_or_else(Attributes::default, |wire| Attributes {
        disable_x509_svid_prefetch: wire.disable_x509_svid_prefetch,
        jwt_svid_include_jti: wire.jwt_svid_include_jti,
    })
}

/// A lifetime in seconds, 0 for the server's default.
pub(super) fn lifetime(field: &'static str, seconds: i32) -> Result<Option<Lifetime>, FieldError> {
    let seconds =
        u32::try_from(seconds).map_err(|_| FieldError::new(field, format_args!("{seconds} is negative")))?;
    Ok(Lifetime::from_secs(seconds).ok())
}

/// A moment in Unix seconds, 0 for never.
pub(super) fn moment(field: &'static str, seconds: i64) -> Result<Option<UnixTime>, FieldError> {
    match seconds {
        0 => Ok(None),
        1.. => Ok(Some(UnixTime::from_secs(seconds))),
        _ => Err(FieldError::new(field, format_args!("{seconds} lies before 1970"))),
    }
}

fn seconds(lifetime: Option<Lifetime>) -> i32 {
    lifetime.map_or(0, |lifetime| {
        i32::try_from(lifetime.as_secs()).unwrap_or(i32::MAX)
    })
}

#[cfg(test)]
mod tests;
