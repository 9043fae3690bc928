//! Identity files: as `age-keygen` writes them, encrypted with a passphrase, or sealed to another identity.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor};
use anyhow::{Result, anyhow};
use bulla_crds::keys::{self, OpenBackupError};
use bulla_sealing::{Fingerprint, Identity, KeyType, Keyring, ParseError};
use clap::Args;
use zeroize::Zeroizing;

use crate::files::input::{self, Input};
use crate::report::failure::{Failure, OrHint};
use crate::report::terminal::PassphraseFlags;
use crate::report::{escape, output};

const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

const AGE: &[u8] = b"age-encryption.org/";

/// Enough for hundreds of identities. The `age` crate's parser of headers takes quadratic time.
const MAX_ENCRYPTED_BYTES: usize = 64 * 1024;

/// The work that opening a passphrase file takes, as in age: 2^18, about a second.
const WORK_FACTOR: u8 = 18;

/// The work that a passphrase file may demand, as in age: 2^22, which takes seconds and 4 GiB.
const MAX_WORK_FACTOR: u8 = 22;

const DAMAGED: &str = "damaged: it was changed after it was encrypted";

const WRONG_PASSPHRASE: &str = "the passphrase is wrong";

/// What to do about a file that none of the identities opens.
const GIVE_ANOTHER: &str = "pass the identity that opens it with another -i";

/// The identities that a command opens with. Not required here: some commands work without one.
#[derive(Args)]
#[command(next_help_heading = "Identities")]
pub(crate) struct IdentityFlags {
    /// Use the identities (private keys) in FILE, - for stdin; repeatable. FILE may be encrypted with a passphrase,
    /// or be a backup that another identity opens
    #[arg(short, long = "identity", value_name = "FILE")]
    pub(crate) identities: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseFlags,
}

impl IdentityFlags {
    /// Reads all of them into a keyring.
    pub(crate) fn read(&self) -> Result<Keyring, Failure> {
        Ok(self.hold()?.keyring)
    }

    /// The same for a command that needs one.
    pub(crate) fn read_some(&self) -> Result<Keyring, Failure> {
        if self.identities.is_empty() {
            Err(anyhow!("no identity given")).or_hint("pass its file with -i")
        } else {
            self.read()
        }
    }

    /// Reads all of them, to open further files with them.
    pub(crate) fn hold(&self) -> Result<Held, Failure> {
        let mut held = Held::default();
        let mut closed = Vec::new();
        for path in &self.identities {
            match File::read(path, &self.passphrase)? {
                File::Open(identities) => held.extend(identities),
                File::Closed(file) => closed.push(file),
            }
        }
        // Some may be opened by others, in whatever order.
        while !closed.is_empty() {
            let count = closed.len();
            let mut still_closed = Vec::new();
            for file in closed {
                match held.open(&file)? {
                    Some(identities) => held.extend(identities),
                    None => still_closed.push(file),
                }
            }
            closed = still_closed;
            if let Some(file) = closed.first().filter(|_| closed.len() == count) {
                return Err(file.refusal()).or_hint(GIVE_ANOTHER);
            }
        }
        Ok(held)
    }
}

/// Identities, in the forms that the two readers of encrypted files need.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) keyring: Keyring,
    for_age: Vec<age::x25519::Identity>,
}

impl Held {
    /// Reads the identities of one file, which these may open.
    pub(crate) fn read_file(
        &self,
        path: &Path,
        passphrases: &PassphraseFlags,
    ) -> Result<Vec<Identity>, Failure> {
        match File::read(path, passphrases)? {
            File::Open(identities) => Ok(identities),
            File::Closed(file) => {
                self.open(&file)?.ok_or_else(|| file.refusal()).or_hint(GIVE_ANOTHER)
            }
        }
    }

    fn extend(&mut self, identities: Vec<Identity>) {
        for identity in identities {
            if identity.recipient().key_type() == KeyType::X25519 {
                self.for_age.extend(identity.to_secret_string().parse::<age::x25519::Identity>());
            }
            self.keyring.insert(identity);
        }
    }

    /// The identities in the file, or `None` when none of these is for it.
    fn open(&self, file: &Closed) -> Result<Option<Vec<Identity>>> {
        let name = &file.name;
        match &file.to {
            To::Sealed(_) => match keys::open_backup(&file.bytes, &self.keyring) {
                Ok(identity) => Ok(Some(vec![identity])),
                Err(OpenBackupError::Unseal(bulla_sealing::UnsealError::NoIdentity { .. })) => {
                    Ok(None)
                }
                Err(error) => Err(anyhow!("{name}: {error}")),
            },
            To::Others => {
                let decryptor = decryptor(name, &file.bytes)?;
                let identities = self.for_age.iter().map(|identity| identity as &dyn age::Identity);
                match decryptor.decrypt(identities) {
                    Ok(plaintext) => decrypted(name, plaintext, file.bytes.len()).map(Some),
                    Err(DecryptError::NoMatchingKeys) => Ok(None),
                    Err(error) => Err(anyhow!("{name}: {}", trouble_with(&error, DAMAGED))),
                }
            }
        }
    }
}

/// An identity file, opened as far as that needs no other identity.
enum File {
    Open(Vec<Identity>),
    Closed(Closed),
}

