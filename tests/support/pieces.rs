//! Answers of providers as they come over a wire: in pieces.

use metergate::rules::extract::{ExtractError, Extracted, UsageStream};

/// Reads usage out of a body that comes in pieces of these sizes, in turn.
pub fn in_pieces(provider: Option<&str>, body: &[u8], sizes: &[usize]) -> Result<Option<Extracted>, ExtractError> {
    let mut stream = UsageStream::new(provider, None);
    let mut rest = body;
    for size in sizes.iter().cycle() {
        let (piece, behind) = rest.split_at((*size).clamp(1, rest.len().max(1)).min(rest.len()));
        stream.feed(piece);
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    stream.finish()
}
