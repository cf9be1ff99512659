//! What a change of an entry is planned on: the state, and what the caller may do in it.

use muster_identity::{EntryId, EntrySpec, GrantName, TrustDomain};

use crate::{
    api::{
        Context, Refusal,
        scope::{Planned, Scope},
    },
    ca::Holder,
    registry::{Registered, Tree, View},
};

/// What an item is planned on.
pub(super) struct Ground<'a> {
    pub(super) view: &'a View,
    pub(super) scope: Scope,
    pub(super) planned: Planned,
}

impl<'a> Ground<'a> {
    /// The entry of that id, if the caller may know of it. One outside of his grants and one that is not there are not told apart.
    pub(super) fn known(&self, id: &EntryId) -> Result<&'a Registered, Refusal> {
        let found = self.view.entry(id);
        found
            .filter(|found| self.scope.holds(&found.entry.spec))
            .map(|found| &**found)
            .ok_or_else(|| Refusal::not_found("entry not found"))
    }

    /// The entry as the caller may have it, and the grant that lets him.
    pub(super) fn allowed(
        &self,
        context: &Context,
        before: Option<&EntrySpec>,
        after: EntrySpec,
    ) -> Result<(EntrySpec, Option<GrantName>), Refusal> {
        let surroundings = context.surroundings(self.view);
        match self
            .scope
            .entry(&surroundings, &self.planned, before, Some(after))?
        {
            (Some(after), grant) => Ok((after, grant)),
            (None, _) => Err(Refusal::internal("an entry got lost while it was decided on")),
        }
    }
}

/// What neither the single fields nor the entry alone can say: whether this server may have it so.
pub(super) fn checked(
    context: &Context,
    view: &View,
    mut spec: EntrySpec,
    federated_before: &[TrustDomain],
) -> Result<EntrySpec, Refusal> {
    spec.check(&context.trust_domain).map_err(malformed)?;
    context
        .wildcards
        .check(spec.dns_names.iter())
        .map_err(|error| Refusal::invalid(format!("dns_names: {error}")))?;
    for other in spec.federates_with.iter() {
        // A peer with a relationship whose bundle has not come yet holds up no registration, and what an entry has it may keep.
        let known = federated_before.contains(other)
            || view.document(Tree::Bundles, other.as_str().as_bytes()).is_some()
            || context.federation.peers().get(view, other).is_some();
        if !known {
            return Err(Refusal::invalid(format!(
                "federates_with: unable to find federated bundle \"{other}\"; set it first"
            )));
        }
    }
    // Cut here and not only at the signature, so that whoever reads the entry sees what holds.
    if spec.x509_svid_ttl.is_some() {
        let allowed = context.ca.lifetimes().x509(Holder::Workload, spec.x509_svid_ttl);
        spec.x509_svid_ttl =
            Some(allowed.map_err(|error| Refusal::invalid(format!("x509_svid_ttl: {error}")))?);
    }
    if spec.jwt_svid_ttl.is_some() {
        let allowed = context.ca.lifetimes().jwt(spec.jwt_svid_ttl);
        spec.jwt_svid_ttl =
            Some(allowed.map_err(|error| Refusal::invalid(format!("jwt_svid_ttl: {error}")))?);
    }
    Ok(spec)
}

/// A wrong entry, after the words by which SPIRE's users know one.
pub(super) fn malformed(error: impl std::fmt::Display) -> Refusal {
    Refusal::invalid(format!("failed to convert entry: {error}"))
}
