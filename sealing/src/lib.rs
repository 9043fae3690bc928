//! Sealing and unsealing of single values: bytes in, bytes out.
//!
//! A sealed value is one complete [age] file. Its first stanza, the *binding*, says which namespace,
//! name and data key the value is for; anyone can read it, and nobody can change it unnoticed.
//! `docs/format.md` is the normative description. This crate is the only one in the project that
//! calls cryptography. It knows nothing about Kubernetes objects, YAML, files, clocks or the network;
//! its callers handle those.
//!
//! ```
//! use bulla_sealing::{Binding, Identity, KeyType, Keyring, Recipients, Scope, SealedValue, ValueAddress, seal};
//!
//! let identity = Identity::generate(KeyType::Hybrid)?;
//! let recipients = Recipients::new(vec![identity.recipient()])?;
//! let address = ValueAddress::new("prod", "db", "password")?;
//! let file = seal(b"correct horse", &Binding::new(Scope::Strict, &address), &recipients)?;
//!
//! // Anyone can read what it is for, without a key.
//! let sealed_value = SealedValue::parse(&file)?;
//! assert_eq!(sealed_value.binding().to_string(), "key password of prod/db");
//!
//! // Only the holder of the identity can open it, and only for what it was sealed for.
//! let keyring = Keyring::from_iter([identity]);
//! assert_eq!(sealed_value.unseal(&address, &keyring)?.as_bytes(), b"correct horse");
//! let elsewhere = ValueAddress::new("dev", "db", "password")?;
//! assert!(sealed_value.unseal(&elsewhere, &keyring).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Types that hold a secret are wiped when dropped and cannot be printed:
//!
//! ```compile_fail
//! let identity = bulla_sealing::Identity::generate(bulla_sealing::KeyType::X25519).unwrap();
//! println!("{identity:?}");
//! ```
//! ```compile_fail
//! let identity = bulla_sealing::Identity::generate(bulla_sealing::KeyType::X25519).unwrap();
//! println!("{identity}");
//! ```
//! ```compile_fail
//! fn print(plaintext: bulla_sealing::Plaintext) { println!("{plaintext:?}"); }
//! ```
//! ```compile_fail
//! fn print(plaintext: bulla_sealing::Plaintext) { println!("{plaintext}"); }
//! ```
//! ```compile_fail
//! fn print(keyring: bulla_sealing::Keyring) { println!("{keyring:?}"); }
//! ```
//!
//! [age]: https://c2sp.org/age

mod address;
mod binding;
#[cfg(test)]
mod cctv;
mod digest;
mod error;
mod file_key;
mod fingerprint;
mod header;
mod hybrid;
mod key;
mod keyring;
mod names;
mod payload;
mod sealed_value;
mod x25519;

pub use address::{InvalidAddress, ValueAddress};
pub use binding::{Binding, Scope};
pub use digest::digest;
pub use error::{InvalidKey, NoRandomness, ParseError};
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use header::{MAX_HEADER_BYTES, MAX_STANZAS};
pub use key::{Identity, KeyType, Recipient, Recipients, RecipientsError};
pub use keyring::Keyring;
pub use names::{is_data_key, is_dns_label, is_dns_subdomain};
pub use payload::Plaintext;
pub use sealed_value::{RekeyError, SealedHeader, SealedValue, UnsealError, seal};
