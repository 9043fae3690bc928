//! A Secret in the clear that is wiped when it is dropped.

use std::fmt;
use std::ops::Deref;

use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroize;

/// A Secret with plaintext in it: wiped when dropped, and unprintable beyond its name.
#[derive(Default)]
pub struct WipedSecret(Secret);

impl WipedSecret {
    /// Takes over a Secret, to wipe it.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// Changes what is not secret about it.
    pub fn with(mut self, change: impl FnOnce(&mut Secret)) -> Self {
        change(&mut self.0);
        self
    }
}

impl Deref for WipedSecret {
    type Target = Secret;

    fn deref(&self) -> &Secret {
        &self.0
    }
}

impl Drop for WipedSecret {
    fn drop(&mut self) {
        self.0.data.iter_mut().flatten().for_each(|(_, value)| value.0.zeroize());
        self.0.string_data.iter_mut().flatten().for_each(|(_, value)| value.zeroize());
    }
}

impl fmt::Debug for WipedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metadata = &self.0.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        write!(f, "WipedSecret({namespace}/{})", metadata.name.as_deref().unwrap_or_default())
    }
}
