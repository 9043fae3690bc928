//! The reference to an object. A SealedSecret and its target share namespace and name.

use std::fmt;
use std::sync::Arc;

use kube::core::ObjectMeta;

/// The namespace and name of an object, cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectRef {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl ObjectRef {
    /// The reference to the object with this metadata.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        let text = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or_default());
        Self { namespace: text(&metadata.namespace), name: text(&metadata.name) }
    }
}

/// `namespace/name`, as in logs.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
impl From<&str> for ObjectRef {
    fn from(text: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap();
        Self { namespace: namespace.into(), name: name.into() }
    }
}
