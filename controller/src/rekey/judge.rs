//! Decides on the answer to a Rekey. Pure and synchronous, with neither a client nor a clock.
//!
//! Either all headers are made or none. The checks that need no key come first, for all headers, so that no private
//! key is used for a Rekey that is refused anyway. The binding of a header is checked before its recipients and keys.

use std::collections::{BTreeMap, BTreeSet};

use bulla_crds::conditions::Reason;
use bulla_crds::keys::{DeclaredKeys, NoSuccessor};
use bulla_crds::{RekeySpec, ValueError, decode_value, encode_value};
use bulla_sealing::{
    Fingerprint, InvalidAddress, NoRandomness, Recipient, Recipients, RecipientsError, RekeyError,
    SealedHeader, UnsealError, ValueAddress,
};

/// What is known about keys.
pub(super) struct KnownKeys<'a> {
    /// The keys that can be trusted.
    pub(super) declared: &'a DeclaredKeys,
    /// The keys that were revoked, even if a SealingKey was created again.
    pub(super) revoked: &'a BTreeSet<Fingerprint>,
}

/// Why a Rekey gets no headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RekeyRefusal {
    /// The data key whose header is at fault, if it is a single one.
    pub(super) key: Option<String>,
    pub(super) cause: RefusalCause,
}

/// Why a Rekey is refused. The text never quotes the input, except names in a binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RefusalCause {
    /// It is in the controller's own namespace.
    #[error(
        "the controller's own namespace has no SealedSecrets; create the Rekey in the namespace of its SealedSecret"
    )]
    Protected,
    /// It has no headers.
    #[error("no headers; give the header of each value")]
    Empty,
    /// A header is invalid, is bound to something else, or cannot be opened.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A header is followed by other bytes.
    #[error("other bytes follow the header; give the header alone, without the payload")]
    Trailing,
    /// A header is for keys of which one was revoked and none is held.
    #[error("sealed to {0}, which was revoked; seal the value again")]
    Revoked(Fingerprint),
    /// The Active key of a holder was revoked.
    #[error("the Active key {0} was revoked; a key admin must declare its holder's next key")]
    RevokedSuccessor(Fingerprint),
    /// The current keys of the holders cannot be sealed to.
    #[error("{}{}", .0, advice(.0))]
    NoSuccessor(NoSuccessor),
    /// The answer would be too large.
    #[error(
        "{count} headers and their answer are too large for the API server; ask for fewer values at once"
    )]
    TooLarge { count: usize },
    /// The operating system gave no randomness.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

fn advice(error: &NoSuccessor) -> &'static str {
    match error {
        NoSuccessor::UnknownFingerprint(_) => {
            "; a key admin runs: bulla keys activate -r RECIPIENT --holder HOLDER"
        }
        NoSuccessor::NoActiveKey(_) => "; a key admin must declare or activate one",
        NoSuccessor::SeveralActiveKeys(_) => "; a key admin must retire all but one",
        NoSuccessor::Recipients(_) => "",
    }
}

impl RekeyRefusal {
    fn of(key: &str, cause: impl Into<RefusalCause>) -> Self {
        Self { key: Some(key.into()), cause: cause.into() }
    }
}

/// A refusal without a single data key at fault.
impl From<RefusalCause> for RekeyRefusal {
    fn from(cause: RefusalCause) -> Self {
        Self { key: None, cause }
    }
}

impl RefusalCause {
    /// The reason for the conditions.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Protected => Reason::NamespaceRefused,
            Self::Empty | Self::Trailing => Reason::Invalid,
            Self::Value(error) => error.reason(),
            Self::Revoked(_) | Self::RevokedSuccessor(_) => Reason::RevokedKey,
            Self::NoSuccessor(error) => match error {
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

    /// Whether the refusal may be temporary. In the middle of a renewal no key is Active, and a key that was just
    /// declared or stored is known only after its watch has delivered it.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::NoSuccessor(error) => !matches!(error, NoSuccessor::Recipients(_)),
            Self::Value(ValueError::Unseal(UnsealError::NoIdentity { .. }))
            | Self::NoRandomness(_) => true,
            _ => false,
        }
    }
}

