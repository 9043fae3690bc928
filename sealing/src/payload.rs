//! The payload: a 16-byte nonce, then STREAM of ChaCha20-Poly1305 (C2SP `age.md`, "Payload").

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};

use crate::error::{Damaged, NoRandomness};
use crate::file_key::{FileKey, fill_random};

const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const CHUNK_BYTES: usize = 64 * 1024;

/// The value that was sealed. It is wiped when dropped and cannot be printed.
pub struct Plaintext(Vec<u8>);

impl Plaintext {
    /// The bytes of the value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        // Not `zeroize`: it writes byte by byte and takes a third of the time to open a mebibyte.
        self.0.fill(0);
        zeroize::optimization_barrier(&self.0[..]);
    }
}

/// The length of the payload of `plaintext_len` bytes of plaintext.
pub(crate) fn len(plaintext_len: usize) -> usize {
    let chunks = plaintext_len.div_ceil(CHUNK_BYTES).max(1);
    NONCE_BYTES + plaintext_len + chunks * TAG_BYTES
}

/// The length of the plaintext in `payload`, or `None` when no plaintext has a payload of that length.
pub(crate) fn plaintext_len(payload: &[u8]) -> Option<usize> {
    let sealed = payload.len().checked_sub(NONCE_BYTES)?;
    let chunks = sealed.div_ceil(CHUNK_BYTES + TAG_BYTES).max(1);
    let plaintext_len = sealed.checked_sub(chunks * TAG_BYTES)?;
    (len(plaintext_len) == payload.len()).then_some(plaintext_len)
}

/// Appends the payload of `plaintext` to `out`.
pub(crate) fn seal(
    out: &mut Vec<u8>,
    file_key: &FileKey,
    plaintext: &[u8],
) -> Result<(), NoRandomness> {
    let mut nonce = [0; NONCE_BYTES];
    fill_random(&mut nonce)?;
    // Reserves everything at once, so that no reallocation leaves a copy of a chunk that is still plaintext.
    out.reserve_exact(len(plaintext.len()));
    out.extend_from_slice(&nonce);
    let cipher = cipher(file_key, &nonce);
    let chunks = plaintext.len().div_ceil(CHUNK_BYTES).max(1);
    for number in 0..chunks {
        let chunk =
            &plaintext[number * CHUNK_BYTES..plaintext.len().min((number + 1) * CHUNK_BYTES)];
        let start = out.len();
        out.extend_from_slice(chunk);
        let nonce = chunk_nonce(number, number + 1 == chunks);
        #[expect(
            clippy::expect_used,
            reason = "RFC 8439 limits a message to 256 GiB; a chunk has 64 KiB"
        )]
        let tag = cipher
            .encrypt_inout_detached(&nonce.into(), b"", (&mut out[start..]).into())
            .expect("a chunk is within the cipher's limits");
        out.extend_from_slice(&tag);
    }
    Ok(())
}

/// Opens a payload as a whole: nothing is released before all of it is authenticated.
pub(crate) fn open(payload: &[u8], file_key: &FileKey) -> Result<Plaintext, Damaged> {
    let plaintext_len = plaintext_len(payload).ok_or(Damaged)?;
    let (nonce, sealed) = payload.split_at(NONCE_BYTES);
    let cipher = cipher(file_key, nonce);
    // Reserves the full capacity at once: a reallocation would leave a copy behind.
    let mut plaintext = Plaintext(Vec::with_capacity(plaintext_len));
    let mut chunks = sealed.chunks(CHUNK_BYTES + TAG_BYTES).enumerate().peekable();
    while let Some((number, chunk)) = chunks.next() {
        let (body, tag) = chunk.split_last_chunk::<TAG_BYTES>().ok_or(Damaged)?;
        let nonce = chunk_nonce(number, chunks.peek().is_none());
        let start = plaintext.0.len();
        plaintext.0.extend_from_slice(body);
        cipher
            .decrypt_inout_detached(
                &nonce.into(),
                b"",
                (&mut plaintext.0[start..]).into(),
                tag.into(),
            )
            .map_err(|_| Damaged)?;
    }
    Ok(plaintext)
}

fn cipher(file_key: &FileKey, nonce: &[u8]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new((&*file_key.payload_key(nonce)).into())
}

/// "An 11 bytes big endian counter and 1 byte that is 0x01 for the final chunk."
fn chunk_nonce(number: usize, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&(number as u64).to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce
}
