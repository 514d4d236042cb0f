//! What happened, in order: the digest by which two runs are compared, and, where wanted, the text.

use std::fmt::Write;
use std::hash::{Hash, Hasher};

use meridian_types::{GroupId, Slot, Timestamp};

use super::delivery::Address;

/// One line of a trace. Numbers and names only, so that most runs, which keep the digest alone, format nothing.
#[derive(Clone, Copy, Hash, Debug)]
pub(super) enum Note {
    Deliver { to: Address, what: &'static str, group: GroupId },
    Wake { node: u32, group: GroupId },
    Synced { node: u32, group: GroupId, token: u64 },
    Confirm { node: u32, group: GroupId, slot: Slot },
    Serve { node: u32, group: GroupId, request: u64 },
    Client { client: usize },
    Housekeeping { node: u32 },
    Poll { node: u32, master: u32 },
    Clock { node: u32, is_sure: bool },
    Fault { kind: &'static str, node: u32 },
    Restart { node: u32 },
    Applied { node: u32, group: GroupId, slot: Slot, effect: u64 },
    Reply { node: u32, group: GroupId, request: u64, is_ok: bool },
    Leads { node: u32, group: GroupId },
    Erase { node: u32, group: GroupId },
}

/// The trace of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    mixer: Mixer,
    text: Option<String>,
}

impl Trace {
    pub(super) fn new(record: bool) -> Self {
        Trace { mixer: Mixer::default(), text: record.then(String::new) }
    }

    pub(super) fn note(&mut self, at: Timestamp, note: Note) {
        at.hash(&mut self.mixer);
        note.hash(&mut self.mixer);
        if let Some(text) = &mut self.text {
            writeln!(text, "{} {note:?}", at.as_nanos()).expect("a string takes what is written");
        }
    }

    pub(super) fn digest(&self) -> u64 {
        self.mixer.finish()
    }

    pub(super) fn into_text(self) -> Option<String> {
        self.text
    }
}

/// A hasher that is the same on every run and platform of one width; the standard one is seeded at random.
#[derive(Clone, Debug, Default)]
pub(super) struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    fn write_u8(&mut self, n: u8) {
        self.mix(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.mix(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }
}