/// Returns the new headers by data key, in base64, for values of a SealedSecret in `namespace`. `rekey` makes a
/// header, as [`SealedHeader::rekey`] does.
pub(super) fn judge(
    namespace: &str,
    spec: &RekeySpec,
    keys: &KnownKeys<'_>,
    mut rekey: impl FnMut(&SealedHeader, &ValueAddress, &Recipients) -> Result<Vec<u8>, RekeyError>,
) -> Result<BTreeMap<String, String>, RekeyRefusal> {
    if spec.headers.is_empty() {
        return Err(RefusalCause::Empty.into());
    }
    let mut files = Vec::with_capacity(spec.headers.len());
    for (key, header) in &spec.headers {
        let file = decode_value(header).map_err(|error| RekeyRefusal::of(key, error))?;
        let address =
            ValueAddress::new(namespace, &spec.sealed_secret, key).map_err(
                |error| match error {
                    InvalidAddress::Key => RekeyRefusal::of(key, ValueError::from(error)),
                    InvalidAddress::Namespace | InvalidAddress::Name => {
                        RefusalCause::from(ValueError::from(error)).into()
                    }
                },
            )?;
        files.push((key, file, address));
    }
    let mut permitted = Vec::with_capacity(files.len());
    for (key, file, address) in &files {
        let header =
            permitted_header(file, address).map_err(|cause| RekeyRefusal::of(key, cause))?;
        permitted.push((*key, address, header));
    }
    let mut planned = Vec::with_capacity(permitted.len());
    for (key, address, header) in permitted {
        let recipients = successors(&header, keys).map_err(|cause| RekeyRefusal::of(key, cause))?;
        planned.push((key, address, header, recipients));
    }
    planned
        .into_iter()
        .map(|(key, address, header, recipients)| {
            let new = rekey(&header, address, &recipients).map_err(|error| match error {
                RekeyError::Unseal(error) => RekeyRefusal::of(key, unopened(error, keys.revoked)),
                RekeyError::NoRandomness(error) => RefusalCause::from(error).into(),
            })?;
            Ok((key.clone(), encode_value(&new)))
        })
        .collect()
}

/// Parses the header in `file`. Nothing may follow it, and its binding must permit `address`.
fn permitted_header(file: &[u8], address: &ValueAddress) -> Result<SealedHeader, RefusalCause> {
    let (header, rest) = SealedHeader::parse(file).map_err(ValueError::from)?;
    if !header.binding().permits(address) {
        let expected = address.clone().into();
        let found = header.binding().clone().into();
        return Err(ValueError::from(UnsealError::WrongBinding { expected, found }).into());
    }
    if rest.is_empty() { Ok(header) } else { Err(RefusalCause::Trailing) }
}

/// The recipients of the new header.
fn successors(header: &SealedHeader, keys: &KnownKeys<'_>) -> Result<Recipients, RefusalCause> {
    let recipients =
        keys.declared.successors(header.fingerprints()).map_err(RefusalCause::NoSuccessor)?;
    // A SealingKey that was deleted and created again no longer shows the revocation.
    let revoked = recipients
        .iter()
        .map(Recipient::fingerprint)
        .find(|fingerprint| keys.revoked.contains(fingerprint));
    match revoked {
        Some(fingerprint) => Err(RefusalCause::RevokedSuccessor(fingerprint)),
        None => Ok(recipients),
    }
}

fn unopened(error: UnsealError, revoked: &BTreeSet<Fingerprint>) -> RefusalCause {
    if let UnsealError::NoIdentity { fingerprints } = &error
        && let Some(fingerprint) = fingerprints.iter().find(|of| revoked.contains(of))
    {
        return RefusalCause::Revoked(*fingerprint);
    }
    ValueError::from(error).into()
}

