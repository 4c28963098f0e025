//! The certificates that the servers of the tests show each other.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::support::{ca, empty_folder};

#[test]
fn a_certificate_is_good_for_its_names_only() {
    let provider = || Arc::new(ring::default_provider());
    let folder = empty_folder();
    let (chain, key) = ca().certificate(&["localhost", "127.0.0.1"]).write(folder.path());
    let chain = vec![CertificateDer::from_pem_file(chain).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca().file()).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (server, client) = (Arc::new(server), Arc::new(client));

    for (name, good) in [("localhost", true), ("127.0.0.1", true), ("elsewhere", false)] {
        let name = ServerName::try_from(name).unwrap();
        let mut asks = ClientConnection::new(client.clone(), name.clone()).unwrap();
        let mut answers = ServerConnection::new(server.clone()).unwrap();
        let mut wire = Vec::new();
        asks.write_tls(&mut wire).unwrap();
        answers.read_tls(&mut &wire[..]).unwrap();
        answers.process_new_packets().unwrap();
        wire.clear();
        while answers.wants_write() {
            answers.write_tls(&mut wire).unwrap();
        }
        asks.read_tls(&mut &wire[..]).unwrap();
        assert_eq!(asks.process_new_packets().is_ok(), good, "{name:?}");
    }
}
