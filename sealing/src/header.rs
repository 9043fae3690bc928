//! The age header: a version line, stanzas, and a MAC (C2SP `age.md`, "Header").
//!
//! Reading is strict and bounded, and takes one linear pass. This file knows only the grammar of
//! stanzas; the files of the recipient types and `binding.rs` know what they mean.

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;

use crate::error::ParseError;

/// The longest header that is accepted, in bytes: room for 40 post-quantum recipients.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// The most stanzas that are accepted in one header, including the binding.
pub const MAX_STANZAS: usize = 64;

/// "Version line".
const VERSION_LINE: &[u8] = b"age-encryption.org/v1\n";

/// "The body is wrapped at 64 columns."
const COLUMNS: usize = 64;

/// One stanza: a tag, arguments and a body.
pub(crate) struct Stanza<'a> {
    pub(crate) tag: &'a str,
    pub(crate) args: Vec<&'a str>,
    pub(crate) body: Vec<u8>,
    /// The offset of the stanza in the file, for errors.
    pub(crate) at: usize,
}

impl Stanza<'_> {
    pub(crate) fn malformed(&self, what: &'static str) -> ParseError {
        ParseError::Malformed { at: self.at, what }
    }
}

/// A header as it was read. Nothing in it is verified until its MAC is.
pub(crate) struct Header<'a> {
    pub(crate) stanzas: Vec<Stanza<'a>>,
    pub(crate) mac: [u8; 32],
    /// What the MAC covers: up to and including `---`.
    pub(crate) mac_input: &'a [u8],
}

impl<'a> Header<'a> {
    /// Splits `file` into its header and its payload, which is the rest.
    pub(crate) fn parse(file: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        if !file.starts_with(VERSION_LINE) {
            return Err(ParseError::NotAge);
        }
        let mut lines = HeaderLines { file, at: VERSION_LINE.len() };
        let mut stanzas = Vec::new();
        loop {
            let at = lines.at;
            let line = lines.next(MAX_HEADER_BYTES)?;
            if let Some(mac) = line.strip_prefix(b"--- ") {
                let mac = decode_exact(mac).ok_or(ParseError::Malformed {
                    at,
                    what: "the header MAC is not 32 bytes of base64",
                })?;
                let header = Self { stanzas, mac, mac_input: &file[..at + 3] };
                return Ok((header, &file[lines.at..]));
            }
            if stanzas.len() == MAX_STANZAS {
                return Err(ParseError::Malformed { at, what: "more than 64 stanzas" });
            }
            stanzas.push(lines.stanza(line, at)?);
        }
    }
}

/// The lines of a header, none of which ends after `MAX_HEADER_BYTES`.
struct HeaderLines<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> HeaderLines<'a> {
    fn next(&mut self, max_bytes: usize) -> Result<&'a [u8], ParseError> {
        let end = self
            .file
            .len()
            .min(MAX_HEADER_BYTES)
            .min(self.at.saturating_add(max_bytes).saturating_add(1));
        let window = &self.file[self.at.min(end)..end];
        let Some(length) = window.iter().position(|&byte| byte == b'\n') else {
            let what = match (end == self.file.len(), end == MAX_HEADER_BYTES) {
                (true, _) => "the header is cut short",
                (_, true) => "the header is longer than 64 KiB",
                _ => "a line of a stanza body is longer than 64 columns",
            };
            return Err(ParseError::Malformed { at: self.at, what });
        };
        self.at += length + 1;
        Ok(&window[..length])
    }

    fn stanza(&mut self, line: &'a [u8], at: usize) -> Result<Stanza<'a>, ParseError> {
        let malformed = |what| ParseError::Malformed { at, what };
        let words =
            line.strip_prefix(b"-> ").ok_or(malformed("expected a stanza or the header MAC"))?;
        let words = str::from_utf8(words).map_err(|_| malformed("an argument is not ASCII"))?;
        let is_argument =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
        if !words.split(' ').all(is_argument) {
            return Err(malformed("an argument of a stanza is empty or not printable ASCII"));
        }
        let mut words = words.split(' ');
        let tag = words.next().ok_or(malformed("a stanza without a tag"))?;
        let args = words.collect();

        let mut encoded = Vec::with_capacity(COLUMNS);
        loop {
            let line = self.next(COLUMNS)?;
            encoded.extend_from_slice(line);
            if line.len() < COLUMNS {
                break;
            }
        }
        let body = BASE64
            .decode(&encoded)
            .map_err(|_| malformed("the body of a stanza is not canonical base64"))?;
        Ok(Stanza { tag, args, body, at })
    }
}

/// Canonical unpadded base64 of exactly `N` bytes.
pub(crate) fn decode_exact<const N: usize>(encoded: impl AsRef<[u8]>) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    (BASE64.decode_slice(encoded, &mut bytes) == Ok(N)).then_some(bytes)
}

/// Unpadded base64.
pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Begins a header.
pub(crate) fn write_version(out: &mut Vec<u8>) {
    out.extend_from_slice(VERSION_LINE);
}

/// Appends a stanza.
pub(crate) fn write_stanza(out: &mut Vec<u8>, tag: &str, args: &[&str], body: &[u8]) {
    out.extend_from_slice(b"-> ");
    out.extend_from_slice(tag.as_bytes());
    for arg in args {
        out.push(b' ');
        out.extend_from_slice(arg.as_bytes());
    }
    out.push(b'\n');
    let body = encode(body);
    let full_lines = body.len() / COLUMNS * COLUMNS;
    for line in body.as_bytes()[..full_lines].chunks(COLUMNS) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    // "The last line is shorter than 64 columns"; it is empty when no bytes remain.
    out.extend_from_slice(&body.as_bytes()[full_lines..]);
    out.push(b'\n');
}

/// Ends a header with the MAC that `mac_of` computes over everything up to and including `---`.
pub(crate) fn write_mac(out: &mut Vec<u8>, mac_of: impl FnOnce(&[u8]) -> [u8; 32]) {
    out.extend_from_slice(b"---");
    let mac = mac_of(out);
    out.push(b' ');
    out.extend_from_slice(encode(&mac).as_bytes());
    out.push(b'\n');
}
