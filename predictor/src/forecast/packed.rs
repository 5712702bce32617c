//! A profile as bytes: a model knows one of every segment of the network, and an instance needs few of them at a time.

use super::profile::{HOURS, Profile};
use crate::bytes::{Reader, Writer};
use crate::segment::{append_hour, read_hour};

/// More would save little and take longer.
const ZSTD_LEVEL: i32 = 1;

/// A [`Profile`] in a tenth of its memory. Read as a whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Packed {
    /// zstd: the number of hours, then each hour of the week and what was read in it; empty without any.
    bytes: Box<[u8]>,
    /// Length of what is packed.
    plain: usize,
}

impl Packed {
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        let hours: Vec<_> = (0..HOURS).filter_map(|hour| Some((hour, profile.hour(hour)?))).collect();
        let mut plain = Vec::new();
        let mut out = Writer::plain(&mut plain);
        out.u32(u32::try_from(hours.len()).expect("of a week"));
        for (of_week, hour) in hours {
            out.u32(u32::try_from(of_week).expect("of a week"));
            append_hour(hour, &mut out);
        }
        Self::pack(&plain)
    }

    fn pack(plain: &[u8]) -> Self {
        let bytes = zstd::bulk::compress(plain, ZSTD_LEVEL).expect("a buffer as large as zstd asks for");
        Self { bytes: bytes.into(), plain: plain.len() }
    }

    /// The profile.
    ///
    /// # Panics
    /// Never: what is packed was written or checked here.
    #[must_use]
    pub fn unpack(&self) -> Profile {
        read(&mut Reader::plain(&self.unpacked())).expect("checked when it was packed")
    }

    fn unpacked(&self) -> Vec<u8> {
        if self.bytes.is_empty() {
            return 0_u32.to_le_bytes().to_vec();
        }
        zstd::bulk::decompress(&self.bytes, self.plain).expect("what was packed here")
    }

    /// Appends it as it stands in a model's file: unpacked.
    pub fn encode(&self, out: &mut Writer<'_>) {
        out.bytes(&self.unpacked());
    }

    /// Reads what was encoded; `None` if it is broken.
    pub fn decode(fields: &mut Reader<'_>) -> Option<Self> {
        let all = fields.rest();
        read(fields)?;
        Some(Self::pack(&all[..all.len() - fields.rest().len()]))
    }
}

fn read(fields: &mut Reader<'_>) -> Option<Profile> {
    let mut profile = Profile::default();
    for _ in 0..fields.u32()? {
        let of_week = usize::try_from(fields.u32()?).ok().filter(|hour| *hour < HOURS)?;
        profile.restore(of_week, Some(read_hour(fields)?));
    }
    Some(profile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::calendar::Slot;

    #[test]
    fn it_is_unpacked_as_it_was() {
        let mut profile = Profile::default();
        for day in 0..9_u8 {
            for bin in 0..288_u16 {
                let at = Slot { date: i32::from(day), day: day % 7, bin };
                profile.put(at, i64::from(day) * 24 + i64::from(bin) / 12, f32::from(bin % 100) + 0.5, None);
            }
        }
        let packed = Packed::of(&profile);
        assert_eq!(packed.unpack(), profile);
        let mut plain = Vec::new();
        packed.encode(&mut Writer::plain(&mut plain));
        assert_eq!(Packed::decode(&mut Reader::plain(&plain)), Some(packed.clone()));
        assert!(packed.bytes.len() * 3 < plain.len(), "{} of {}", packed.bytes.len(), plain.len());
        for cut in [0, 3, 100, plain.len() - 1] {
            assert_eq!(Packed::decode(&mut Reader::plain(&plain[..cut])), None);
        }
        assert_eq!(Packed::default().unpack(), Profile::default());
    }
}
