//! Lines of a file of any size in bounded memory: plain or gzip by content, LF or CRLF, with or without a last line end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

/// The longest line that is taken, in bytes; longer ones are reported and skipped.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// The largest JSON array that is taken, in bytes: an array cannot be read line by line.
pub const ARRAY_BYTES_MAX: usize = 64 * 1024 * 1024;
const BUFFER_BYTES: usize = 128 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An input and how far it has been read.
pub struct Lines {
    reader: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
    number: u64,
    bytes_read: Arc<AtomicU64>,
}

/// Counts the bytes of the file itself, compressed or not, for the progress bar.
struct Counted<R> {
    inner: R,
    bytes_read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Lines {
    /// Opens a file; `-` is standard input. Gives the size too, when it is known.
    pub fn open(path: &str) -> io::Result<(Self, Option<u64>)> {
        if path == "-" {
            return Ok((Self::over(io::stdin())?, None));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder: name its files"));
        }
        let size = metadata.is_file().then_some(metadata.len());
        Ok((Self::over(file)?, size))
    }

    /// Reads anything.
    pub fn over(input: impl Read + 'static) -> io::Result<Self> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: input, bytes_read: bytes_read.clone() };
        let mut raw = BufReader::with_capacity(BUFFER_BYTES, counted);
        let inner: Box<dyn Read> =
            if peek(&mut raw)?.starts_with(&GZIP_MAGIC) { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, inner);
        if peek(&mut reader)?.starts_with(BYTE_ORDER_MARK) {
            reader.consume(BYTE_ORDER_MARK.len());
        }
        Ok(Self { reader, line: Vec::new(), number: 0, bytes_read })
    }

    /// Bytes of the file read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Whether the next thing is a JSON array.
    pub fn starts_with_array(&mut self) -> io::Result<bool> {
        let next = self.reader.fill_buf()?;
        Ok(next.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'['))
    }

    /// Everything that is left, up to [`ARRAY_BYTES_MAX`].
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        (&mut self.reader).take(ARRAY_BYTES_MAX as u64 + 1).read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// The next line's number, counted from 1, and its text without its end, or why it cannot be taken.
    /// Fails when the file itself cannot be read on.
    pub fn next_line(&mut self) -> io::Result<Option<(u64, Result<&str, String>)>> {
        self.line.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(chunk.len(), |at| at + 1);
            if !too_long {
                self.line.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
                too_long = self.line.len() > LINE_BYTES_MAX;
            }
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        if too_long {
            return Ok(Some((self.number, Err(format!("the line is longer than {LINE_BYTES_MAX} bytes")))));
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let text = std::str::from_utf8(&self.line).map_err(|_| "the line is not UTF-8".to_owned());
        Ok(Some((self.number, text)))
    }

    /// The number of the last line that was given.
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// At least three bytes, unless there are fewer.
fn peek<R: Read>(reader: &mut BufReader<R>) -> io::Result<&[u8]> {
    // A first read may give less than three bytes only from a pipe; such a pipe carries plain text in practice.
    reader.fill_buf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: Vec<u8>) -> Vec<(u64, Result<String, String>)> {
        let mut lines = Lines::over(io::Cursor::new(bytes)).unwrap();
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            all.push((number, line.map(str::to_owned)));
        }
        all
    }

    #[test]
    fn line_ends_marks_and_compression_make_no_difference() {
        let expected = vec![(1, Ok("a,b".to_owned())), (2, Ok(String::new())), (3, Ok("c".to_owned()))];
        assert_eq!(read(b"a,b\n\nc\n".to_vec()), expected);
        assert_eq!(read(b"\xef\xbb\xbfa,b\r\n\r\nc".to_vec()), expected);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"a,b\n\nc").unwrap();
        assert_eq!(read(gzip.finish().unwrap()), expected);
        assert_eq!(read(Vec::new()), []);
    }

    #[test]
    fn a_bad_line_does_not_take_the_next_one_with_it() {
        let mut bytes = vec![b'x'; LINE_BYTES_MAX + 200_000];
        bytes.extend_from_slice(b"\n\xff\xfe\ngood");
        let all = read(bytes);
        assert!(all[0].1.as_ref().unwrap_err().contains("longer"));
        assert!(all[1].1.as_ref().unwrap_err().contains("UTF-8"));
        assert_eq!(all[2], (3, Ok("good".to_owned())));
    }

    #[test]
    fn a_gzip_that_is_cut_short_is_an_error_after_its_lines() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for number in 0..50_000u64 {
            writeln!(gzip, "{}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
        }
        let mut bytes = gzip.finish().unwrap();
        bytes.truncate(bytes.len() / 2);
        let mut lines = Lines::over(io::Cursor::new(bytes)).unwrap();
        let end = loop {
            match lines.next_line() {
                Ok(Some(_)) => {}
                other => break other.map(|_| ()),
            }
        };
        assert!(end.is_err() && lines.number() > 10_000);
    }
}
