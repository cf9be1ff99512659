/// What an entry says beyond names and selectors (SPIRE's `additional_attributes`).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Attributes {
    /// The node does not sign this entry's X.509-SVID before somebody asks for it.
    pub disable_x509_svid_prefetch: bool,
    /// JWT-SVIDs of this entry carry a `jti`, and so none is handed out twice.
    pub jwt_svid_include_jti: bool,
}
