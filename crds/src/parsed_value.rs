//! A sealed value from a manifest, decoded and parsed once.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Deref;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bulla_sealing::{
    Binding, Fingerprint, InvalidAddress, ParseError, Recipient, Recipients, SealedHeader,
    SealedValue, UnsealError,
};

use crate::conditions::Reason;
use crate::sealed_secret::SealedSecret;

/// Why one value does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It is not canonical base64.
    #[error("not base64, so not a sealed value")]
    NotBase64,
    /// The value is bound to a namespace, and the object names none.
    #[error("sealed for {0}, but the object has no namespace")]
    NoNamespace(Box<Binding>),
    /// The namespace, name or key of the object is not valid.
    #[error(transparent)]
    InvalidAddress(#[from] InvalidAddress),
    /// It is not a sealed value.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It is a sealed value that does not open here.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
}

impl ValueError {
    /// The reason for conditions and for `lint`.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotBase64 | Self::Parse(ParseError::NotAge | ParseError::NoBinding) => {
                Reason::NotSealed
            }
            Self::Parse(ParseError::Malformed { .. }) => Reason::Malformed,
            Self::NoNamespace(_) | Self::InvalidAddress(_) => Reason::Invalid,
            Self::Unseal(UnsealError::WrongBinding { .. }) => Reason::WrongBinding,
            Self::Unseal(UnsealError::NoIdentity { .. }) => Reason::UnknownKey,
            Self::Unseal(UnsealError::Damaged) => Reason::Damaged,
        }
    }
}

thread_local! {
    static DECODED: Cell<usize> = const { Cell::new(0) };
}

/// How many values this thread has decoded so far. Tests use it to check that commands decode each value once.
pub fn decoded_values() -> usize {
    DECODED.get()
}

/// Decodes an age file, or the header of one, from a manifest's value: padded standard base64 on one line.
pub fn decode_value(value: &str) -> Result<Vec<u8>, ValueError> {
    DECODED.set(DECODED.get() + 1);
    BASE64_STANDARD.decode(value).map_err(|_| ValueError::NotBase64)
}

/// Encodes an age file, or the header of one, for a manifest: padded standard base64 on one line.
pub fn encode_value(file: &[u8]) -> String {
    BASE64_STANDARD.encode(file)
}

/// A sealed value that was decoded and parsed once and can be read any number of times.
///
/// ```
/// use bulla_crds::{Address, ParsedValue};
/// use bulla_sealing::{Identity, KeyType, Keyring, Recipients, Scope};
///
/// let identity = Identity::generate(KeyType::X25519)?;
/// let recipients = Recipients::new(vec![identity.recipient()])?;
/// let address = Address { namespace: Some("prod"), name: "db" };
/// let text = address.seal("password", b"hunter2", Scope::Strict, &recipients)?;
///
/// let value = ParsedValue::parse(&text)?;
/// assert_eq!(value.binding().to_string(), "key password of prod/db");
/// assert_eq!(value.plaintext_len(), 7);
/// let keyring = Keyring::from_iter([identity]);
/// assert_eq!(address.unseal("password", &value, &keyring)?.as_bytes(), b"hunter2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ParsedValue(SealedValue<'static>);

impl ParsedValue {
    /// Decodes and parses the text of one value in `sealedData`.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        Ok(Self(SealedValue::parse(decode_value(text)?)?))
    }

    /// The text of this value with another header over the same payload. Without a key it is checked that the
    /// binding is the same and that the header is for exactly `recipients`. Only the MAC shows that a header is
    /// genuine, and checking it needs an identity: a value with a forged header does not open.
    pub fn with_header(
        &self,
        header: &[u8],
        recipients: &Recipients,
    ) -> Result<String, WrongHeader> {
        let (new, rest) = SealedHeader::parse(header).map_err(WrongHeader::Parse)?;
        if !rest.is_empty() {
            return Err(WrongHeader::Trailing);
        }
        if new.binding() != self.binding() {
            return Err(WrongHeader::Binding(new.binding().clone().into()));
        }
        if !new.fingerprints().eq(recipients.iter().map(Recipient::fingerprint)) {
            return Err(WrongHeader::Recipients);
        }
        Ok(encode_value(&[header, self.payload()].concat()))
    }
}

impl Deref for ParsedValue {
    type Target = SealedValue<'static>;

    fn deref(&self) -> &SealedValue<'static> {
        &self.0
    }
}

