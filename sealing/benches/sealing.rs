//! The cost of sealing and unsealing beside their floor: a bare loop of the primitives that they need, from
//! the same crates, on inputs that are already parsed. `cargo bench -p bulla-sealing [-- --json]`.
//!
//! Both sides run in turn, batch by batch, and only the fastest batch of each counts, because machines
//! are noisy. A floor really opens the value (the result is checked), so it cannot be too low by mistake.

use std::hint::black_box;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use bulla_sealing::{
    Binding, Identity, KeyType, Keyring, Plaintext, Recipients, Scope, SealedHeader, SealedValue,
    ValueAddress, seal,
};
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use ml_kem::kem::Decapsulate;
use ml_kem::ml_kem_768::{DecapsulationKey, EncapsulationKey};
use ml_kem::{FromSeed, MlKem768};
use sha2::Sha256;
use sha3::{Digest, Sha3_256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use x25519_dalek::{PublicKey, StaticSecret};

/// The size of age's chunks.
const CHUNK: usize = 64 * 1024;
const BATCHES: u32 = 500;
/// The length of a batch: shorter than a time slice, so that some batches are not interrupted on a busy machine.
const BATCH: Duration = Duration::from_millis(1);
const SIZES: [(&str, usize); 3] = [("32 B", 32), ("4 KiB", 4096), ("1 MiB", 1 << 20)];

fn main() -> io::Result<()> {
    let mut rows = Vec::new();
    for key_type in [KeyType::X25519, KeyType::Hybrid] {
        for (label, size) in SIZES {
            let bench = Bench::new(key_type, size);
            bench.check();
            let what = format!("unseal {label}");
            let target = (size == 32).then_some(1.1);
            let (unseal, floor) =
                (|| bench.unseal(&bench.keyring), || bench.floor.unseal(&bench.file));
            rows.push(compare(key_type, what, target, unseal, floor));
            let what = format!("seal {label}");
            let (seal, floor) =
                (|| bench.seal(), || bench.floor.seal(&bench.file, &bench.plaintext));
            rows.push(compare(key_type, what, None, seal, floor));
        }
        for count in [1, 3] {
            let bench = RekeyBench::new(key_type, count);
            bench.check();
            let what = format!("rekey to {count} recipient{}", if count == 1 { "" } else { "s" });
            let (rekey, floor) = (|| bench.rekey(), || bench.floor());
            rows.push(compare(key_type, what, None, rekey, floor));
        }
        let bench = Bench::new(key_type, 32);
        let many = bench.keyring_with(key_type, 59);
        let what = "unseal 32 B, 60 keys against 1".into();
        let (with_60, with_1) = (|| bench.unseal(&many), || bench.unseal(&bench.keyring));
        rows.push(compare(key_type, what, Some(1.05), with_60, with_1));
    }
    match std::env::args().any(|arg| arg == "--json") {
        true => write_json(&rows),
        false => write_table(&rows),
    }
}

/// One line of the table: the fastest batch of each side, per operation.
struct Row {
    key_type: KeyType,
    what: String,
    ours: f64,
    floor: f64,
    target: Option<f64>,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.ours / self.floor
    }

    fn is_met(&self) -> Option<bool> {
        self.target.map(|target| self.ratio() <= target)
    }
}

fn compare<A, B>(
    key_type: KeyType,
    what: String,
    target: Option<f64>,
    mut ours: impl FnMut() -> A,
    mut floor: impl FnMut() -> B,
) -> Row {
    let mut fastest = [f64::INFINITY; 2];
    black_box(floor());
    let start = Instant::now();
    black_box(floor());
    let runs = (BATCH.as_secs_f64() / start.elapsed().as_secs_f64()).ceil().max(1.0);
    for _ in 0..BATCHES {
        fastest[0] = fastest[0].min(batch(runs, &mut ours));
        fastest[1] = fastest[1].min(batch(runs, &mut floor));
    }
    Row { key_type, what, ours: fastest[0], floor: fastest[1], target }
}

