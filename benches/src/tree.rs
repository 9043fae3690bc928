//! The tree of files: SealedSecrets with comments, the same in each run.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bulla_crds::{decode_value, encode_value};
use bulla_sealing::{
    Binding, Fingerprint, Keyring, Recipient, Recipients, Scope, SealedValue, ValueAddress, seal,
};
use bulla_tests::Folder;
use serde_json::json;

/// The namespace of all SealedSecrets.
pub(crate) const NAMESPACE: &str = "bench";

/// About as many manifests as in a folder of a real Git repository.
const FILES_PER_FOLDER: usize = 25;

/// The indentation of values in a file.
const INDENT: &str = "    ";

/// All files, sealed once.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) sealed_secrets: Vec<Sealed>,
}

/// A SealedSecret with its values.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) name: String,
    pub(crate) values: Vec<Value>,
}

/// A sealed value.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) target: ValueAddress,
    pub(crate) file: Vec<u8>,
}

impl Tree {
    /// Seals everything.
    pub(crate) fn seal(files: u32, values: u16, recipient: Recipient) -> Result<Self> {
        let recipients = Recipients::new(vec![recipient])?;
        let value = |name: &str, index: u32, number: u16| {
            let target = ValueAddress::new(NAMESPACE, name, &format!("key-{number}"))?;
            let binding = Binding::new(Scope::Strict, &target);
            let file = seal(plaintext(index, number).as_bytes(), &binding, &recipients)?;
            Ok(Value { target, file })
        };
        let sealed = |index: u32| {
            let name = format!("object-{index:05}");
            let values = (0..values).map(|number| value(&name, index, number));
            Ok(Sealed { values: values.collect::<Result<_>>()?, name })
        };
        Ok(Self { sealed_secrets: (0..files).map(sealed).collect::<Result<_>>()? })
    }

    /// Writes all files and waits until they are on disk, so that later measurements do not wait for that.
    pub(crate) fn write(&self) -> Result<Copy> {
        let folder = Folder::new("bulla-bench-tree-")?;
        let mut files = Vec::new();
        for (index, sealed) in self.sealed_secrets.iter().enumerate() {
            let parent = folder.path().join(format!("app-{}", index / FILES_PER_FOLDER));
            fs::create_dir_all(&parent)?;
            let path = parent.join(&sealed.name).with_extension("yaml");
            let mut file = File::create_new(&path)?;
            file.write_all(sealed.manifest().as_bytes())?;
            file.sync_all()?;
            files.push(path);
        }
        let copy = Copy { folder, files };
        copy.sync_folders()?;
        Ok(copy)
    }

    /// All objects as items of one List, as `kubectl get` prints them.
    pub(crate) fn list(&self) -> String {
        let mut text = "apiVersion: v1\nkind: List\nitems:\n".to_owned();
        for sealed in &self.sealed_secrets {
            text.push_str("-\n");
            for line in sealed.manifest().lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }

    /// All values.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Value> {
        self.sealed_secrets.iter().flat_map(|sealed| &sealed.values)
    }
}

impl Sealed {
    /// The object as in its file.
    pub(crate) fn manifest(&self) -> String {
        let name = &self.name;
        let mut text = format!(
            "# What {name} needs to run. Its team looks after it.\n\
             apiVersion: bulla.dev/v1alpha1\n\
             kind: SealedSecret\n\
             metadata:\n  name: {name}\n  namespace: {NAMESPACE} # where it is deployed\n\
             spec:\n  # Changed last when the team moved.\n  sealedData:\n"
        );
        for value in &self.values {
            let key = value.target.key();
            let value = encode_value(&value.file);
            let _ = writeln!(
                text,
                "{INDENT}# from the vendor's console\n{INDENT}{key}: {value} # do not share"
            );
        }
        text + "  template:\n    type: Opaque\n"
    }

    /// The object as in the cluster.
    pub(crate) fn object(&self) -> serde_json::Value {
        let values = self.values.iter().map(|value| {
            (value.target.key().to_owned(), serde_json::Value::from(encode_value(&value.file)))
        });
        json!({
            "apiVersion": "bulla.dev/v1alpha1",
            "kind": "SealedSecret",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {
                "sealedData": values.collect::<serde_json::Map<_, _>>(),
                "template": {"type": "Opaque"},
            },
        })
    }

