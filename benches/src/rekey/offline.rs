//! Measures a rekey with an identity, and the floors of its work.

use std::{fs, hint::black_box, io::Write, process::Command};

use anyhow::{Context, Result};
use bulla_crds::keys::identity_file;
use bulla_sealing::{Identity, Keyring, Recipients, SealedHeader};
use bulla_tests::{Folder, Program, program};
use tempfile::NamedTempFile;

use crate::{
    key_type::Type,
    program::progress,
    rekey::args::Args,
    timing::{self, Costs, ratio},
    tree::{Copy, Tree},
};

/// All times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offline {
    pub(crate) rekey: Costs,
    pub(crate) dry_run: Costs,
    pub(crate) headers: Costs,
    pub(crate) writes: Costs,
}

impl Offline {
    /// The ratio to both floors, which use one thread.
    pub(super) fn ratio(&self) -> f64 {
        ratio(self.rekey.wall().best, self.headers.wall().best + self.writes.wall().best)
    }
}

/// Measures everything in turn, so that noise of the machine affects all equally.
pub(crate) fn measure(args: &Args, key_type: Type) -> Result<Offline> {
    let bulla = program(Program::Bulla)?;
    let [old, new] = [Identity::generate(key_type.into())?, Identity::generate(key_type.into())?];
    let keys = Folder::new("bulla-bench-keys-")?;
    fs::write(keys.path().join("old.txt"), &**identity_file(&old))?;
    fs::write(keys.path().join("new.txt"), new.recipient().as_str())?;
    let (to, recipients) = (new.recipient().fingerprint(), Recipients::new(vec![new.recipient()])?);
    let tree = Tree::seal(args.files, args.values, old.recipient())?;
    let (old, new) = (Keyring::from_iter([old]), Keyring::from_iter([new]));

    let mut offline = Offline::default();
    for run in 1..=args.runs {
        progress(format!("  run {run} of {}", args.runs));
        let copy = tree.write()?;
        let rekey = |flags: &[&str]| {
            let mut command = Command::new(&bulla);
            command.current_dir(keys.path()).args(["rekey", "-i", "old.txt", "-R", "new.txt"]);
            timing::process(command.args(flags).arg(copy.path()))
        };
        offline.headers.push(timing::in_this_thread(|| make_headers(&tree, &old, &recipients))?);
        offline.dry_run.push(rekey(&["--dry-run"])?);
        offline.rekey.push(rekey(&[])?);
        copy.verify(&tree, to, Some(&new)).context("not everything is rekeyed")?;
        offline.writes.push(timing::in_this_thread(|| write_again(&copy))?);
    }
    Ok(offline)
}

/// Makes all headers, one after the other.
pub(crate) fn make_headers(tree: &Tree, keyring: &Keyring, recipients: &Recipients) -> Result<()> {
    for value in tree.values() {
        let (header, _) = SealedHeader::parse(&value.file)?;
        black_box(header.rekey(&value.target, keyring, recipients)?);
    }
    Ok(())
}

/// Reads every file and writes it again durably.
pub(crate) fn write_again(copy: &Copy) -> Result<()> {
    for path in &copy.files {
        let bytes = fs::read(path)?;
        let folder = path.parent().context("a file without a folder")?;
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
    }
    copy.sync_folders()
}