/// An age file, binary, that other identities may open.
struct Closed {
    name: String,
    bytes: Zeroizing<Vec<u8>>,
    to: To,
}

enum To {
    /// A backup, sealed to these.
    Sealed(Vec<Fingerprint>),
    /// An age file does not name its recipients.
    Others,
}

impl Closed {
    fn refusal(&self) -> anyhow::Error {
        match &self.to {
            To::Sealed(to) => {
                let (name, to) = (&self.name, output::list(to));
                anyhow!("{name}: sealed to {to}, but none of these identities was passed")
            }
            To::Others => anyhow!(
                "{}: encrypted to a key that was not passed, or that is not of type x25519",
                self.name
            ),
        }
    }
}

impl File {
    fn read(path: &Path, passphrases: &PassphraseFlags) -> Result<Self, Failure> {
        if escape::holds_identity(&path.to_string_lossy()) {
            return Err(Failure::identity_in_arguments());
        }
        let Input { name, bytes } = input::read(path)?;
        let Some(bytes) = age_file(&name, &bytes)? else {
            return Ok(Self::Open(parse(&name, &bytes)?));
        };
        match keys::read_backup(&bytes) {
            Ok(backup) => {
                return Ok(Self::Closed(Closed { name, bytes, to: To::Sealed(backup.recovery) }));
            }
            // Not a backup, so another kind of age file.
            Err(OpenBackupError::Parse(ParseError::NoBinding | ParseError::NotAge)) => {}
            Err(error) => return Err(anyhow!("{name}: {error}").into()),
        }
        if bytes.len() > MAX_ENCRYPTED_BYTES {
            return Err(anyhow!("{name}: larger than 64 KiB, so not an identity file").into());
        }
        if !decryptor(&name, &bytes)?.is_scrypt() {
            return Ok(Self::Closed(Closed { name, bytes, to: To::Others }));
        }
        Ok(Self::Open(unprotect(&name, &bytes, passphrases.of(&name)?)?))
    }
}

/// An identity as an armored age file that a passphrase opens, as `age -p -a` writes it.
pub(crate) fn protect(identity: &Identity, passphrase: &SecretString) -> Result<Vec<u8>> {
    let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
    recipient.set_work_factor(WORK_FACTOR);
    let recipients = [&recipient as &dyn age::Recipient];
    let encryptor = Encryptor::with_recipients(recipients.into_iter())
        .map_err(|_| anyhow!("cannot encrypt to a passphrase"))?;
    let mut file = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
    let mut writer = encryptor.wrap_output(&mut file)?;
    writer.write_all(keys::identity_file(identity).as_bytes())?;
    writer.finish()?;
    Ok(file.finish()?)
}

/// The identities in an age file that a passphrase opens.
pub(crate) fn unprotect(
    name: &str,
    file: &[u8],
    passphrase: SecretString,
) -> Result<Vec<Identity>, Failure> {
    let decryptor = decryptor(name, file)?;
    let mut identity = age::scrypt::Identity::new(passphrase);
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    match decryptor.decrypt([&identity as &dyn age::Identity].into_iter()) {
        Ok(plaintext) => Ok(decrypted(name, plaintext, file.len())?),
        Err(error) => {
            Err(Failure::no(anyhow!("{name}: {}", trouble_with(&error, WRONG_PASSPHRASE))))
        }
    }
}

/// An age file as text that any implementation of age reads.
pub(crate) fn armor(file: &[u8]) -> Result<Vec<u8>> {
    let mut armored = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
    armored.write_all(file)?;
    Ok(armored.finish()?)
}

/// The age file in its binary form, if it is one.
pub(crate) fn age_file(name: &str, bytes: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>> {
    if bytes.starts_with(AGE) {
        return Ok(Some(Zeroizing::new(bytes.to_vec())));
    }
    if !bytes.trim_ascii_start().starts_with(ARMOR) {
        return Ok(None);
    }
    let binary = input::read_wiped(ArmoredReader::new(bytes), bytes.len());
    binary.map(Some).map_err(|_| anyhow!("{name}: its armor is damaged"))
}

fn decryptor<'a>(name: &str, file: &'a [u8]) -> Result<Decryptor<&'a [u8]>> {
    Decryptor::new_buffered(file)
        .map_err(|error| anyhow!("{name}: {}", trouble_with(&error, DAMAGED)))
}

fn decrypted(name: &str, plaintext: impl Read, length: usize) -> Result<Vec<Identity>> {
    let plaintext = input::read_wiped(plaintext, length)
        .map_err(|_| anyhow!("{name}: damaged: it was cut or changed"))?;
    parse(name, &plaintext)
}

fn parse(name: &str, file: &[u8]) -> Result<Vec<Identity>> {
    keys::parse_identity_file(file).map_err(|error| anyhow!("{name}: {error}"))
}

/// Fixed phrases: the library's texts are for its own program.
fn trouble_with(error: &DecryptError, otherwise: &'static str) -> &'static str {
    match error {
        DecryptError::ExcessiveWork { .. } => "it demands more work than a passphrase needs",
        DecryptError::InvalidHeader | DecryptError::UnknownFormat => {
            "not an age file of a known version"
        }
        DecryptError::InvalidMac => DAMAGED,
        _ => otherwise,
    }
}