    /// The object with the values in `text`. It is an error if `text` differs in anything else.
    fn again(&self, text: &str) -> Result<Self> {
        let mut again = self.clone();
        for value in &mut again.values {
            let begin = format!("\n{INDENT}{}: ", value.target.key());
            let rest = text.split_once(&begin).context("a key is missing")?.1;
            let base64 = rest.split_whitespace().next().context("a value is missing")?;
            value.file = decode_value(base64).context("a value is not base64")?;
        }
        ensure!(again.manifest() == text, "something other than the values has changed");
        Ok(again)
    }
}

impl Value {
    /// Its header.
    pub(crate) fn header(&self) -> Result<&[u8]> {
        let header_len = SealedValue::parse(&self.file)?.header_bytes().len();
        Ok(&self.file[..header_len])
    }
}

/// The tree on the disk.
#[derive(Debug)]
pub(crate) struct Copy {
    folder: Folder,
    pub(crate) files: Vec<PathBuf>,
}

impl Copy {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the names in all folders last.
    pub(crate) fn sync_folders(&self) -> Result<()> {
        let mut folders: Vec<_> = self.files.iter().filter_map(|path| path.parent()).collect();
        folders.dedup();
        folders.into_iter().try_for_each(|folder| Ok(File::open(folder)?.sync_all()?))
    }

    /// Checks that all values of `tree` are sealed only to `to`, with their payloads and lengths unchanged, and that
    /// nothing else has changed. With a keyring, checks also that they open. A benchmark of wrong work must fail.
    pub(crate) fn verify(
        &self,
        tree: &Tree,
        to: Fingerprint,
        keyring: Option<&Keyring>,
    ) -> Result<()> {
        for (index, (path, sealed)) in (0..).zip(self.files.iter().zip(&tree.sealed_secrets)) {
            let text = fs::read_to_string(path)?;
            let again = sealed.again(&text).with_context(|| path.display().to_string())?;
            for (number, (new, old)) in (0..).zip(again.values.iter().zip(&sealed.values)) {
                let (new_value, old_value) =
                    (SealedValue::parse(&new.file)?, SealedValue::parse(&old.file)?);
                ensure!(
                    new_value.fingerprints().eq([to])
                        && new_value.payload() == old_value.payload()
                        && new.file.len() == old.file.len(),
                    "{}: a value has no header for {to} over the same payload",
                    path.display()
                );
                let Some(keyring) = keyring else { continue };
                let opened = new_value.unseal(&new.target, keyring)?;
                ensure!(opened.as_bytes() == plaintext(index, number).as_bytes());
            }
        }
        Ok(())
    }
}

/// 32 bytes.
fn plaintext(index: u32, number: u16) -> String {
    format!("{index:016}{number:016}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulla_sealing::{Identity, KeyType};

    #[test]
    fn only_a_tree_that_differs_only_in_headers_is_accepted() {
        let [old, new] = [(); 2].map(|()| Identity::generate(KeyType::X25519).unwrap());
        let to = new.recipient().fingerprint();
        let recipients = Recipients::new(vec![new.recipient()]).unwrap();
        let tree = Tree::seal(2, 2, old.recipient()).unwrap();
        let copy = tree.write().unwrap();
        assert!(copy.verify(&tree, to, None).is_err());

        let (old, new) = (Keyring::from_iter([old]), Keyring::from_iter([new]));
        for (path, sealed) in copy.files.iter().zip(&tree.sealed_secrets) {
            let mut rekeyed = sealed.clone();
            for value in &mut rekeyed.values {
                let (header, payload) = bulla_sealing::SealedHeader::parse(&value.file).unwrap();
                let header = header.rekey(&value.target, &old, &recipients).unwrap();
                value.file = [&header[..], payload].concat();
            }
            fs::write(path, rekeyed.manifest()).unwrap();
        }
        copy.verify(&tree, to, Some(&new)).unwrap();
        assert!(copy.verify(&tree, to, Some(&old)).is_err());
        let text = fs::read_to_string(&copy.files[0]).unwrap();
        fs::write(&copy.files[0], text.replace("do not share", "")).unwrap();
        assert!(copy.verify(&tree, to, Some(&new)).is_err());
    }
}
