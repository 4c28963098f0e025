//! Small secret files of the data directory: made once, read by their owner only.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::random::Random;

/// The file of the keys that sign.
pub(crate) const SIGNING_KEY: &str = "signing.key";
/// The file of the keys that did.
pub(crate) const OLD_KEYS: &str = "signing.key.old";

/// Reads the file; nothing if it is not there. Surrounding space is not part of the secret.
///
/// # Errors
/// When the file can't be read or has nothing in it.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Err(io::Error::other("it is empty")),
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the file, for its owner only, and the folders above it.
///
/// # Errors
/// When it can't be written.
pub(crate) fn make(path: &Path, secret: &str) -> io::Result<()> {
    // Under another name first: a file that is there is whole.
    let unfinished = path.with_extension("new");
    if let Some(folder) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
    }
    write(&unfinished, secret)?;
    fs::rename(&unfinished, path)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

/// The line of a new signing key. Its version is random too: other servers remember keys by it, and two keys of one name
/// would never be told apart.
pub(crate) fn signing_key(random: &Random) -> String {
    let version = random.text(6, b"abcdefghijklmnopqrstuvwxyz0123456789");
    format!("ed25519 a_{version} {}", STANDARD_NO_PAD.encode(random.bytes::<32>()))
}

#[cfg(test)]
mod tests {
    use matryx_core::event::SigningKey;

    use super::*;

    #[test]
    fn a_signing_key_can_be_read_and_is_new_each_time() {
        let keys = [0, 1]
            .map(|_| signing_key(&Random::machine()))
            .map(|line| SigningKey::parse(&line).unwrap());
        assert_ne!(keys[0].key_id(), keys[1].key_id());
        assert_ne!(keys[0].to_line(), keys[1].to_line());
    }

    #[test]
    fn a_secret_is_made_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/secret");
        assert_eq!(read(&path).unwrap(), None);
        make(&path, "one").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("one"));
        fs::write(folder.path().join("empty"), "\n").unwrap();
        let error = read(&folder.path().join("empty")).unwrap_err();
        assert_eq!(error.to_string(), "it is empty");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&path), 0o600);
            assert_eq!(mode(path.parent().unwrap()), 0o700);
        }
    }
}
