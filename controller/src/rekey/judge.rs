//! What a Rekey is answered. It is pure and synchronous, and knows neither client nor clock.
//!
//! All headers are made or none. What needs no key is judged first, for all of them, so that no private key works
//! on what is refused anyway; the binding comes before anything else that could be said of a header.

use std::collections::{BTreeMap, BTreeSet};

use bulla_crds::conditions::Reason;
use bulla_crds::keys::{DeclaredKeys, NoSuccessor, encode_value};
use bulla_crds::{RekeySpec, ValueError, decode_value};
use bulla_sealing::{
    Fingerprint, NoRandomness, Recipient, Recipients, RecipientsError, RekeyError, SealedHeader,
    Target, UnsealError,
};

/// What is known of keys.
pub(super) struct Keys<'a> {
    /// Those that can be trusted.
    pub(super) declared: &'a DeclaredKeys,
    /// Those that were revoked, whatever their SealingKeys say.
    pub(super) revoked: &'a BTreeSet<Fingerprint>,
}

/// Why a Rekey gets no headers. It never quotes what it was given, but for names in a binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It is in the controller's own namespace.
    #[error(
        "no value is for the controller's own namespace; create the Rekey where the SealedSecret is"
    )]
    Protected,
    /// It asks for nothing.
    #[error("no header is given; name each value's")]
    Empty,
    /// A header that is none, is for something else, or does not open.
    #[error("key {key}: {error}")]
    Value { key: String, error: ValueError },
    /// More than a header came.
    #[error("key {0}: more than a header came; give the header alone, without the payload")]
    Trailing(String),
    /// A header for keys of which one was revoked and none is held.
    #[error("key {key}: sealed to {fingerprint}, which was revoked; seal it again")]
    Revoked { key: String, fingerprint: Fingerprint },
    /// The key that a holder is sealed to today was revoked.
    #[error(
        "key {key}: the Active key {fingerprint} was revoked; have its holder's next key declared"
    )]
    RevokedSuccessor { key: String, fingerprint: Fingerprint },
    /// There are no keys to seal to instead.
    #[error("key {key}: {error}{}", advice(.error))]
    NoSuccessor { key: String, error: NoSuccessor },
    /// The answer would not fit.
    #[error(
        "{count} headers and their answer are more than the API server can store; ask for fewer values at once"
    )]
    TooLarge { count: usize },
    /// There is nothing to draw an ephemeral key from.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

fn advice(error: &NoSuccessor) -> &'static str {
    match error {
        NoSuccessor::UnknownFingerprint(_) => "; have it declared with its holder",
        NoSuccessor::NoActiveKey(_) => "; have one declared or activated",
        NoSuccessor::SeveralActiveKeys(_) => "; have all but one retired",
        NoSuccessor::Recipients(_) => "",
    }
}

impl Refusal {
    /// The reason for the conditions.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Protected => Reason::NamespaceRefused,
            Self::Empty | Self::Trailing(_) => Reason::Invalid,
            Self::Value { error, .. } => error.reason(),
            Self::Revoked { .. } | Self::RevokedSuccessor { .. } => Reason::RevokedKey,
            Self::NoSuccessor { error, .. } => match error {
                NoSuccessor::UnknownFingerprint(_) => Reason::UnknownKey,
                NoSuccessor::NoActiveKey(_) => Reason::NoActiveKey,
                NoSuccessor::SeveralActiveKeys(_) => Reason::SeveralActiveKeys,
                NoSuccessor::Recipients(RecipientsError::Mixed(..)) => Reason::MixedTypes,
                NoSuccessor::Recipients(RecipientsError::TooMany { .. }) => Reason::TooLarge,
                NoSuccessor::Recipients(RecipientsError::None | RecipientsError::Twice(_)) => {
                    Reason::Invalid
                }
            },
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::NoRandomness(_) => Reason::Unavailable,
        }
    }

    /// Whether a moment may change it: in the middle of a renewal no key is Active, and what has just been declared
    /// or stored is known only once its watch has told.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::NoSuccessor { error, .. } => !matches!(error, NoSuccessor::Recipients(_)),
            Self::Value { error: ValueError::Unseal(UnsealError::NoIdentity { .. }), .. }
            | Self::NoRandomness(_) => true,
            _ => false,
        }
    }
}