/// The time of one run in microseconds.
fn batch<T>(runs: f64, run: &mut impl FnMut() -> T) -> f64 {
    let start = Instant::now();
    for _ in 0..runs as u32 {
        black_box(run());
    }
    start.elapsed().as_secs_f64() * 1e6 / runs
}

fn write_table(rows: &[Row]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:<8}{:<32}{:>10}{:>10}{:>8}  target", "type", "what", "us", "floor", "ratio")?;
    for row in rows {
        let Row { key_type, what, ours, floor, .. } = row;
        let ratio = row.ratio();
        write!(out, "{key_type:<8}{what:<32}{ours:>10.1}{floor:>10.1}{ratio:>8.3}")?;
        match (row.target, row.is_met()) {
            (Some(target), Some(true)) => writeln!(out, "  <= {target:.2} met")?,
            (Some(target), _) => writeln!(out, "  <= {target:.2} MISSED")?,
            (None, _) => writeln!(out)?,
        }
    }
    Ok(())
}

fn write_json(rows: &[Row]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for row in rows {
        let Row { key_type, what, ours, floor, .. } = row;
        let target = row.target.map_or("null".into(), |target| target.to_string());
        writeln!(
            out,
            r#"{{"type":"{key_type}","what":"{what}","us":{ours:.2},"floor_us":{floor:.2},"ratio":{:.4},"target":{target}}}"#,
            row.ratio()
        )?;
    }
    Ok(())
}

/// One value, sealed and ready to open.
struct Bench {
    identity: String,
    keyring: Keyring,
    recipients: Recipients,
    address: ValueAddress,
    binding: Binding,
    plaintext: Vec<u8>,
    file: Vec<u8>,
    floor: Floor,
}

impl Bench {
    fn new(key_type: KeyType, size: usize) -> Self {
        let address = ValueAddress::new("prod", "db", "password").expect("a valid address");
        let binding = Binding::new(Scope::Strict, &address);
        let identity = Identity::generate(key_type).expect("randomness");
        let recipients = Recipients::new(vec![identity.recipient()]).expect("one recipient");
        let plaintext: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        let file = seal(&plaintext, &binding, &recipients).expect("randomness");
        let text = identity.to_secret_string().to_string();
        let floor = Floor::new(key_type, &text, &file);
        let keyring = Keyring::from_iter([identity]);
        Self { identity: text, keyring, recipients, address, binding, plaintext, file, floor }
    }

    /// The same identity among `more` others.
    fn keyring_with(&self, key_type: KeyType, more: usize) -> Keyring {
        (0..more)
            .map(|_| Identity::generate(key_type).expect("randomness"))
            .chain([Identity::parse(&self.identity).expect("it was written")])
            .collect()
    }

    /// Checks that both sides do the same.
    fn check(&self) {
        assert!(self.unseal(&self.keyring).as_bytes() == self.plaintext);
        assert!(self.floor.unseal(&self.file) == self.plaintext);
        assert!(self.seal().len() == self.file.len());
        assert!(
            self.floor.seal(&self.file, &self.plaintext).len()
                == self.plaintext.len() + 16 * self.floor.chunks
        );
    }

    fn unseal(&self, keyring: &Keyring) -> Plaintext {
        let sealed_value = SealedValue::parse(&self.file).expect("a sealed value");
        sealed_value.unseal(&self.address, keyring).expect("it opens")
    }

    fn seal(&self) -> Vec<u8> {
        seal(&self.plaintext, &self.binding, &self.recipients).expect("randomness")
    }
}

/// A sealed value, and other recipients to seal it to instead.
struct RekeyBench {
    old: Bench,
    identities: Vec<String>,
    recipients: Recipients,
    floor_recipients: Vec<FloorRecipient>,
    /// A new header, of the same length for all of these recipients.
    header: Vec<u8>,
}

impl RekeyBench {
    fn new(key_type: KeyType, count: usize) -> Self {
        let old = Bench::new(key_type, 32);
        let identities: Vec<_> =
            (0..count).map(|_| Identity::generate(key_type).expect("randomness")).collect();
        let recipients = identities.iter().map(Identity::recipient).collect();
        let recipients = Recipients::new(recipients).expect("different recipients");
        let identities: Vec<_> =
            identities.iter().map(|identity| identity.to_secret_string().to_string()).collect();
        let floor_recipients =
            identities.iter().map(|identity| expand(key_type, identity).1).collect();
        let mut bench = Self { old, identities, recipients, floor_recipients, header: Vec::new() };
        bench.header = bench.rekey();
        bench
    }