#[cfg(test)]
mod tests {
    use bulla_crds::ParsedValue;
    use bulla_crds::State;
    use bulla_crds::keys::DeclaredKey;
    use bulla_sealing::{Binding, Identity, KeyType, Keyring, Scope, SealedValue, seal};
    use jiff::Timestamp;

    use super::*;

    const MARKER: &str = "MARKER-correct-horse-battery-staple";

    /// Some holders with their keys, and the identities that this controller holds.
    struct RekeyWorld {
        keys: BTreeMap<&'static str, Recipient>,
        /// Each identity by itself.
        alone: BTreeMap<&'static str, Keyring>,
        held: Keyring,
        declared: DeclaredKeys,
        revoked: BTreeSet<Fingerprint>,
    }

    const DECLARED: [(&str, &str, State); 13] = [
        ("old", "prod", State::Retired),
        ("new", "prod", State::Active),
        ("dr-old", "dr", State::Retired),
        ("dr-new", "dr", State::Active),
        ("recovery", "recovery", State::Active),
        ("cold", "cold", State::Retired),
        ("twin-1", "twin", State::Active),
        ("twin-2", "twin", State::Active),
        ("pq-old", "pq", State::Retired),
        ("pq-held", "pq", State::Retired),
        ("pq-new", "pq", State::Active),
        ("leaked", "prod", State::Revoked),
        ("back-again", "again", State::Active),
    ];

    impl RekeyWorld {
        fn new() -> Self {
            let mut world = Self {
                keys: BTreeMap::new(),
                alone: BTreeMap::new(),
                held: Keyring::new(),
                declared: DeclaredKeys::default(),
                revoked: BTreeSet::new(),
            };
            let mut declared = Vec::new();
            for (name, holder, state) in DECLARED {
                let type_ = if name == "pq-new" { KeyType::Hybrid } else { KeyType::X25519 };
                let recipient = world.key(name, type_);
                let (holder, created) = (holder.into(), Timestamp::UNIX_EPOCH);
                declared.push(DeclaredKey { recipient, holder, state, created });
            }
            world.declared = declared.into_iter().collect();
            world.key("stranger", KeyType::X25519);
            world.revoked =
                ["leaked", "back-again"].map(|name| world.keys[name].fingerprint()).into();
            world
        }

        fn key(&mut self, name: &'static str, type_: KeyType) -> Recipient {
            let identity = Identity::generate(type_).unwrap();
            let recipient = identity.recipient();
            if ["old", "new", "pq-held"].contains(&name) {
                self.held.insert(Identity::parse(&identity.to_secret_string()).unwrap());
            }
            self.alone.insert(name, Keyring::from_iter([identity]));
            self.keys.insert(name, recipient.clone());
            recipient
        }

        fn recipients(&self, names: &[&str]) -> Recipients {
            Recipients::new(names.iter().map(|name| self.keys[name].clone()).collect()).unwrap()
        }

        /// An age file for `place`, sealed to the keys in `to`.
        fn sealed(&self, scope: Scope, place: [&str; 3], to: &[&str]) -> Vec<u8> {
            let [namespace, name, key] = place;
            let address = ValueAddress::new(namespace, name, key).unwrap();
            let binding = Binding::new(scope, &address);
            seal(MARKER.as_bytes(), &binding, &self.recipients(to)).unwrap()
        }

        fn judge(&self, spec: &RekeySpec) -> Result<BTreeMap<String, String>, RekeyRefusal> {
            let keys = KnownKeys { declared: &self.declared, revoked: &self.revoked };
            judge("prod", spec, &keys, |header, address, recipients| {
                header.rekey(address, &self.held, recipients)
            })
        }
    }

    const HERE: [&str; 3] = ["prod", "db", "password"];

