//! Small secret files of the data directory: made once, read by their owner only.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use rand::{Rng, distr::Alphanumeric};

/// Reads the file, or makes it with what `make` gives; also says whether it was made. Surrounding space is not part of
/// the secret.
///
/// # Errors
/// When the file can't be read or written.
pub(crate) fn secret(path: &Path, make: impl FnOnce() -> String) -> io::Result<(String, bool)> {
    match fs::read_to_string(path) {
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

/// So many random letters and digits, about six bits each.
pub(crate) fn random_text(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/secret");
        assert_eq!(secret(&path, || "one".to_owned()).unwrap(), ("one".to_owned(), true));
        assert_eq!(secret(&path, || "two".to_owned()).unwrap(), ("one".to_owned(), false));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