    fn rekey(&self) -> Vec<u8> {
        let (header, _) = SealedHeader::parse(&self.old.file).expect("a sealed value");
        header.rekey(&self.old.address, &self.old.keyring, &self.recipients).expect("it opens")
    }

    fn floor(&self) -> [u8; 16] {
        self.old.floor.rekey(&self.old.file, &self.floor_recipients, &self.header)
    }

    /// Checks that the new header opens the old payload for each recipient, and that both sides found the same
    /// file key.
    fn check(&self) {
        let payload = &self.old.file[self.old.floor.payload_at..];
        let file = [&self.rekey()[..], payload].concat();
        let sealed_value = SealedValue::parse(&file).expect("a sealed value");
        for identity in &self.identities {
            let keyring = Keyring::from_iter([Identity::parse(identity).expect("it was written")]);
            let plaintext = sealed_value.unseal(&self.old.address, &keyring).expect("it opens");
            assert!(plaintext.as_bytes() == self.old.plaintext);
        }
        let key_type = self.recipients.iter().next().expect("a recipient").key_type();
        let first = Floor::new(key_type, &self.identities[0], &file);
        assert!(first.file_key(&file) == self.floor());
    }
}

/// A recipient in the form that the primitives take.
struct FloorRecipient {
    x25519: PublicKey,
    ml_kem: Option<EncapsulationKey>,
}

impl FloorRecipient {
    /// The work for its stanza; `random` has 64 bytes.
    fn wrap(&self, file_key: &[u8], random: &[u8]) -> [u8; 16] {
        let ephemeral = <[u8; 32]>::try_from(&random[..32]).expect("32 bytes");
        let ephemeral = StaticSecret::from(ephemeral);
        let share = PublicKey::from(&ephemeral);
        let dh = ephemeral.diffie_hellman(&self.x25519);
        let cipher = match &self.ml_kem {
            None => x25519_cipher(dh.as_bytes(), &share, &self.x25519),
            Some(recipient) => {
                let message = random[32..].try_into().expect("32 bytes");
                let (ciphertext, ml_kem) = recipient.encapsulate_deterministic(message);
                black_box(ciphertext);
                hybrid_cipher(&ml_kem, dh.as_bytes(), &share, &self.x25519)
            }
        };
        let mut body = <[u8; 16]>::try_from(file_key).expect("16 bytes");
        black_box(
            cipher
                .0
                .encrypt_inout_detached(&cipher.1.into(), b"", (&mut body[..]).into())
                .expect("it seals"),
        );
        body
    }
}

/// The primitives alone, on inputs that a reader or a writer would already have parsed.
struct Floor {
    x25519: StaticSecret,
    ml_kem: Option<DecapsulationKey>,
    recipient: FloorRecipient,
    share: PublicKey,
    ciphertext: Vec<u8>,
    body: [u8; 32],
    mac_input_len: usize,
    mac: [u8; 32],
    payload_at: usize,
    chunks: usize,
}

impl Floor {
    fn new(key_type: KeyType, identity: &str, file: &[u8]) -> Self {
        let sealed_value = SealedValue::parse(file).expect("a sealed value");
        let payload = sealed_value.payload();
        let payload_at = file.len() - payload.len();
        let lines: Vec<&str> =
            str::from_utf8(&file[..payload_at]).expect("ASCII").lines().collect();
        let decode = |text: &str| BASE64.decode(text).expect("base64");
        let mut ciphertext = decode(lines[3].rsplit(' ').next().expect("a share"));
        let share = ciphertext.split_off(ciphertext.len() - 32);
        let share = <[u8; 32]>::try_from(share).expect("32 bytes");
        let mac = lines.last().expect("a MAC");
        let ((x25519, ml_kem), recipient) = expand(key_type, identity);
        Self {
            x25519,
            ml_kem,
            recipient,
            share: share.into(),
            ciphertext,
            body: decode(lines[4]).try_into().expect("32 bytes"),
            mac_input_len: payload_at - mac.len() - 1 + "---".len(),
            mac: decode(&mac[4..]).try_into().expect("32 bytes"),
            payload_at,
            chunks: (payload.len() - 16).div_ceil(CHUNK + 16),
        }
    }