/// Why a new header does not fit a sealed value. All of this is found without a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongHeader {
    /// It is not the header of a sealed value.
    #[error("the new header is {0}")]
    Parse(ParseError),
    /// There is more than a header.
    #[error("unexpected bytes after the new header")]
    Trailing,
    /// It has another binding.
    #[error("the new header is for {0}")]
    Binding(Box<Binding>),
    /// It is not for exactly the expected recipients in the expected order.
    #[error("the new header is not for the expected recipients")]
    Recipients,
}

/// The values of one SealedSecret with their data keys, in the given order. Each is decoded and parsed once, or has
/// the error.
#[derive(Default)]
pub struct ParsedValues(Vec<(String, Result<ParsedValue, ValueError>)>);

impl ParsedValues {
    /// The values of `sealed_secret`.
    pub fn of(sealed_secret: &SealedSecret) -> Self {
        let values = &sealed_secret.spec.sealed_data;
        values.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect()
    }

    /// The value of this data key, if it exists.
    pub fn get(&self, key: &str) -> Option<&Result<ParsedValue, ValueError>> {
        self.0.iter().find(|(other, _)| other == key).map(|(_, value)| value)
    }

    /// All values with their data keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Result<ParsedValue, ValueError>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The keys that the values claim to be sealed to. Values that do not parse name none.
    pub fn fingerprints(&self) -> BTreeSet<Fingerprint> {
        let values = self.0.iter().filter_map(|(_, value)| value.as_ref().ok());
        values.flat_map(|value| value.fingerprints()).collect()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for ParsedValues {
    /// Parses the texts of values, each with its data key.
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(values: I) -> Self {
        let values = values.into_iter();
        Self(values.map(|(key, text)| (key.to_owned(), ParsedValue::parse(text))).collect())
    }
}

#[cfg(test)]
mod tests {
    use bulla_sealing::{Identity, KeyType, Keyring, Scope, ValueAddress, seal};

    use super::*;

    #[test]
    fn base64_is_read_in_its_canonical_form_only() {
        // 22 bytes, so that the last letter has unused bits.
        let canonical = encode_value(b"age-encryption.org/v1\n");
        assert_eq!(canonical, "YWdlLWVuY3J5cHRpb24ub3JnL3YxCg==");
        assert!(decode_value(&canonical).is_ok());
        let letters = canonical.trim_end_matches('=');
        for other in [
            letters.to_owned(),
            format!("{letters}="),
            format!("{letters}==="),
            canonical.replace("g==", "h=="),
            format!("{canonical}\n"),
            format!(" {canonical}"),
            format!("{}\n{}", &canonical[..16], &canonical[16..]),
            format!("{}\r\n{}", &canonical[..16], &canonical[16..]),
        ] {
            assert_eq!(decode_value(&other), Err(ValueError::NotBase64), "{other:?}");
        }
        assert_eq!(decode_value("-_-_"), Err(ValueError::NotBase64));
    }

    #[test]
    fn a_new_header_is_accepted_only_for_the_same_binding_and_the_expected_recipients() {
        let [old, new] = [(); 2].map(|()| Identity::generate(KeyType::X25519).unwrap());
        let [to_old, to_new] =
            [&old, &new].map(|identity| Recipients::new(vec![identity.recipient()]).unwrap());
        let [address, elsewhere] = ["prod", "dev"]
            .map(|namespace| ValueAddress::new(namespace, "db", "password").unwrap());
        let sealed = |address| seal(b"1", &Binding::new(Scope::Strict, address), &to_old).unwrap();
        let (file, other) = (sealed(&address), sealed(&elsewhere));
        let keyring = Keyring::from_iter([old]);
        let rekeyed = |file: &[u8], address| {
            SealedHeader::parse(file).unwrap().0.rekey(address, &keyring, &to_new).unwrap()
        };
        let value = ParsedValue::parse(&encode_value(&file)).unwrap();
        let header = rekeyed(&file, &address);
        let written = ParsedValue::parse(&value.with_header(&header, &to_new).unwrap()).unwrap();
        let opened = written.unseal(&address, &Keyring::from_iter([new])).unwrap();
        assert_eq!(opened.as_bytes(), b"1");
        assert_eq!(value.with_header(&header, &to_old), Err(WrongHeader::Recipients));
        assert_eq!(value.with_header(written.as_bytes(), &to_new), Err(WrongHeader::Trailing));
        let error = value.with_header(&rekeyed(&other, &elsewhere), &to_new);
        assert!(matches!(error, Err(WrongHeader::Binding(_))));
    }
}
