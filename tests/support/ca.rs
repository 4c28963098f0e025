//! The authority that all servers of the tests trust, and certificates of its hand.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

use super::folder;

/// A certificate authority of this process, with a folder for the files that servers are given.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate for some names and its key.
pub struct Certificate {
    /// The certificate, PEM. The authority itself is its issuer, so this is the whole chain.
    pub chain: String,
    /// The private key, PKCS #8 in PEM.
    pub key: String,
}

/// The authority, made when it is first asked for.
pub fn ca() -> &'static Ca {
    static CA: LazyLock<Ca> = LazyLock::new(Ca::new);
    &CA
}

impl Ca {
    fn new() -> Self {
        let mut params = params(&[]);
        params.distinguished_name.push(DnType::CommonName, "the authority of Matryx's tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = folder::empty();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, folder }
    }

    /// The file with the authority's certificate, PEM: for `federation.trusted_ca_file`.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these host names and IP addresses.
    pub fn certificate(&self, names: &[&str]) -> Certificate {
        let mut params = params(names);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Certificate {
    /// Writes both into a folder: the paths of the chain and of the key.
    pub fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (chain, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        fs::write(&chain, &self.chain).expect("a file");
        fs::write(&key, &self.key).expect("a file");
        (chain, key)
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("names that a certificate can have")
}