    /// The file key that opens the payload, after its stanza is opened and the MAC is checked.
    fn file_key(&self, file: &[u8]) -> [u8; 16] {
        let dh = self.x25519.diffie_hellman(&self.share);
        let cipher = match &self.ml_kem {
            None => x25519_cipher(dh.as_bytes(), &self.share, &self.recipient.x25519),
            Some(secret) => {
                let ciphertext = self.ciphertext[..].try_into().expect("1,088 bytes");
                let ml_kem = secret.decapsulate(ciphertext);
                hybrid_cipher(&ml_kem, dh.as_bytes(), &self.share, &self.recipient.x25519)
            }
        };
        let (key, tag) = self.body.split_at(16);
        let mut key = <[u8; 16]>::try_from(key).expect("16 bytes");
        let tag = <[u8; 16]>::try_from(tag).expect("16 bytes");
        cipher
            .0
            .decrypt_inout_detached(&cipher.1.into(), b"", (&mut key[..]).into(), &tag.into())
            .expect("it opens");
        header_mac(&key, &file[..self.mac_input_len]).verify_slice(&self.mac).expect("the MAC");
        key
    }

    fn unseal(&self, file: &[u8]) -> Vec<u8> {
        let key = self.file_key(file);
        let (nonce, sealed) = file[self.payload_at..].split_at(16);
        let cipher = ChaCha20Poly1305::new((&hkdf(nonce, &key, b"payload")).into());
        let mut plaintext = Vec::with_capacity(sealed.len());
        for (number, chunk) in sealed.chunks(CHUNK + 16).enumerate() {
            let (body, tag) = chunk.split_last_chunk::<16>().expect("a tag");
            let start = plaintext.len();
            plaintext.extend_from_slice(body);
            let nonce = chunk_nonce(number, number + 1 == self.chunks);
            let body = (&mut plaintext[start..]).into();
            cipher.decrypt_inout_detached(&nonce.into(), b"", body, tag.into()).expect("it opens");
        }
        plaintext
    }

    /// Seals the payload; the bytes written around it need no cryptography.
    fn seal(&self, file: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut random = [0; 96];
        getrandom::fill(&mut random).expect("randomness");
        let (file_key, nonce) = (&random[..16], &random[16..32]);
        black_box(self.recipient.wrap(file_key, &random[32..]));
        black_box(header_mac(file_key, &file[..self.mac_input_len]).finalize());
        let cipher = ChaCha20Poly1305::new((&hkdf(nonce, file_key, b"payload")).into());
        let mut sealed = Vec::with_capacity(plaintext.len() + 16 * self.chunks);
        for (number, chunk) in plaintext.chunks(CHUNK).enumerate() {
            let start = sealed.len();
            sealed.extend_from_slice(chunk);
            let nonce = chunk_nonce(number, number + 1 == self.chunks);
            let body = (&mut sealed[start..]).into();
            let tag = cipher.encrypt_inout_detached(&nonce.into(), b"", body).expect("it seals");
            sealed.extend_from_slice(&tag);
        }
        sealed
    }

    /// Wraps the file key of `file` again, and computes the MAC over `header`.
    fn rekey(&self, file: &[u8], recipients: &[FloorRecipient], header: &[u8]) -> [u8; 16] {
        let file_key = self.file_key(file);
        for recipient in recipients {
            let mut random = [0; 64];
            getrandom::fill(&mut random).expect("randomness");
            black_box(recipient.wrap(&file_key, &random));
        }
        let mac_len = "--- ".len() + 43 + "\n".len();
        let input = &header[..header.len() - mac_len + "---".len()];
        black_box(header_mac(&file_key, input).finalize());
        file_key
    }
}

