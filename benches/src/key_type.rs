//! The type of a key on the command line.

use bulla_sealing::KeyType;
use clap::ValueEnum;

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    /// Post-quantum, `age1pq1…`
    Hybrid,
    /// Compact, `age1…`
    X25519,
}

impl Type {
    /// Its name on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        KeyType::from(self).as_str()
    }
}

impl From<Type> for KeyType {
    fn from(type_: Type) -> Self {
        match type_ {
            Type::Hybrid => Self::Hybrid,
            Type::X25519 => Self::X25519,
        }
    }
}
