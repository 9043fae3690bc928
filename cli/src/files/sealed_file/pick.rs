//! The SealedSecret of a file that a command works on.

use std::collections::BTreeMap;

use anyhow::anyhow;
use bulla_crds::SealError;
use bulla_sealing::Binding;
use clap::Args;

use super::SealedFile;
use crate::manifest::{self, GivenNamespace, Object, ObjectKind};
use crate::report::diagnostic;
use crate::report::failure::{Failure, OrHint};
use crate::values::sealed_text::SealedText;

/// Which SealedSecret of a file is meant, and for which namespace it is.
#[derive(Args)]
pub(crate) struct PickFlags {
    /// The name of the SealedSecret, if FILE has several
    #[arg(long = "name", value_name = "NAME", help_heading = "Secret")]
    pub(crate) name: Option<String>,

    /// The namespace of the SealedSecret; must match the manifest if that names one
    #[arg(short, long, value_name = "NAMESPACE", help_heading = "Secret")]
    pub(crate) namespace: Option<String>,
}

pub(crate) struct Picked<'a> {
    pub(crate) object: Object<'a>,
    pub(crate) name: String,
    /// From the manifest, or else from -n or bulla.yaml.
    pub(crate) namespace: Option<String>,
    /// The sealed values by data key.
    pub(crate) values: BTreeMap<&'a str, SealedText<'a>>,
}

impl PickFlags {
    /// The one SealedSecret of a file, or the one that is named among several.
    pub(crate) fn pick<'a>(&self, sealed_file: &'a SealedFile) -> Result<Picked<'a>, Failure> {
        let objects = sealed_file.objects()?;
        if let Some(object) = objects.iter().find(|object| manifest::is_unknown_version(object)) {
            return Err(diagnostic::unknown_version(object).into());
        }
        let all: Vec<_> = objects
            .into_iter()
            .filter(|object| ObjectKind::of(object) == ObjectKind::SealedSecret)
            .collect();
        let titles = all.iter().map(Object::title).collect::<Vec<_>>().join(", ");
        let is_meant = |object: &Object<'_>| match &self.name {
            Some(name) => object.metadata_field("name") == Some(name.as_str()),
            None => true,
        };
        let mut meant: Vec<_> = all.into_iter().filter(is_meant).collect();
        if let (true, Some(namespace)) = (meant.len() > 1, &self.namespace) {
            meant.retain(|object| {
                object.metadata_field("namespace").is_none_or(|stated| stated == namespace)
            });
        }
        let file = sealed_file.path.display();
        let count = meant.len();
        match (<[Object<'_>; 1]>::try_from(meant), &self.name) {
            (Ok([object]), _) => Picked::new(object, self),
            (Err(_), _) if titles.is_empty() => {
                Err(anyhow!("{file}: no SealedSecret in this file"))
                    .or_hint("to make one, run bulla create, or bulla seal for an existing Secret")
            }
            (Err(_), Some(name)) if count == 0 => {
                Err(anyhow!("{file}: no SealedSecret {name} in this file"))
                    .or_hint(format!("it has: {titles}"))
            }
            (Err(_), None) if count == 0 => {
                Err(anyhow!("{file}: no SealedSecret of that namespace in this file"))
                    .or_hint(format!("it has: {titles}"))
            }
            (Err(_), _) => Err(anyhow!("{file}: {count} SealedSecrets match"))
                .or_hint(format!("choose one with --name, and its namespace with -n: {titles}")),
        }
    }
}

impl<'a> Picked<'a> {
    fn new(object: Object<'a>, flags: &PickFlags) -> Result<Self, Failure> {
        let metadata = manifest::metadata_of(&object)?;
        let name = manifest::name_of(&object, &metadata)?.to_owned();
        let given = flags.namespace.as_deref().map(GivenNamespace::by_flag);
        let values = SealedText::of(&object);
        Self { object, name, namespace: None, values }.in_namespace(given.as_ref())
    }

    /// With the namespace that the manifest or `given` names; they must agree.
    pub(crate) fn in_namespace(self, given: Option<&GivenNamespace>) -> Result<Self, Failure> {
        let metadata = manifest::metadata_of(&self.object)?;
        let namespace = manifest::namespace_of(&self.object, &metadata, given)?;
        Ok(Self { namespace: namespace.map(Into::into), ..self })
    }

    /// The binding of each value; invalid values are left out.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = (&str, &Binding)> {
        self.values.iter().filter_map(|(key, value)| Some((*key, value.parsed()?.binding())))
    }

    /// The failure to seal a value for this object.
    pub(crate) fn refuse_to_seal(&self, error: &SealError) -> Failure {
        self.refuse(error).maybe_hint(diagnostic::hint_for_sealing(error))
    }

    /// A failure about this object.
    pub(crate) fn refuse(&self, what: impl std::fmt::Display) -> Failure {
        let position = self.object.position(&manifest::sealed_data_steps());
        Failure::unable(anyhow!("{position}: {}: {what}", self.object.title()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pick(text: &str, name: Option<&str>, namespace: Option<&str>) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.yaml");
        fs::write(&path, text).unwrap();
        let flags = PickFlags { name: name.map(Into::into), namespace: namespace.map(Into::into) };
        let file = SealedFile::read(&path).unwrap();
        let picked = flags.pick(&file);
        picked
            .map(|picked| format!("{} {}", picked.namespace.as_deref().unwrap_or("-"), picked.name))
            .map_err(|failure| failure.into_parts().1.unwrap_or_default())
    }

    fn object(namespace: &str, name: &str) -> String {
        format!(
            "---\napiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata: {{name: {name}{namespace}}}\nspec: {{sealedData: {{}}}}\n"
        )
    }

    #[test]
    fn the_only_or_the_named_object_is_picked() {
        let others = "a: 1\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: db}\n";
        let one = format!("{others}{}", object("", "db"));
        assert_eq!(pick(&one, None, None).unwrap(), "- db");
        assert_eq!(pick(&one, Some("db"), Some("prod")).unwrap(), "prod db");
        assert_eq!(pick(&one, Some("web"), None).unwrap_err(), "it has: db");
        let two = one + &object(", namespace: dev", "db") + &object(", namespace: prod", "web");
        let hint = "choose one with --name, and its namespace with -n: db, dev/db, prod/web";
        assert_eq!(pick(&two, None, None).unwrap_err(), hint);
        assert_eq!(pick(&two, Some("web"), None).unwrap(), "prod web");
        assert_eq!(pick(&two, Some("db"), None).unwrap_err(), hint);
        assert_eq!(pick(&two, Some("db"), Some("prod")).unwrap(), "prod db");
        assert_eq!(pick(&two, Some("db"), Some("dev")).unwrap_err(), hint);
        assert_eq!(pick(&two, None, Some("other")).unwrap(), "other db");
        assert_eq!(
            pick(&two, Some("web"), Some("dev")).unwrap_err(),
            "leave -n out, or correct the manifest"
        );
        let none = pick(others, None, None).unwrap_err();
        assert_eq!(none, "to make one, run bulla create, or bulla seal for an existing Secret");
    }
}