    /// The header alone.
    fn header(file: &[u8]) -> Vec<u8> {
        let payload = SealedValue::parse(file).unwrap().payload().len();
        file[..file.len() - payload].to_vec()
    }

    fn asked<'a>(headers: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> RekeySpec {
        let headers =
            headers.into_iter().map(|(key, header)| (key.into(), encode_value(&header))).collect();
        RekeySpec { sealed_secret: "db".into(), headers }
    }

    #[test]
    fn every_named_holder_gets_its_active_key_and_nobody_else_does() {
        let world = RekeyWorld::new();
        let cases: [(&[&str], &[&str]); 7] = [
            (&["old"], &["new"]),
            (&["new"], &["new"]),
            (&["old", "dr-old", "recovery"], &["new", "dr-new", "recovery"]),
            (&["recovery", "dr-new", "old"], &["recovery", "dr-new", "new"]),
            // Two keys of one holder: its Active key takes the place of the first.
            (&["dr-old", "old", "dr-new", "new"], &["dr-new", "new"]),
            // Sealed to a revoked key and to a held key.
            (&["leaked", "old"], &["new"]),
            (&["new", "leaked"], &["new"]),
        ];
        for (from, to) in cases {
            for scope in [Scope::Strict, Scope::Namespace, Scope::Cluster] {
                let file = world.sealed(scope, HERE, from);
                let answer = world.judge(&asked([("password", header(&file))])).unwrap();
                assert_eq!(answer.len(), 1, "{from:?}");
                let new = decode_value(&answer["password"]).unwrap();
                let recipients = world.recipients(to);
                let old = ParsedValue::parse(&encode_value(&file)).unwrap();
                let value = old.with_header(&new, &recipients).unwrap();
                let value = ParsedValue::parse(&value).unwrap();
                let address = ValueAddress::new(HERE[0], HERE[1], HERE[2]).unwrap();
                for (name, identity) in &world.alone {
                    let opened = value.unseal(&address, identity).ok();
                    let is_marker =
                        opened.map(|plaintext| plaintext.as_bytes() == MARKER.as_bytes());
                    assert_eq!(is_marker, to.contains(name).then_some(true), "{name}: {to:?}");
                }
            }
        }
    }

    #[test]
    fn the_key_type_may_change_for_all_holders_of_a_value_at_once() {
        let world = RekeyWorld::new();
        let file = world.sealed(Scope::Strict, HERE, &["pq-held"]);
        let answer = world.judge(&asked([("password", header(&file))])).unwrap();
        let new = decode_value(&answer["password"]).unwrap();
        let old = ParsedValue::parse(&encode_value(&file)).unwrap();
        old.with_header(&new, &world.recipients(&["pq-new"])).unwrap();
    }

    /// A name, the Rekey, the reason for its refusal, and a helpful part of the message.
    type RefusalCase = (&'static str, RekeySpec, Reason, String);

    fn refused_before_any_key(world: &RekeyWorld) -> Vec<RefusalCase> {
        let good = header(&world.sealed(Scope::Strict, HERE, &["old"]));
        let password = |header: Vec<u8>| asked([("password", header)]);
        let elsewhere = |scope, place| password(header(&world.sealed(scope, place, &["old"])));
        let to = |keys: &[&str]| password(header(&world.sealed(Scope::Strict, HERE, keys)));
        let whole = world.sealed(Scope::Strict, HERE, &["old"]);
        let name = |name: &str| world.keys[name].fingerprint().to_string();
        let mut cut = good.clone();
        cut.truncate(good.len() - 2);
        let foreign = b"age-encryption.org/v1\n-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\nEmECAEcKN+n/Vs9SbWiV+Hu0r+E8R77DdWYyd83nw7U\n--- Vn+54jqiiUCE+WZcEVY3f1sqHjlu/z1LCQ/T7Xm7qI0\n";
        let spec = |key: &str, text: &str| RekeySpec {
            sealed_secret: "db".into(),
            headers: [(key.to_owned(), text.to_owned())].into(),
        };
        let unnamed =
            RekeySpec { sealed_secret: "No Name".into(), ..asked([("password", good.clone())]) };
        vec![
            ("nothing", asked([]), Reason::Invalid, "no header".into()),
            ("plaintext", spec("password", MARKER), Reason::NotSealed, "not base64".into()),
            (
                "base64 of plaintext",
                password(MARKER.into()),
                Reason::NotSealed,
                "not an age file".into(),
            ),
            ("a foreign age file", password(foreign.to_vec()), Reason::NotSealed, "binding".into()),
            ("a header that is cut", password(cut), Reason::Malformed, "malformed".into()),
            ("a whole value", password(whole), Reason::Invalid, "the header alone".into()),
            (
                "more than a header",
                password([good.as_slice(), MARKER.as_bytes()].concat()),
                Reason::Invalid,
                "the header alone".into(),
            ),
            ("a name that is none", unnamed, Reason::Invalid, "the name is not".into()),
            (
                "a key that is none",
                spec("..", &encode_value(&good)),
                Reason::Invalid,
                "the key is not".into(),
            ),
            (
                "another namespace's",
                elsewhere(Scope::Strict, ["dev", "db", "password"]),
                Reason::WrongBinding,
                "sealed for key password of dev/db, not for key password of prod/db".into(),
            ),
            (
                "another namespace's, of its scope",
                elsewhere(Scope::Namespace, ["dev", "db", "password"]),
                Reason::WrongBinding,
                "dev".into(),
            ),
            (
                "another name's",
                elsewhere(Scope::Strict, ["prod", "other", "password"]),
                Reason::WrongBinding,
                "prod/other".into(),
            ),
            (
                "another key's, in the widest scope",
                elsewhere(Scope::Cluster, ["prod", "db", "user"]),
                Reason::WrongBinding,
                "key user".into(),
            ),
            ("a stranger's", to(&["stranger"]), Reason::UnknownKey, name("stranger")),
            ("a stranger's too", to(&["old", "stranger"]), Reason::UnknownKey, name("stranger")),
            ("without Active key", to(&["old", "cold"]), Reason::NoActiveKey, "holder cold".into()),
            (
                "with two Active keys",
                to(&["old", "twin-1"]),
                Reason::SeveralActiveKeys,
                "holder twin".into(),
            ),
            ("of two types", to(&["old", "pq-old"]), Reason::MixedTypes, name("pq-new")),
            (
                "whose Active key was revoked",
                to(&["old", "back-again"]),
                Reason::RevokedKey,
                name("back-again"),
            ),
        ]
    }

    #[test]
    fn checks_without_a_key_come_before_any_key_is_used() {
        let world = RekeyWorld::new();
        for (what, spec, reason, helps) in refused_before_any_key(&world) {
            // Alone, and beside a valid header, which must not be answered either.
            let good = header(&world.sealed(Scope::Strict, ["prod", "db", "a"], &["old"]));
            let mut both = spec.clone();
            both.headers.insert("a".into(), encode_value(&good));
            for spec in [Some(spec.clone()), (!spec.headers.is_empty()).then_some(both)] {
                let Some(spec) = spec else { continue };
                let keys = KnownKeys { declared: &world.declared, revoked: &world.revoked };
                let judged = judge("prod", &spec, &keys, |_, _, _| panic!("{what}: a key is used"));
                let refusal = judged.expect_err(what);
                let message = refusal.cause.to_string();
                assert_eq!(refusal.cause.reason(), reason, "{what}: {message}");
                let is_at_fault = |key: &&String| *key != "a" && what != "a name that is none";
                let refused_key = spec.headers.keys().find(is_at_fault);
                assert_eq!(refusal.key.as_ref(), refused_key, "{what}: {message}");
                assert!(message.contains(&helps), "{what}: {message}");
                let in_base64 = encode_value(MARKER.as_bytes());
                assert!(!message.contains(MARKER) && !message.contains(&in_base64), "{message}");
            }
        }
    }

    #[test]
    fn a_refusal_without_a_successor_says_what_to_do() {
        let fingerprint = Identity::generate(KeyType::X25519).unwrap().recipient().fingerprint();
        let cases = [
            (
                NoSuccessor::UnknownFingerprint(fingerprint),
                "; a key admin runs: bulla keys activate -r RECIPIENT --holder HOLDER",
            ),
            (NoSuccessor::NoActiveKey("eu".into()), "; a key admin must declare or activate one"),
            (NoSuccessor::SeveralActiveKeys("eu".into()), "; a key admin must retire all but one"),
            (NoSuccessor::Recipients(RecipientsError::None), ""),
        ];
        for (error, expected) in cases {
            let message = RefusalCause::NoSuccessor(error.clone()).to_string();
            assert_eq!(message, format!("{error}{expected}"));
        }
    }

    #[test]
    fn a_header_that_does_not_open_refuses_the_whole_rekey() {
        let world = RekeyWorld::new();
        let good = |key| (key, header(&world.sealed(Scope::Strict, ["prod", "db", key], &["old"])));
        let to = |keys: &[&str]| header(&world.sealed(Scope::Strict, HERE, keys));
        let changed = |at: fn(&[u8]) -> usize| {
            let mut header = to(&["old"]);
            let at = at(&header);
            header[at] = if header[at] == b'A' { b'B' } else { b'A' };
            header
        };
        let mac = changed(|header| header.len() - 10);
        let stanza = changed(|header| {
            let last = header.windows(4).rposition(|window| window == b"\n---").unwrap();
            last - 10
        });
        // The binding was changed to permit the address. Only the MAC shows it.
        let readdressed = {
            let file = world.sealed(Scope::Strict, ["dev", "db", "password"], &["old"]);
            let text = String::from_utf8(header(&file)).unwrap();
            text.replace(" dev db ", " prod db ").into_bytes()
        };
        let to_both = to(&["old", "dr-old"]);
        let widened = {
            let text = String::from_utf8(to(&["old"])).unwrap();
            text.replace("strict prod db", "namespace prod -").into_bytes()
        };
        let cases = [
            ("a changed MAC", mac, Reason::Damaged),
            ("a changed stanza", stanza, Reason::Damaged),
            ("a changed binding", readdressed, Reason::Damaged),
            ("a wider scope", widened, Reason::Damaged),
            ("for holders elsewhere", to(&["dr-old", "recovery"]), Reason::UnknownKey),
            ("for a revoked key", to(&["leaked", "recovery"]), Reason::RevokedKey),
        ];
        for (what, header, reason) in cases {
            let spec = asked([good("a"), ("password", header), good("z")]);
            let refusal = world.judge(&spec).expect_err(what);
            assert_eq!(refusal.cause.reason(), reason, "{what}: {}", refusal.cause);
            assert_eq!(refusal.key.as_deref(), Some("password"), "{what}: {}", refusal.cause);
        }
        let all = asked([good("a"), ("password", to_both), good("z")]);
        assert_eq!(world.judge(&all).unwrap().len(), 3);
    }

    #[test]
    fn only_refusals_that_a_watch_may_end_are_temporary() {
        let world = RekeyWorld::new();
        let judged = |keys: &[&str]| {
            let file = world.sealed(Scope::Strict, HERE, keys);
            world.judge(&asked([("password", header(&file))])).unwrap_err().cause.may_pass()
        };
        assert!(judged(&["stranger"]) && judged(&["cold"]) && judged(&["dr-old"]));
        assert!(!judged(&["leaked"]) && !judged(&["old", "pq-old"]));
        assert!(!world.judge(&asked([("password", MARKER.into())])).unwrap_err().cause.may_pass());
    }
}
