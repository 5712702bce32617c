//! A finished tree.

use crate::bytes::{Reader, Writer};

/// A split: left if the feature does not exceed the threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    pub threshold: f32,
    pub feature: u16,
    /// The last bin that goes left: the same split on binned features, as long as the tree is not read back.
    pub bin: u8,
    /// Where each side leads: a split's index, or `!` (the bits of) a leaf's.
    pub left: i16,
    pub right: i16,
    pub gain: f32,
}

/// Splits, the root first, and what the leaves say.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    pub splits: Vec<Split>,
    pub leaves: Vec<f32>,
}

impl Tree {
    #[inline]
    #[must_use]
    pub fn of_features(&self, features: &[f32]) -> f32 {
        self.of(|feature| features[feature])
    }

    #[inline]
    #[must_use]
    pub fn of(&self, value: impl Fn(usize) -> f32) -> f32 {
        self.walk(|split| value(usize::from(split.feature)) <= split.threshold)
    }

    #[inline]
    #[must_use]
    pub fn of_bins(&self, bin: impl Fn(usize) -> u8) -> f32 {
        self.walk(|split| bin(usize::from(split.feature)) <= split.bin)
    }

    #[inline]
    fn walk(&self, goes_left: impl Fn(&Split) -> bool) -> f32 {
        let mut at: i16 = if self.splits.is_empty() { !0 } else { 0 };
        while at >= 0 {
            let split = &self.splits[usize::from(at.unsigned_abs())];
            at = if goes_left(split) { split.left } else { split.right };
        }
        self.leaves[usize::from((!at).unsigned_abs())]
    }

    /// Feature and gain of each split.
    pub fn gains(&self) -> impl Iterator<Item = (usize, f32)> {
        self.splits.iter().map(|split| (usize::from(split.feature), split.gain))
    }

    pub fn encode(&self, out: &mut Writer<'_>) {
        out.bytes(&[u8::try_from(self.leaves.len() - 1).expect("at most 256 leaves")]);
        for split in &self.splits {
            out.f32(split.threshold);
            out.f32(split.gain);
            for number in [split.feature, split.left.cast_unsigned(), split.right.cast_unsigned()] {
                out.bytes(&number.to_le_bytes());
            }
        }
        self.leaves.iter().for_each(|leaf| out.f32(*leaf));
    }

    /// `None` if it is no tree over `features` features: walks of what is read end.
    pub fn decode(fields: &mut Reader<'_>, features: usize) -> Option<Self> {
        let splits = usize::from(fields.u8()?);
        let mut tree = Self { splits: Vec::with_capacity(splits), leaves: Vec::with_capacity(splits + 1) };
        for at in 0..splits {
            let (threshold, gain) = (fields.f32()?, fields.f32()?);
            let mut number = || fields.bytes().map(u16::from_le_bytes);
            let (feature, left, right) = (number()?, number()?.cast_signed(), number()?.cast_signed());
            // Only ever forwards, and to what is there.
            let leads_on = |to: i16| match usize::try_from(to) {
                Ok(to) => to > at && to < splits,
                Err(_) => usize::try_from(!to).is_ok_and(|leaf| leaf <= splits),
            };
            if threshold.is_nan() || usize::from(feature) >= features || !leads_on(left) || !leads_on(right) {
                return None;
            }
            tree.splits.push(Split { threshold, feature, bin: 0, left, right, gain });
        }
        for _ in 0..=splits {
            tree.leaves.push(fields.f32().filter(|leaf| leaf.is_finite())?);
        }
        Some(tree)
    }
}
