//! Kubernetes objects in manifests: what this tool knows about their kinds, and how it reads Secrets and SealedSecrets.
//! `bulla_manifests` knows how they are written in files.

mod kinds;
mod metadata;
mod schema;
mod sealed_secret;
mod secret;

use std::path::Path;

use anyhow::Result;

use crate::files::input::{self, Input};
use crate::manifest::kinds::KINDS;

pub(crate) use bulla_manifests::{
    Comment, Document, ManifestFile, Mark, MistakeAt, NotEdited, Object, Patch, Position, Step,
    Tree, path_text, to_readable_yaml, to_yaml,
};
pub(crate) use kinds::{ObjectKind, is_unknown_version};
pub(crate) use metadata::{GivenNamespace, metadata_of, name_of, namespace_of};
pub(crate) use schema::{FlawKind, flaws};
pub(crate) use sealed_secret::{
    deserialize as deserialize_sealed_secret, read_sealed_secret, sealed_data, sealed_data_steps,
    sealed_value_steps,
};
pub(crate) use secret::{read_secret, read_secret_beside, secret_to_tree};

/// Reads all documents of a file, or says where the first mistake is.
pub(crate) fn parse(input: Input) -> Result<ManifestFile> {
    ManifestFile::parse(input, KINDS)
}

/// Everything that a command was asked to read.
pub(crate) struct Manifests(Vec<ManifestFile>);

impl Manifests {
    /// Reads and parses all of `paths`, or says where the first mistake is.
    pub(crate) fn read<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        paths.into_iter().map(|path| parse(input::read(path)?)).collect::<Result<_>>().map(Self)
    }

    /// One file.
    pub(crate) fn of(input: Input) -> Result<Self> {
        Ok(Self(vec![parse(input)?]))
    }

    pub(crate) fn objects(&self) -> Result<Vec<Object<'_>>> {
        let mut objects = Vec::new();
        for file in &self.0 {
            objects.extend(file.objects()?);
        }
        Ok(objects)
    }

    /// The SealedSecrets and what is unlike any of them, if there are SealedSecrets; otherwise all objects. The rest of
    /// a file, such as a Deployment, is counted.
    pub(crate) fn sealed_among_others(&self) -> Result<(Vec<Object<'_>>, usize)> {
        let objects = self.objects()?;
        let is_ours = |object: &Object<'_>| {
            matches!(ObjectKind::of(object), ObjectKind::SealedSecret | ObjectKind::OtherOfOurs)
        };
        if !objects.iter().any(is_ours) {
            return Ok((objects, 0));
        }
        let (ours, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_ours);
        Ok((ours, others.len()))
    }
}
