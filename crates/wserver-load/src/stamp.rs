//! The sixteen characters at the start of every message: the stream, the number and the time.
//!
//! Each character carries four bits, so that a few instructions read a stamp, and it is text that
//! JSON leaves as it is.

/// The length of a stamp, which is the minimum length of a message.
pub(crate) const STAMP_BYTES: usize = 16;

/// Sequence numbers start at [`first_of`] and wrap after this one.
pub(crate) const SEQUENCE_MAX: u32 = 0x00ff_ffff;

/// The stream of messages that only ask how many connections there are; their order is not checked.
pub(crate) const PROBE_STREAM: u8 = u8::MAX;

/// `@` to `O` are the nibbles 0 to 15.
const ZERO: u64 = 0x4040_4040_4040_4040;

/// The content of a message's stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Messages of one stream arrive in order.
    pub(crate) stream: u8,
    /// Counts the messages of the stream, modulo 2²⁴.
    pub(crate) sequence: u32,
    /// When it was or should have been sent, in microseconds of the engine's clock, modulo 2³².
    pub(crate) micros: u32,
}

impl Stamp {
    pub(crate) fn write(self, out: &mut [u8; STAMP_BYTES]) {
        let id = u32::from(self.stream) << 24 | self.sequence & SEQUENCE_MAX;
        out[..8].copy_from_slice(&letters(id));
        out[8..].copy_from_slice(&letters(self.micros));
    }

    /// Reads the stamp at the start of a message, if it is one of ours.
    #[inline]
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let (id, rest) = message.split_first_chunk()?;
        let id = number(*id)?;
        let micros = number(*rest.first_chunk()?)?;
        Some(Self { stream: id.to_be_bytes()[0], sequence: id & SEQUENCE_MAX, micros })
    }
}

/// The number of a user's first message, and of every probe of the user. It differs for each user,
/// so that a message to the wrong user is noticed.
///
/// The numbers of consecutive users are far apart: thousands, for a thousand users.
pub(crate) fn first_of(user: u32) -> u32 {
    // The high bits of this product are spread evenly.
    user.wrapping_mul(0x9e37_79b1) >> 8
}

/// The next sequence number.
pub(crate) fn after(sequence: u32) -> u32 {
    sequence.wrapping_add(1) & SEQUENCE_MAX
}

fn letters(number: u32) -> [u8; 8] {
    let mut spread = u64::from(number);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    (spread | ZERO).to_be_bytes()
}

#[inline]
fn number(letters: [u8; 8]) -> Option<u32> {
    let spread = u64::from_be_bytes(letters) ^ ZERO;
    if spread & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
        return None;
    }
    let mut number = (spread | spread >> 4) & 0x00ff_00ff_00ff_00ff;
    number = (number | number >> 8) & 0x0000_ffff_0000_ffff;
    number = (number | number >> 16) & 0xffff_ffff;
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (stream, sequence, micros) in
            [(0, 0, 0), (1, 0x0012_3456, 0x89ab_cdef), (254, SEQUENCE_MAX, u32::MAX)]
        {
            let stamp = Stamp { stream, sequence, micros };
            let mut message = [0; STAMP_BYTES];
            stamp.write(&mut message);
            assert_eq!(Stamp::read(&message), Some(stamp));
            assert!(
                std::str::from_utf8(&message).unwrap().chars().all(|c| ('@'..='O').contains(&c))
            );
        }
        assert_eq!(Stamp::read(b"hello, world, hello"), None);
        assert_eq!(Stamp::read(b"@@@@@@@@@@@@@@@"), None);
    }

    #[test]
    fn users_start_far_apart() {
        assert_eq!(first_of(0), 0);
        let mut firsts: Vec<u32> = (0..1000).map(first_of).collect();
        firsts.sort_unstable();
        assert!(firsts.iter().all(|it| *it <= SEQUENCE_MAX));
        let nearest = firsts.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
        assert!(nearest > 5000, "{nearest}");
    }
}
