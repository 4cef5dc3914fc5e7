//! Amounts: items summed by type into a fixed array, which is what the hot path works on.

use xxhash_rust::xxh3;

use crate::domain::quota::{Charges, Item, QuotaType};

/// The most that counts of a type at once: far above every limit and every amount that is let in, and so far below what
/// an integer holds that no sum of the counters comes to its end.
const AMOUNT_MAX: u128 = 1 << 96;

/// What is asked for, by type; a type may be asked for with nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub(super) of: Charges,
    /// A bit for each type named, by [`QuotaType::index`].
    asked: u8,
}

impl Amounts {
    /// Sums items of the same type. A sum above 2^96 counts as that, and fits in no limit.
    pub fn sum(items: &[Item]) -> Self {
        let mut amounts = Self::default();
        for item in items {
            let sum = &mut amounts.of[item.quota_type.index()];
            *sum = sum.saturating_add(item.amount).min(AMOUNT_MAX);
            amounts.asked |= 1 << item.quota_type.index();
        }
        amounts
    }

    /// Whether the type is named.
    #[inline]
    pub fn asks(&self, quota_type: QuotaType) -> bool {
        self.asked & (1 << quota_type.index()) != 0
    }

    /// How much of the type.
    #[inline]
    pub fn amount(&self, quota_type: QuotaType) -> u128 {
        self.of[quota_type.index()]
    }

    /// The types named.
    pub fn types(&self) -> impl Iterator<Item = QuotaType> + use<> {
        let asked = self.asked;
        QuotaType::ALL.into_iter().filter(move |quota_type| asked & (1 << quota_type.index()) != 0)
    }

    /// Each type once, in order.
    pub fn items(&self) -> Vec<Item> {
        self.types().map(|quota_type| Item { quota_type, amount: self.amount(quota_type) }).collect()
    }

    /// A hash to tell a repeat from a conflict; it is saved, so it must not change between versions.
    pub(super) fn digest(&self) -> u64 {
        let mut bytes = [0; 16 * QuotaType::COUNT + 1];
        for (place, amount) in self.of.iter().enumerate() {
            bytes[16 * place..16 * (place + 1)].copy_from_slice(&amount.to_le_bytes());
        }
        bytes[16 * QuotaType::COUNT] = self.asked;
        xxh3::xxh3_64(&bytes)
    }
}

/// Adds each amount.
#[inline]
pub(super) fn add(sums: &mut Charges, amounts: &Charges) {
    for (sum, amount) in sums.iter_mut().zip(amounts) {
        *sum += *amount;
    }
}

/// Takes each amount away; nothing goes below zero.
#[inline]
pub(super) fn subtract(sums: &mut Charges, amounts: &Charges) {
    for (sum, amount) in sums.iter_mut().zip(amounts) {
        *sum = sum.saturating_sub(*amount);
    }
}
