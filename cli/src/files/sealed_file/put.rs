//! Whole Secrets sealed into a file: merged into its SealedSecrets, or added at the end.

use std::collections::HashSet;
use std::path::Path;

use anyhow::anyhow;
use bulla_sealing::{Recipients, Scope};
use zeroize::Zeroizing;

use super::merge::MergedSecret;
use super::{Picked, SealedFile, Sealer};
use crate::files::write;
use crate::manifest::{self, Object, ObjectKind, Patch, Step};
use crate::report::failure::{Failure, OrHint};
use crate::report::{diagnostic, output};
use crate::values::plain_secret::{self, PlainSecret};
use crate::values::sealed_text::SealedText;

/// What to do when a file has the SealedSecret already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfThere {
    /// The new values are merged into it.
    Merge,
    /// The command fails.
    Refuse,
}

/// A file with Secrets sealed into it, not yet written.
pub(crate) struct Put {
    new: Zeroizing<Vec<u8>>,
    merged: Vec<(String, MergedSecret)>,
    added: Vec<String>,
}

/// How to replace a file that cannot be added to.
const REPLACE_IT: &str = "to replace the whole file, pass --force";

/// Reads a file that Secrets are to be sealed into.
pub(crate) fn read_to_put(path: &Path) -> Result<SealedFile, Failure> {
    // --force cannot help with a file that may not be written.
    write::check_replaceable(path)?;
    SealedFile::read(path).or_hint(REPLACE_IT)
}

/// Works out the file with all of `given` sealed into it, and writes nothing.
pub(crate) fn put(
    file: &SealedFile,
    given: &[PlainSecret<'_>],
    sealer: Sealer<'_>,
    if_there: IfThere,
) -> Result<Put, Failure> {
    let objects = objects_to_add_to(file)?;
    let (mut merged, mut added, mut documents) = (Vec::new(), Vec::new(), Vec::new());
    let mut patches: Vec<Patch> = Vec::new();
    let mut seen = HashSet::new();
    for given in given {
        if !seen.insert((given.namespace.as_deref(), given.name())) {
            return Err(given.refuse(&[], "given twice"));
        }
        let namespace = given.namespace.as_deref();
        let Some(picked) = same(&objects, given.name(), namespace)? else {
            let scope = sealer.scope.unwrap_or(Scope::Strict);
            documents.push(given.seal(scope, sealer.recipients, sealer.insisted)?);
            added.push(given.title());
            continue;
        };
        if if_there == IfThere::Refuse {
            return Err(refuse_to_merge(&picked));
        }
        refuse_other_scope(&picked, given, sealer.scope)?;
        let one =
            MergedSecret::of(&picked, &given.secret, sealer, |error| given.refuse_to_seal(error))?;
        given.tell(&plain_secret::dropped_marks(&given.secret));
        patches.extend(one.patches.iter().cloned());
        merged.push((picked.object.title(), one));
    }
    if !documents.is_empty() && file.manifests.is_json() {
        let name = file.path.display();
        return Err(anyhow!("{name}: cannot add a second object to a JSON file"))
            .or_hint("write it to another file");
    }
    let new = file.changed(&patches, &documents)?.bytes();
    Ok(Put { new, merged, added })
}

/// Refuses a Secret that the file already has, before asking for its values.
pub(crate) fn refuse_if_there(
    file: &SealedFile,
    name: &str,
    namespace: Option<&str>,
) -> Result<(), Failure> {
    match same(&objects_to_add_to(file)?, name, namespace)? {
        Some(picked) => Err(refuse_to_merge(&picked)),
        None => Ok(()),
    }
}

/// Writes the file, and reports what happened to each Secret.
pub(crate) fn write(file: &SealedFile, put: &Put, recipients: &Recipients) -> Result<(), Failure> {
    file.replace(&put.new)?;
    for (title, merged) in &put.merged {
        merged.tell(&file.path, title, recipients);
    }
    for title in &put.added {
        output::summary(&format!("{}: {title}: added", file.path.display()));
    }
    Ok(())
}

/// The objects of a file that may be added to: every document is an object, and none is a plaintext Secret.
fn objects_to_add_to(file: &SealedFile) -> Result<Vec<Object<'_>>, Failure> {
    let objects = file.manifests.objects().or_hint(REPLACE_IT)?;
    for object in &objects {
        if manifest::is_unknown_version(object) {
            return Err(diagnostic::unknown_version(object).into());
        }
        let has_values = |field| object.value.get(field).is_some_and(|values| !values.is_null());
        if ObjectKind::of(object) == ObjectKind::Secret
            && (has_values("data") || has_values("stringData"))
        {
            let what = format!("{}: the file has a plaintext Secret", object.title());
            return Err(object.mistake(&[], &what)).or_hint(
                "seal it too, and remove it: sealed values are not written next to plaintext",
            );
        }
    }
    Ok(objects)
}

/// The SealedSecret for the same Secret. One without a namespace counts for the given namespace.
fn same<'a>(
    objects: &[Object<'a>],
    name: &str,
    namespace: Option<&str>,
) -> Result<Option<Picked<'a>>, Failure> {
    let mut same: Vec<_> = objects
        .iter()
        .filter(|object| ObjectKind::of(object) == ObjectKind::SealedSecret)
        .filter(|object| object.metadata_field("name") == Some(name))
        .filter(|object| match (object.metadata_field("namespace"), namespace) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        })
        .collect();
    if same.len() > 1 {
        same.retain(|object| object.metadata_field("namespace") == namespace);
    }
    match same[..] {
        [] => Ok(None),
        [object] => Ok(Some(Picked {
            object: *object,
            name: name.to_owned(),
            namespace: object.metadata_field("namespace").or(namespace).map(Into::into),
            values: SealedText::of(object),
        })),
        [_, other, ..] => Err(other.mistake(
            &[Step::Key("metadata"), Step::Key("name")],
            "the file has this object twice",
        ))
        .or_hint("remove one of them"),
    }
}

fn refuse_to_merge(picked: &Picked<'_>) -> Failure {
    picked
        .refuse("already exists in this file")
        .hint("to change one value, run bulla set; to merge these values into it, pass --merge")
}

/// A scope that is asked for must match the values that stay: it is for the whole Secret.
fn refuse_other_scope(
    picked: &Picked<'_>,
    given: &PlainSecret<'_>,
    scope: Option<Scope>,
) -> Result<(), Failure> {
    let Some(scope) = scope else { return Ok(()) };
    let is_given = |key| given.secret.data.as_ref().is_some_and(|data| data.contains_key(key));
    let other = picked.bindings().find(|(key, it)| !is_given(*key) && it.scope() != scope);
    let Some((key, binding)) = other else { return Ok(()) };
    let (there, scope) = (binding.scope().as_str(), scope.as_str());
    let what = format!("the existing value of {key} has scope {there}, but --scope is {scope}");
    Err(picked.refuse(what).hint("leave --scope out, or pass all values of the Secret"))
}
