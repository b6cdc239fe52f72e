//! The files a broker reads and keeps: its configuration, the bundle's texts, secrets.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use secrecy::{ExposeSecret, SecretString};

use crate::identity::keys::{self, TokenKind};
use crate::ledger::SigningKey;
use crate::policy::{LARGEST_FILE, is_bundle_file};
use crate::system::Entropy;

/// The texts of a bundle's directory, by their paths relative to it.
pub(super) fn bundle_texts(dir: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    for folder in ["catalog", "policies"] {
        let entries = match fs::read_dir(dir.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).context(format!("read the folder {folder}")),
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let path = format!("{folder}/{name}");
            if is_bundle_file(&path) {
                texts.insert(path.clone(), text(&dir.join(&path), LARGEST_FILE)?);
            }
        }
    }
    Ok(texts)
}

/// A text file of at most `largest` bytes.
pub(super) fn text(path: &Path, largest: usize) -> anyhow::Result<String> {
    let size = fs::metadata(path)
        .with_context(|| format!("read {}", path.display()))?
        .len();
    ensure!(
        usize::try_from(size).is_ok_and(|size| size <= largest),
        "{} is larger than {largest} bytes",
        path.display()
    );
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// A secret from a file that only its owner may read. One line feed at the end is not part of it.
pub(super) fn secret(path: &Path) -> anyhow::Result<SecretString> {
    let metadata = fs::metadata(path).with_context(|| {
        format!(
            "read {}; put the secret into this file, readable by the broker only (chmod 600)",
            path.display()
        )
    })?;
    if metadata.mode() & 0o077 != 0 {
        bail!(
            "{} can be read by others; run `chmod 600 {}`",
            path.display(),
            path.display()
        );
    }
    let text = zeroize::Zeroizing::new(text(path, 64 * 1024)?);
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    ensure!(
        !secret.is_empty(),
        "{} is empty; put the secret into it",
        path.display()
    );
    Ok(secret.to_owned().into())
}

/// The state directory, made with mode 0700 when it is not there.
pub(super) fn state_dir(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.with_context(|| format!("create the state directory {}", path.display()))?;
    let mode = fs::metadata(path)?.mode();
    ensure!(
        mode & 0o077 == 0,
        "the state directory {} is open to others; run `chmod 700 {}`",
        path.display(),
        path.display()
    );
    Ok(())
}

/// The key that signs checkpoints, made at the first start. Its public half is kept beside it in `ledger.vkey`.
pub(super) fn signing_key(
    dir: &Path,
    origin: &str,
    entropy: &dyn Entropy,
) -> anyhow::Result<SigningKey> {
    let path = dir.join("ledger.key");
    ensure!(
        path.exists() || !dir.join("ledger.head").exists(),
        "{} is gone, and this state directory has had a ledger: put the key back from your backup, since nobody can continue that ledger \
         without it; for a new ledger use another state_dir",
        path.display()
    );
    let made = || {
        let key = SigningKey::generate(origin, |seed| entropy.fill(seed))?;
        Ok(key.to_secret_text().as_str().to_owned().into())
    };
    let text = kept_or_made(&path, made)?;
    let key = SigningKey::from_secret_text(text.expose_secret())
        .with_context(|| format!("read the signing key {}", path.display()))?;
    let name = key.verifying_key().name();
    ensure!(
        name == origin,
        "the ledger of this state directory belongs to {name}, but public_url says {origin}; \
         use the former public_url, or another state_dir for a new ledger"
    );
    // Public, and written anew at each start: for `ledger verify --key` wherever the ledger is checked.
    let public = dir.join("ledger.vkey");
    fs::write(&public, format!("{}\n", key.verifying_key()))
        .with_context(|| format!("write {}", public.display()))?;
    Ok(key)
}

/// The digest of the operator's token, which is made at the first start and kept in `operator.token`.
pub(super) fn operator(dir: &Path, entropy: &dyn Entropy) -> anyhow::Result<crate::domain::Digest> {
    let path = dir.join("operator.token");
    let token = kept_or_made(&path, || Ok(keys::generate(TokenKind::Operator, entropy).0))?;
    match keys::recognise(token.expose_secret().trim_end()) {
        Some((TokenKind::Operator, digest)) => Ok(digest),
        _ => bail!(
            "{} holds no operator token; remove the file and start again to get a new one",
            path.display()
        ),
    }
}

/// What `path` holds, or what `make` gives, written there first. Dying in between leaves the file either
/// complete or not there at all.
fn kept_or_made(
    path: &Path,
    make: impl FnOnce() -> anyhow::Result<SecretString>,
) -> anyhow::Result<SecretString> {
    match fs::metadata(path) {
        Ok(_) => return secret(path),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).context(format!("read {}", path.display())),
    }
    let value = make()?;
    replace(path, value.expose_secret().as_bytes())?;
    secret(path)
}

/// Puts `bytes` where `path` is, for the owner only, durably: dying in between leaves what was there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}