/// The new headers by data key, in base64, for values of a SealedSecret in `namespace`. `rekey` makes one of them,
/// as [`SealedHeader::rekey`] does.
pub(super) fn judge(
    namespace: &str,
    spec: &RekeySpec,
    keys: &Keys<'_>,
    mut rekey: impl FnMut(&SealedHeader<'_>, &Target, &Recipients) -> Result<Vec<u8>, RekeyError>,
) -> Result<BTreeMap<String, String>, Refusal> {
    if spec.headers.is_empty() {
        return Err(Refusal::Empty);
    }
    let mut files = Vec::with_capacity(spec.headers.len());
    for (key, header) in &spec.headers {
        let file = decode_value(header).map_err(of(key))?;
        let target = Target::new(namespace, &spec.sealed_secret, key)
            .map_err(|error| of(key)(error.into()))?;
        files.push((key, file, target));
    }
    let mut permitted = Vec::with_capacity(files.len());
    for (key, file, target) in &files {
        permitted.push((*key, target, permitted_header(key, file, target)?));
    }
    let mut planned = Vec::with_capacity(permitted.len());
    for (key, target, header) in permitted {
        let recipients = successors(key, &header, keys)?;
        planned.push((key, target, header, recipients));
    }
    planned
        .into_iter()
        .map(|(key, target, header, recipients)| {
            let new = rekey(&header, target, &recipients).map_err(|error| match error {
                RekeyError::Unseal(error) => unopened(key, error, keys.revoked),
                RekeyError::NoRandomness(error) => error.into(),
            })?;
            Ok((key.clone(), encode_value(&new)))
        })
        .collect()
}

/// The header in `file`, with nothing behind it, and for this target.
fn permitted_header<'a>(
    key: &str,
    file: &'a [u8],
    target: &Target,
) -> Result<SealedHeader<'a>, Refusal> {
    let (header, rest) = SealedHeader::parse(file).map_err(|error| of(key)(error.into()))?;
    if !header.binding().permits(target) {
        let expected = target.clone().into();
        let found = header.binding().clone().into();
        return Err(of(key)(UnsealError::WrongBinding { expected, found }.into()));
    }
    match rest.is_empty() {
        true => Ok(header),
        false => Err(Refusal::Trailing(key.into())),
    }
}

/// Whom the new header is for.
fn successors(
    key: &str,
    header: &SealedHeader<'_>,
    keys: &Keys<'_>,
) -> Result<Recipients, Refusal> {
    let recipients = keys
        .declared
        .successors(header.fingerprints())
        .map_err(|error| Refusal::NoSuccessor { key: key.into(), error })?;
    // A SealingKey that was deleted and created again says nothing of it.
    let revoked =
        recipients.iter().map(Recipient::fingerprint).find(|it| keys.revoked.contains(it));
    match revoked {
        Some(fingerprint) => Err(Refusal::RevokedSuccessor { key: key.into(), fingerprint }),
        None => Ok(recipients),
    }
}

fn unopened(key: &str, error: UnsealError, revoked: &BTreeSet<Fingerprint>) -> Refusal {
    if let UnsealError::NoIdentity { fingerprints } = &error
        && let Some(fingerprint) = fingerprints.iter().find(|it| revoked.contains(it))
    {
        return Refusal::Revoked { key: key.into(), fingerprint: *fingerprint };
    }
    of(key)(error.into())
}

fn of(key: &str) -> impl Fn(ValueError) -> Refusal {
    move |error| Refusal::Value { key: key.into(), error }
}
