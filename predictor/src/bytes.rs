//! Little-endian fields, one after the other, behind a format version.

use crate::forecast::snapshot::{packed, unpacked};

const VERSION: u8 = 3;

/// Writes fields.
pub struct Writer<'b>(&'b mut Vec<u8>);

impl<'b> Writer<'b> {
    /// Begins anew in `into`.
    pub fn new(into: &'b mut Vec<u8>) -> Self {
        into.clear();
        into.push(VERSION);
        Self(into)
    }

    /// Goes on at the end of `into`, which says in its own way what it is.
    pub fn plain(into: &'b mut Vec<u8>) -> Self {
        Self(into)
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn f64(&mut self, value: f64) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn f32(&mut self, value: f32) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// A [`fixed`](crate::forecast::snapshot::fixed) speed, in two bytes.
    pub fn speed(&mut self, speed: f32) {
        self.bytes(&packed(speed).to_le_bytes());
    }

    /// A short text, such as a segment's id.
    pub fn text(&mut self, text: &str) {
        self.bytes(&[u8::try_from(text.len()).unwrap_or(u8::MAX)]);
        self.bytes(&text.as_bytes()[..text.len().min(usize::from(u8::MAX))]);
    }
}

/// Reads fields; `None` at the end of the bytes.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// `None` for a format of another version.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&VERSION, rest) => Some(Self(rest)),
            _ => None,
        }
    }

    /// Of bytes without a version.
    #[must_use]
    pub fn plain(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_le_bytes)
    }

    pub fn i64(&mut self) -> Option<i64> {
        self.bytes().map(i64::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub fn f64(&mut self) -> Option<f64> {
        self.bytes().map(f64::from_le_bytes)
    }

    pub fn f32(&mut self) -> Option<f32> {
        self.bytes().map(f32::from_le_bytes)
    }

    pub fn speed(&mut self) -> Option<f32> {
        self.bytes().map(i16::from_le_bytes).map(unpacked)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(self.u8()?);
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}
