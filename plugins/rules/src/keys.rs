//! A set of keys with counts: what uniqueness, duplicates, references and large numbers of different values
//! are counted with.
//!
//! A key is known by 96 bits of its XXH3 hash: among ten million different keys, the chance that any two
//! are taken for one is below 10^-15. Sixteen bytes hold the hash and a count of up to 2^32 - 1.

use std::fmt;

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use waymark_table::Row;
use xxhash_rust::xxh3::xxh3_128;

/// Bits of an entry that count.
const COUNT_BITS: u32 = 32;
const COUNT_MAX: u128 = (1 << COUNT_BITS) - 1;

/// Hash of a key: 96 bits, the lowest 32 of the 128 being zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash(u128);

impl Hash {
    /// Hash of the values of some columns; `None` when one has no value and `nulls` is false.
    pub fn of(row: &Row<'_>, columns: &[usize], nulls: bool, buffer: &mut Vec<u8>) -> Option<Self> {
        buffer.clear();
        for column in columns {
            match row.get(*column) {
                Some(field) => {
                    buffer.extend_from_slice(&(field.len() as u32).to_le_bytes());
                    buffer.extend_from_slice(field);
                }
                None if nulls => buffer.extend_from_slice(&u32::MAX.to_le_bytes()),
                None => return None,
            }
        }
        Some(Self(xxh3_128(buffer) & !COUNT_MAX))
    }

    /// The 64 highest bits: where a key lies in the line of all keys.
    pub fn place(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

/// Keys with counts, by open addressing with linear probing. An empty slot is zero.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    slots: Vec<u128>,
    used: usize,
}

impl Keys {
    /// Different keys.
    pub fn count(&self) -> usize {
        self.used
    }

    /// Counts a key, and answers how often it has been seen now.
    pub fn see(&mut self, hash: Hash) -> u64 {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.resize((self.slots.len() * 2).max(1024));
        }
        let slot = self.find(hash);
        let entry = &mut self.slots[slot];
        if *entry == 0 {
            *entry = hash.0 | 1;
            self.used += 1;
            return 1;
        }
        if *entry & COUNT_MAX < COUNT_MAX {
            *entry += 1;
        }
        (*entry & COUNT_MAX) as u64
    }

    /// True when the key has been seen.
    pub fn has(&self, hash: Hash) -> bool {
        !self.slots.is_empty() && self.slots[self.find(hash)] != 0
    }

    /// Forgets all keys whose place is above `high`.
    pub fn keep_up_to(&mut self, high: u64) {
        let kept: Vec<u128> =
            self.slots.iter().copied().filter(|entry| *entry != 0 && (entry >> 64) as u64 <= high).collect();
        if kept.len() * 8 < self.slots.len() {
            self.slots = vec![0; (kept.len() * 2).next_power_of_two().max(1024)];
        } else {
            self.slots.fill(0);
        }
        self.used = kept.len();
        for entry in kept {
            let slot = self.find(Hash(entry & !COUNT_MAX));
            self.slots[slot] = entry;
        }
    }

    /// How often each key was seen, in no order.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter(|entry| **entry != 0).map(|entry| (entry & COUNT_MAX) as u64)
    }

    /// Forgets all keys.
    pub fn clear(&mut self) {
        self.slots.fill(0);
        self.used = 0;
    }

    fn find(&self, hash: Hash) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (hash.0 >> COUNT_BITS) as usize & mask;
        while self.slots[slot] != 0 && self.slots[slot] & !COUNT_MAX != hash.0 {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        for entry in old.into_iter().filter(|entry| *entry != 0) {
            let slot = self.find(Hash(entry & !COUNT_MAX));
            self.slots[slot] = entry;
        }
    }
}

impl Serialize for Keys {
    /// As base64 of the sorted entries: the same keys are the same text, whatever their history.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<u128> = self.slots.iter().copied().filter(|entry| *entry != 0).collect();
        entries.sort_unstable();
        let mut bytes = Vec::with_capacity(entries.len() * 16);
        for entry in entries {
            bytes.extend_from_slice(&entry.to_le_bytes());
        }
        serializer.collect_str(&Base64Display::new(&bytes, &STANDARD))
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Keys;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("base64 of sixteen bytes for each key")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Keys, E> {
                let bytes = STANDARD.decode(text).map_err(E::custom)?;
                let (entries, rest) = bytes.as_chunks::<16>();
                if !rest.is_empty() {
                    return Err(E::custom("half a key"));
                }
                let mut keys = Keys::default();
                if !entries.is_empty() {
                    keys.resize((entries.len() * 4 / 3 + 1).next_power_of_two().max(1024));
                }
                for entry in entries.iter().map(|entry| u128::from_le_bytes(*entry)) {
                    if entry & COUNT_MAX == 0 {
                        return Err(E::custom("a key that was never seen"));
                    }
                    let slot = keys.find(Hash(entry & !COUNT_MAX));
                    keys.used += usize::from(keys.slots[slot] == 0);
                    keys.slots[slot] = entry;
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_str(Text)
    }
}
