//! Reading small text files in a volume that kubelet updates.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _},
    path::Path,
};

use zeroize::Zeroizing;

/// Reads a file of at most `limit` bytes. Blocks.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Zeroizing<String>> {
    let open = || File::open(path);
    // kubelet swaps `..data` and then removes the old folder: whoever followed the link just before
    // finds nothing there.
    let file = open()
        .or_else(|error| if error.kind() == ErrorKind::NotFound { open() } else { Err(error) })?;
    // With room for all of it from the start, so that growing leaves no copies of a token behind.
    let mut text = Zeroizing::new(String::with_capacity(limit + 1));
    file.take(limit as u64 + 1).read_to_string(&mut text)?;
    if text.len() > limit {
        let message = format!("it is longer than {limit} bytes");
        return Err(io::Error::new(ErrorKind::InvalidData, message));
    }
    Ok(text)
}
