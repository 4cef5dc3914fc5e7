//! Checkpoints: a size and root of the audit tree, as C2SP signed notes that other tools can read.
//!
//! ```text
//! ORIGIN
//! SIZE
//! ROOT in base64
//!
//! — NAME base64(key id, Ed25519 signature of the lines above the empty one)
//! ```

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use sha2::{Digest, Sha256};

use super::merkle::Hash;

/// The longest note that is read, in bytes.
const MAX_NOTE_BYTES: usize = 16 * 1024;
/// Signatures that are looked at: a witness may have added its own.
const MAX_SIGNATURES: usize = 16;
/// Ed25519 among the algorithms of signed notes.
const ED25519: u8 = 1;
const MARK: &str = "\u{2014} ";

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCheckpoint {
    /// Which log.
    pub origin: String,
    /// Its number of records.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a checkpoint or a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is no signed note of a checkpoint.
    #[error("this is no signed checkpoint: {0}")]
    Malformed(&'static str),
    /// No signature of the key is on it.
    #[error("it is not signed by this key")]
    NotSigned,
    /// A signature of the key's name does not fit the text.
    #[error("the signature does not fit the text: it was changed, or signed by another key")]
    WrongSignature,
    /// A verifier key is NAME+KEYID+BASE64.
    #[error("this is no verifier key: it reads NAME+KEYID+BASE64")]
    WrongKey,
}

impl AuditCheckpoint {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }

    fn of_text(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(NoteError::Malformed("it has no origin"))?;
        let size = lines.next().filter(|line| *line == "0" || !line.starts_with(['0', '+']));
        let size = size.and_then(|line| line.parse().ok()).ok_or(NoteError::Malformed("its size is no number"))?;
        let root = lines.next().and_then(|line| BASE64.decode(line).ok());
        let root =
            root.and_then(|root| Hash::try_from(root).ok()).ok_or(NoteError::Malformed("its root is no hash"))?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// The checkpoint of a note, once a signature of `key` on it is verified. Other signatures are left alone.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        let (text, signatures) = split(note)?;
        let mut verified = false;
        for line in signatures.lines().take(MAX_SIGNATURES) {
            let line = line.strip_prefix(MARK).ok_or(NoteError::Malformed("a signature has no mark"))?;
            let (name, blob) = line.rsplit_once(' ').ok_or(NoteError::Malformed("a signature has no name"))?;
            let blob = BASE64.decode(blob).map_err(|_| NoteError::Malformed("a signature is no base64"))?;
            let Some((id, signature)) = blob.split_first_chunk::<4>() else {
                return Err(NoteError::Malformed("a signature is too short"));
            };
            if name != key.name || *id != key.id {
                continue;
            }
            let signature = Signature::from_slice(signature).map_err(|_| NoteError::WrongSignature)?;
            key.key.verify(text.as_bytes(), &signature).map_err(|_| NoteError::WrongSignature)?;
            verified = true;
        }
        if verified { Self::of_text(text) } else { Err(NoteError::NotSigned) }
    }

    /// What a note says, whoever signed it.
    pub fn peek(note: &str) -> Result<Self, NoteError> {
        Self::of_text(split(note)?.0)
    }
}

/// The text with its last newline, and the lines of signatures.
fn split(note: &str) -> Result<(&str, &str), NoteError> {
    if note.len() > MAX_NOTE_BYTES {
        return Err(NoteError::Malformed("it is too long"));
    }
    let end = note.rfind("\n\n").ok_or(NoteError::Malformed("it has no signatures"))?;
    Ok((&note[..=end], &note[end + 2..]))
}

/// Signs checkpoints of one log.
pub struct CheckpointSigner {
    key: SigningKey,
    verifier: VerifierKey,
}

impl CheckpointSigner {
    /// A signer of this name (which may hold neither spaces nor plus signs) from the 32 secret bytes of its key.
    pub fn new(name: &str, secret: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(secret);
        let verifier = VerifierKey::new(name, key.verifying_key());
        Self { key, verifier }
    }

    /// What verifies its signatures; for everybody.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The signed note of a size and its root.
    pub fn sign(&self, size: u64, root: &Hash) -> String {
        let text = AuditCheckpoint { origin: self.verifier.name.clone(), size, root: *root }.text();
        let signature = self.key.sign(text.as_bytes());
        let blob = [&self.verifier.id[..], &signature.to_bytes()].concat();
        format!("{text}\n{MARK}{} {}\n", self.verifier.name, BASE64.encode(blob))
    }
}

