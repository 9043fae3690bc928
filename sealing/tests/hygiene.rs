//! After secrets are dropped, the heap holds no copy of them.
//!
//! This is a separate test program, because it reads its whole memory and no other test may run in it. Dead
//! stack frames are left out: the next calls overwrite them, and nothing is promised about them.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    let mut present = Vec::from(*b"the scan finds a known text");
    let mut hidden = memory::Hidden::default();
    hidden.add("a known text", &present);
    assert_eq!(hidden.left_in_heap(), Some("a known text"));
    zeroize::Zeroize::zeroize(&mut present);

    for key_type in [bulla_sealing::KeyType::X25519, bulla_sealing::KeyType::Hybrid] {
        let mut hidden = memory::Hidden::default();
        seal_and_unseal(key_type, &mut hidden);
        assert_eq!(hidden.left_in_heap(), None, "{key_type}");
    }
}

#[cfg(target_os = "linux")]
fn seal_and_unseal(key_type: bulla_sealing::KeyType, hidden: &mut memory::Hidden) {
    use bulla_sealing::{
        Binding, Identity, Keyring, Recipients, Scope, SealedValue, ValueAddress, seal,
    };
    use zeroize::Zeroizing;

    // Many identities, so that the keyring grows and moves its content.
    let mut keyring = Keyring::new();
    let mut recipients = Vec::new();
    for _ in 0..100 {
        let identity = Identity::generate(key_type).expect("randomness");
        recipients.push(identity.recipient());
        let text = identity.to_secret_string();
        hidden.add("the text of an identity", &text.as_bytes()[20..]);
        hidden.add("the bytes of an identity", &memory::bytes_of_identity(&text));
        keyring.insert(Identity::parse(&text).expect("an identity"));
    }
    recipients.truncate(20);
    let recipients = Recipients::new(recipients).expect("different recipients");

    let address = ValueAddress::new("prod", "db", "password").expect("a valid address");
    let binding = Binding::new(Scope::Strict, &address);
    for size in [32, 1024, 200_000] {
        let mut plaintext = Zeroizing::new(vec![0; size]);
        getrandom::fill(&mut plaintext).expect("randomness");
        hidden.add("the beginning of a plaintext", &plaintext[..16]);
        hidden.add("the end of a plaintext", &plaintext[size - 16..]);
        let file = seal(&plaintext, &binding, &recipients).expect("randomness");
        let sealed_value = SealedValue::parse(&file).expect("it parses");
        let opened = sealed_value.unseal(&address, &keyring).expect("it opens");
        assert!(opened.as_bytes() == &plaintext[..]);

        // The last chunk does not open, after the others opened.
        let mut damaged = file.clone();
        *damaged.last_mut().expect("a payload") ^= 1;
        let sealed_value = SealedValue::parse(&damaged).expect("it parses");
        assert!(sealed_value.unseal(&address, &keyring).is_err());
    }
}

#[cfg(target_os = "linux")]
mod memory {
    use std::collections::HashMap;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use bech32::Bech32;
    use bech32::primitives::decode::CheckedHrpstring;
    use zeroize::Zeroizing;

    const LEN: usize = size_of::<u128>();

    /// Bytes to search for, inverted so that the search does not find its own copy.
    #[derive(Default)]
    pub(crate) struct Hidden(HashMap<u128, &'static str>);

    impl Hidden {
        /// Searches for the first 16 of `bytes` too.
        pub(crate) fn add(&mut self, what: &'static str, bytes: &[u8]) {
            self.0.insert(inverted(bytes), what);
        }

        /// A secret that is still in memory, outside the stack and the program itself.
        pub(crate) fn left_in_heap(&self) -> Option<&'static str> {
            let memory = File::open("/proc/self/mem").expect("Linux");
            let mut copy = [0; 64 * 1024]; // on the stack, which is not searched
            for (mut start, end) in heap() {
                while start + LEN <= end {
                    let len = copy.len().min(end - start);
                    if memory.read_exact_at(&mut copy[..len], start as u64).is_err() {
                        break;
                    }
                    let mut windows = copy[..len].windows(LEN);
                    if let Some(what) = windows.find_map(|bytes| self.0.get(&inverted(bytes))) {
                        return Some(what);
                    }
                    start += len - LEN + 1;
                }
            }
            None
        }
    }

    fn inverted(bytes: &[u8]) -> u128 {
        !u128::from_ne_bytes(*bytes.first_chunk().expect("16 bytes"))
    }

    /// The private key that the text encodes.
    pub(crate) fn bytes_of_identity(text: &str) -> Zeroizing<Vec<u8>> {
        let parsed = CheckedHrpstring::new::<Bech32>(text).expect("an identity");
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        bytes.extend(parsed.byte_iter());
        bytes
    }

    /// Writable memory that belongs to no file and is not the stack.
    fn heap() -> Vec<(usize, usize)> {
        let address = |text| usize::from_str_radix(text, 16).expect("an address");
        fs::read_to_string("/proc/self/maps")
            .expect("Linux")
            .lines()
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let is_heap = words.get(5).is_none_or(|path| *path == "[heap]");
                let (start, end) = words[0].split_once('-')?;
                (words[1].starts_with("rw") && is_heap).then(|| (address(start), address(end)))
            })
            .collect()
    }
}
