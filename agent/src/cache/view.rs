//! What one kind of caller may have, as it stands.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use muster_identity::{EntryId, Hint, SpiffeId, TrustDomain, UnixTime};
use muster_pki::SecretBytes;
use muster_pki::bundle::BundleSet;
use zeroize::Zeroizing;

/// All that callers with the same facts may have, whole and unchanging: a change makes a new view.
#[derive(Debug)]
pub struct WorkloadView {
    /// One for each entry that matches, by entry id; of several with one hint only the oldest.
    pub identities: Vec<HeldIdentity>,
    /// The own bundle and those that the entries federate with. The same `Arc` as long as nothing in it changed.
    pub bundles: Arc<BundleSet>,
    /// Whether any entry matches.
    pub entitled: bool,
    /// Whether nothing is under way that may soon change this view: `false` before the first word from the server and while an SVID is signed for the first
    /// time. A caller that has had no answer yet waits for it; one that has had one gets what there is.
    pub ready: bool,
    encoded: [OnceLock<Bytes>; Encoding::COUNT],
}

/// One identity in a view.
#[derive(Clone, Debug)]
pub struct HeldIdentity {
    /// The entry that gives it.
    pub entry_id: EntryId,
    /// Its name.
    pub id: SpiffeId,
    /// A name for the workload to choose by.
    pub hint: Option<Hint>,
    /// Whose bundles come with it.
    pub federates_with: Arc<[TrustDomain]>,
    /// The SVID, unless there is none yet or it ended and could not be renewed.
    pub x509: Option<Arc<HeldX509>>,
}

/// An X.509-SVID with its key.
#[derive(Debug)]
pub struct HeldX509 {
    /// Whose it is.
    pub id: SpiffeId,
    /// The chain in DER, one certificate behind the other, the leaf first.
    pub chain: Bytes,
    /// The key in PKCS#8, DER.
    pub key: SecretBytes,
    /// When it was received, by this machine's clock.
    pub received: UnixTime,
    /// When it ends.
    pub expires: UnixTime,
    /// The entry's `x509_version` that it was made under.
    pub version: u64,
}

/// A form in which a view is sent. Each is encoded once for all callers of the view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// `X509SVIDResponse`.
    X509Svids,
    /// `X509BundlesResponse`.
    X509Bundles,
    /// `JWTBundlesResponse`.
    JwtBundles,
}

impl Encoding {
    const COUNT: usize = 3;
}

impl WorkloadView {
    pub(crate) fn new(
        identities: Vec<HeldIdentity>,
        bundles: Arc<BundleSet>,
        entitled: bool,
        ready: bool,
    ) -> Self {
        Self {
            identities,
            bundles,
            entitled,
            ready,
            encoded: Default::default(),
        }
    }

    /// The view in a form for the wire, made by `encode` at the first call. The bytes hold private keys and are zeroed when the last copy is dropped.
    pub fn encoded(&self, form: Encoding, encode: impl FnOnce() -> Vec<u8>) -> Bytes {
        let bytes =
            self.encoded[form as usize].get_or_init(|| Bytes::from_owner(Wiped(Zeroizing::new(encode()))));
        bytes.clone()
    }

    /// Whether a caller who has `other` would learn nothing from this.
    pub(super) fn tells_the_same_as(&self, other: &Self) -> bool {
        self.entitled == other.entitled
            && self.ready == other.ready
            && Arc::ptr_eq(&self.bundles, &other.bundles)
            && self.identities.len() == other.identities.len()
            && self
                .identities
                .iter()
                .zip(&other.identities)
                .all(|(one, other)| one.tells_the_same_as(other))
    }
}

impl HeldIdentity {
    fn tells_the_same_as(&self, other: &Self) -> bool {
        let same_svid = match (&self.x509, &other.x509) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_svid
            && self.entry_id == other.entry_id
            && self.id == other.id
            && self.hint == other.hint
            && self.federates_with == other.federates_with
    }
}

/// Bytes that are zeroed at their end.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Wiped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wiped(..)")
    }
}