impl fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointSigner({})", self.verifier)
    }
}

/// A public key with its name: `NAME+KEYID+BASE64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    fn new(name: &str, key: VerifyingKey) -> Self {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', ED25519])
            .chain_update(key.as_bytes())
            .finalize()
            .into();
        let [a, b, c, d, ..] = digest;
        Self { name: name.to_owned(), id: [a, b, c, d], key }
    }

    /// Whose it is; the origin of its log.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[ED25519][..], self.key.as_bytes()].concat();
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id), BASE64.encode(bytes))
    }
}

impl std::str::FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        // Base64 may hold plus signs, a name may not.
        let (name, rest) = text.trim().split_once('+').ok_or(NoteError::WrongKey)?;
        let (id, key) = rest.split_once('+').ok_or(NoteError::WrongKey)?;
        let bytes = BASE64.decode(key).map_err(|_| NoteError::WrongKey)?;
        let Some((&ED25519, key)) = bytes.split_first() else { return Err(NoteError::WrongKey) };
        let key = VerifyingKey::from_bytes(key.try_into().map_err(|_| NoteError::WrongKey)?);
        let key = Self::new(name, key.map_err(|_| NoteError::WrongKey)?);
        let named = id.len() == 8 && u32::from_str_radix(id, 16) == Ok(u32::from_be_bytes(key.id));
        if named && !name.is_empty() { Ok(key) } else { Err(NoteError::WrongKey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the C2SP note specification and of Go's sumdb/note package.
    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn a_known_note_of_another_implementation_is_verified() {
        let key: VerifierKey = PETER.parse().unwrap();
        assert_eq!(key.to_string(), PETER);
        let text = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n";
        let signed = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let blob = BASE64.decode(signed).unwrap();
        assert_eq!(blob[..4], key.id);
        let signature = Signature::from_slice(&blob[4..]).unwrap();
        assert!(key.key.verify(text.as_bytes(), &signature).is_ok());
        // It is a note, but of no checkpoint.
        let note = format!("{text}\n{MARK}PeterNeumann {signed}\n");
        assert!(matches!(AuditCheckpoint::open(&note, &key), Err(NoteError::Malformed(_))));
    }

    #[test]
    fn what_is_signed_is_opened_and_every_changed_character_is_found() {
        let signer = CheckpointSigner::new("metergate/0198", &[7; 32]);
        let note = signer.sign(1_234, &[5; 32]);
        let key: VerifierKey = signer.verifier().to_string().parse().unwrap();
        assert_eq!(&key, signer.verifier());
        let expected = AuditCheckpoint { origin: "metergate/0198".to_owned(), size: 1_234, root: [5; 32] };
        assert_eq!(AuditCheckpoint::open(&note, &key), Ok(expected.clone()));
        assert_eq!(AuditCheckpoint::peek(&note), Ok(expected));
        for (place, _) in note.char_indices() {
            let mut bytes = note.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(AuditCheckpoint::open(&changed, &key).is_err(), "{place}: {changed}");
            }
        }
        let other = CheckpointSigner::new("metergate/0198", &[8; 32]);
        assert_eq!(AuditCheckpoint::open(&note, other.verifier()), Err(NoteError::NotSigned));
        // A witness may have signed too.
        let witnessed = format!("{note}{MARK}witness {}\n", BASE64.encode([9; 68]));
        assert!(AuditCheckpoint::open(&witnessed, &key).is_ok());
    }

    #[test]
    fn a_note_or_key_that_is_none_is_refused() {
        let signer = CheckpointSigner::new("log", &[7; 32]);
        for text in ["", "\n\n", "a\n1\n\n\n", "log\n01\nAAAA\n\n\u{2014} log AAAA\n", "log+00000000+AQ==", "log"] {
            assert!(AuditCheckpoint::open(text, signer.verifier()).is_err(), "{text:?}");
            assert!(text.parse::<VerifierKey>().is_err(), "{text:?}");
        }
        let key = signer.verifier().to_string();
        assert!(key.replacen("log+", "logs+", 1).parse::<VerifierKey>().is_err(), "the id is the name's too");
        assert!(!format!("{signer:?}").contains("7, 7"));
    }
}
