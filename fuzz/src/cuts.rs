//! Bytes that arrive in pieces.

/// Cuts an input in two: the sizes of the pieces, then what is cut.
///
/// The first byte says how many sizes follow it.
pub fn sizes(input: &[u8]) -> (&[u8], &[u8]) {
    let (count, rest) = input.split_first().unwrap_or((&0, &[]));
    rest.split_at(usize::from(*count % 8).min(rest.len()))
}

/// The pieces, each as long as the next of the sizes says, over and over.
pub fn pieces<'a>(sizes: &[u8], mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        // No size at all would go on for ever.
        let (piece, rest) = bytes.split_at((usize::from(*size) + 1).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
    if !bytes.is_empty() {
        pieces.push(bytes);
    }
    pieces
}
