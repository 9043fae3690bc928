//! Identities from mounted files, which a person provides or another system stores.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use bulla_crds::keys;
use bulla_sealing::Identity;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::sealed_secret;
use crate::state::key_store::Origin;

/// How often the folder is read. Mounted files change without an event.
const EVERY: Duration = Duration::from_secs(10);

/// Far more than an identity file needs.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Keeps the identities of the folder in the keyring. Never ends.
pub(crate) async fn follow(ctx: &Context, folder: &Path) {
    loop {
        match read(folder) {
            Ok((identities, unusable)) => {
                let changed = ctx.key_store.replace_files(identities, unusable);
                sealed_secret::keys_changed(ctx, &changed);
                ctx.key_store.first_list_is_done(Origin::Files);
            }
            // Identities that were read before are kept: a failure must not drop a key.
            Err(error) => {
                tracing::error!(folder = %folder.display(), %error, "cannot read the folder of identities");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// All identities of all files, and the files that are not valid with their errors.
fn read(folder: &Path) -> io::Result<(Vec<Identity>, BTreeMap<String, String>)> {
    let (mut identities, mut unusable) = (Vec::new(), BTreeMap::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Kubernetes puts folders and links that begin with a dot into mounted volumes.
        let is_hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let metadata = fs::metadata(&path)?;
        if is_hidden || !metadata.is_file() {
            continue;
        }
        let found = if metadata.len() > MAX_FILE_BYTES {
            Err("too large for an identity file".to_owned())
        } else {
            let file = Zeroizing::new(fs::read(&path)?);
            keys::parse_identity_file(&file).map_err(|error| error.to_string())
        };
        match found {
            Ok(found) => identities.extend(found),
            Err(error) => drop(unusable.insert(path.display().to_string(), error)),
        }
    }
    Ok((identities, unusable))
}