/// The primitives' keys from an identity's text.
fn expand(
    key_type: KeyType,
    identity: &str,
) -> ((StaticSecret, Option<DecapsulationKey>), FloorRecipient) {
    let parsed = bech32::primitives::decode::CheckedHrpstring::new::<bech32::Bech32>(identity);
    let bytes: Vec<u8> = parsed.expect("an identity").byte_iter().collect();
    let bytes = <[u8; 32]>::try_from(bytes).expect("32 bytes");
    if key_type == KeyType::X25519 {
        let x25519 = StaticSecret::from(bytes);
        let recipient = FloorRecipient { x25519: (&x25519).into(), ml_kem: None };
        return ((x25519, None), recipient);
    }
    let mut hasher = Shake256::default();
    hasher.update(&bytes);
    let mut reader = hasher.finalize_xof();
    let (mut seed, mut scalar) = (ml_kem::Seed::default(), [0; 32]);
    reader.read(&mut seed);
    reader.read(&mut scalar);
    let (secret, recipient) = MlKem768::from_seed(&seed);
    let x25519 = StaticSecret::from(scalar);
    let recipient = FloorRecipient { x25519: (&x25519).into(), ml_kem: Some(recipient) };
    ((x25519, Some(secret)), recipient)
}

/// The cipher of an X25519 stanza, and its nonce.
fn x25519_cipher(
    dh: &[u8],
    share: &PublicKey,
    recipient: &PublicKey,
) -> (ChaCha20Poly1305, [u8; 12]) {
    let salt = [*share.as_bytes(), *recipient.as_bytes()].concat();
    let key = hkdf(&salt, dh, b"age-encryption.org/v1/X25519");
    (ChaCha20Poly1305::new((&key).into()), [0; 12])
}

/// The cipher of an mlkem768x25519 stanza, and its nonce: X-Wing's combiner, then HPKE's key schedule
/// (RFC 9180, section 5.1) without its exporter; the parts that are the same for all files are made once.
fn hybrid_cipher(
    ml_kem: &[u8],
    dh: &[u8],
    share: &PublicKey,
    recipient: &PublicKey,
) -> (ChaCha20Poly1305, [u8; 12]) {
    static CONTEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let info = b"age-encryption.org/mlkem768x25519";
        let [psk_id_hash, info_hash] =
            [("psk_id_hash", &b""[..]), ("info_hash", info)].map(|(label, input)| {
                Hkdf::<Sha256>::extract(None, &[SUITE, label.as_bytes(), input].concat()).0
            });
        [&[0][..], &psk_id_hash, &info_hash].concat()
    });
    let shared_secret = Sha3_256::new()
        .chain_update(ml_kem)
        .chain_update(dh)
        .chain_update(share.as_bytes())
        .chain_update(recipient.as_bytes())
        .chain_update(br"\.//^\")
        .finalize();
    let secret = Hkdf::<Sha256>::new(Some(&shared_secret), &[SUITE, b"secret"].concat());
    let (mut key, mut nonce) = ([0; 32], [0; 12]);
    secret.expand_multi_info(&[&[0, 32], SUITE, b"key", &CONTEXT], &mut key).expect("32 bytes");
    secret
        .expand_multi_info(&[&[0, 12], SUITE, b"base_nonce", &CONTEXT], &mut nonce)
        .expect("12 bytes");
    (ChaCha20Poly1305::new((&key).into()), nonce)
}

/// HPKE's version, then KEM 0x647a, KDF 1 and AEAD 3.
const SUITE: &[u8] = b"HPKE-v1HPKE\x64\x7a\0\x01\0\x03";

fn hkdf(salt: &[u8], input: &[u8], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), input).expand(info, &mut key).expect("32 bytes");
    key
}

fn header_mac(file_key: &[u8], header: &[u8]) -> Hmac<Sha256> {
    let hmac: Hmac<Sha256> =
        KeyInit::new_from_slice(&hkdf(&[], file_key, b"header")).expect("a key of any length");
    hmac.chain_update(header)
}

fn chunk_nonce(number: usize, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&(number as u64).to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce
}
