//! Identities from mounted files: what a person brings along, or another system keeps.

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

/// How often the folder is read. What is mounted changes without telling anybody.
const EVERY: Duration = Duration::from_secs(10);

/// Far more than an identity file has.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Keeps what the folder holds in the keyring, for ever.
pub(crate) async fn follow(ctx: &Context, folder: &Path) {
    loop {
        match read(folder) {
            Ok((identities, unusable)) => {
                let changed = ctx.key_store.files_came(identities, unusable);
                sealed_secret::keys_changed(ctx, &changed);
                ctx.key_store.first_list_is_done(Origin::Files);
            }
            // What was read before is held: nothing is given up because something failed.
            Err(error) => {
                tracing::error!(folder = %folder.display(), %error, "the folder of identities cannot be read");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Every identity of every file, and the files that have none.
fn read(folder: &Path) -> io::Result<(Vec<Identity>, BTreeMap<String, String>)> {
    let (mut identities, mut unusable) = (Vec::new(), BTreeMap::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Mounted volumes have folders and links of their own that begin with a dot.
        let is_hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let metadata = fs::metadata(&path)?;
        if is_hidden || !metadata.is_file() {
            continue;
        }
        let found = if metadata.len() > MAX_FILE_BYTES {
            Err("it is too large for an identity file".to_owned())
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
