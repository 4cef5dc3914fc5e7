//! Reading and writing the primitives that blocks are made of: varints, byte planes and packed bits.

use std::ops::Range;

use super::StoreError;

/// Appends `value` in groups of seven bits, low group first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value` like [`put_varint`].
pub(super) fn put_varint_u128(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Maps signed to unsigned so that small magnitudes stay small.
pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends a column of integers as byte planes: its width in bytes, then every lowest byte, then every second byte...
///
/// Planes put alike bytes side by side, which is what the general compressor behind them feeds on.
pub(super) fn put_planes(out: &mut Vec<u8>, values: &[u64]) {
    let max = values.iter().fold(0, |all, value| all | value);
    let width = (64 - max.leading_zeros() as usize).div_ceil(8);
    out.push(width as u8);
    for plane in 0..width {
        out.extend(values.iter().map(|value| (value >> (8 * plane)) as u8));
    }
}

/// Appends a text with its length.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Reads what the `put_*` functions wrote; anything that does not fit is [`StoreError::Damaged`].
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], StoreError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(StoreError::Damaged("a block ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn byte(&mut self) -> Result<u8, StoreError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u64_le(&mut self) -> Result<u64, StoreError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn varint(&mut self) -> Result<u64, StoreError> {
        let mut value = 0u64;
        for (place, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                // The tenth byte has room for one bit.
                if place == 9 && byte > 1 {
                    break;
                }
                self.rest = &self.rest[place + 1..];
                return Ok(value);
            }
        }
        Err(StoreError::Damaged("a number does not end, or is too large"))
    }

    pub(super) fn varint_u128(&mut self) -> Result<u128, StoreError> {
        let mut value = 0u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(StoreError::Damaged("a number does not end"))
    }

    /// A count that is followed by at least one bit for each of what it counts.
    pub(super) fn count(&mut self, most: usize) -> Result<usize, StoreError> {
        let count = self.varint()?;
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= most)
            .ok_or(StoreError::Damaged("a count is beyond its bound"))
    }

    pub(super) fn planes(&mut self, count: usize) -> Result<Vec<u64>, StoreError> {
        self.planes_in(count, 0..count)
    }

    /// The `wanted` ones of a column of `count` integers.
    pub(super) fn planes_in(&mut self, count: usize, wanted: Range<usize>) -> Result<Vec<u64>, StoreError> {
        let width = usize::from(self.byte()?);
        if width > 8 {
            return Err(StoreError::Damaged("a column is wider than eight bytes"));
        }
        let mut values = vec![0u64; wanted.len()];
        for plane in 0..width {
            for (value, &byte) in values.iter_mut().zip(&self.take(count)?[wanted.clone()]) {
                *value |= u64::from(byte) << (8 * plane);
            }
        }
        Ok(values)
    }

    /// Steps over what [`Self::planes`] reads.
    pub(super) fn skip_planes(&mut self, count: usize) -> Result<(), StoreError> {
        let width = usize::from(self.byte()?);
        self.take(width.saturating_mul(count)).map(drop)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, StoreError> {
        let length = self.count(self.rest.len())?;
        std::str::from_utf8(self.take(length)?).map_err(|_| StoreError::Damaged("a text is not UTF-8"))
    }
}

/// Packs integers of any width, one behind the other.
#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Fewer than 64 bits that have no byte yet, and how many.
    rest: u128,
    bits: usize,
}

impl BitWriter {
    /// Appends the low `width` bits of `value`, at most 128.
    pub(super) fn put(&mut self, value: u128, width: usize) {
        let low = width.min(64);
        self.put_few(value as u64, low);
        if width > low {
            self.put_few((value >> 64) as u64, width - low);
        }
    }

    fn put_few(&mut self, value: u64, width: usize) {
        self.rest |= (u128::from(value) & ((1 << width) - 1)) << self.bits;
        self.bits += width;
        if self.bits >= 64 {
            self.bytes.extend_from_slice(&(self.rest as u64).to_le_bytes());
            self.rest >>= 64;
            self.bits -= 64;
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&self.rest.to_le_bytes()[..self.bits.div_ceil(8)]);
        self.bytes
    }
}

/// Reads what [`BitWriter`] packed.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    bit: usize,
}

impl<'a> BitReader<'a> {
    /// From this bit on.
    pub(super) const fn at(bytes: &'a [u8], bit: usize) -> Self {
        Self { bytes, bit }
    }

    /// The next `width` bits, at most 128.
    pub(super) fn take(&mut self, width: usize) -> Result<u128, StoreError> {
        let end = self.bit + width;
        if end > self.bytes.len() * 8 {
            return Err(StoreError::Damaged("packed ids end early"));
        }
        // Up to 16 bytes at once, and a 17th for what the shift pushes out.
        let (first, shift) = (self.bit / 8, self.bit % 8);
        let mut window = [0u8; 16];
        let there = (self.bytes.len() - first).min(16);
        window[..there].copy_from_slice(&self.bytes[first..first + there]);
        let mut value = u128::from_le_bytes(window) >> shift;
        if shift > 0
            && let Some(&last) = self.bytes.get(first + 16)
        {
            value |= u128::from(last) << (128 - shift);
        }
        self.bit = end;
        Ok(if width < 128 { value & ((1 << width) - 1) } else { value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn planes_and_varints_read_back(values in prop::collection::vec(any::<u64>(), 0..50), big in any::<u128>(), signed in any::<i64>()) {
            let mut out = Vec::new();
            put_planes(&mut out, &values);
            put_varint_u128(&mut out, big);
            values.iter().for_each(|&value| put_varint(&mut out, value));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.planes(values.len()).unwrap(), values.clone());
            prop_assert_eq!(reader.varint_u128().unwrap(), big);
            for value in values {
                prop_assert_eq!(reader.varint().unwrap(), value);
            }
            prop_assert!(reader.rest().is_empty());
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }

        #[test]
        fn packed_bits_read_back(items in prop::collection::vec((any::<u128>(), 1usize..=128), 0..40)) {
            let mut writer = BitWriter::default();
            for &(value, width) in &items {
                writer.put(value, width);
            }
            let bytes = writer.finish();
            let mut reader = BitReader::at(&bytes, 0);
            for (value, width) in items {
                let mask = if width == 128 { u128::MAX } else { (1 << width) - 1 };
                prop_assert_eq!(reader.take(width).unwrap(), value & mask);
            }
        }
    }
}
