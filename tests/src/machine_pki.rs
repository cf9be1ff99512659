//! The PKI of a machine park that knows nothing of SPIFFE.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// An authority that gives machines certificates.
pub struct MachineCa {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A machine's certificate and its key, in PEM.
#[derive(Clone)]
pub struct MachineCertificate {
    /// The certificate.
    pub certificate: String,
    /// The key in PKCS#8.
    pub key: String,
}

impl MachineCa {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for the machine `name`, by an EC key.
    pub fn machine(&self, name: &str) -> MachineCertificate {
        self.machine_with(name, &KeyPair::generate().unwrap(), |_| {})
    }

    /// The same with a key and changes of the story's own.
    pub fn machine_with(
        &self,
        name: &str,
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> MachineCertificate {
        let mut params = params(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        MachineCertificate {
            certificate: params.signed_by(key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

impl MachineCertificate {
    /// Writes `machine.crt` and `machine.key` into `folder`, as whoever installs machines does.
    pub fn install(&self, folder: &Path) {
        fs::write(folder.join("machine.crt"), &self.certificate).unwrap();
        let key = folder.join("machine.key");
        fs::write(&key, &self.key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::minutes(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(1);
    params
}
