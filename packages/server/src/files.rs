//! Small secret files of the data directory: made once, read by their owner only.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::random::Random;

/// Reads the file, or makes it with what `make` gives; also says whether it was made. Surrounding space is not part of
/// the secret.
///
/// # Errors
/// When the file can't be read or written, or has nothing in it.
pub(crate) fn secret(path: &Path, make: impl FnOnce() -> String) -> io::Result<(String, bool)> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => {
            return Err(io::Error::other(
                "it is empty; remove it, and the next start makes another",
            ));
        }
        Ok(text) => return Ok((text.trim().to_owned(), false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let text = make();
    // Under another name first: a file that is there is whole.
    let unfinished = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    write(&unfinished, &text)?;
    fs::rename(&unfinished, path)?;
    Ok((text, true))
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
    fn a_secret_is_made_once_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/secret");
        assert_eq!(secret(&path, || "one".to_owned()).unwrap(), ("one".to_owned(), true));
        assert_eq!(secret(&path, || "two".to_owned()).unwrap(), ("one".to_owned(), false));
        fs::write(folder.path().join("empty"), "\n").unwrap();
        let error = secret(&folder.path().join("empty"), || "one".to_owned()).unwrap_err();
        assert!(error.to_string().contains("it is empty"), "{error}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
