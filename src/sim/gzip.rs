//! Just enough gzip to send a reply compressed that nobody asked to have compressed: stored blocks, which every
//! inflater reads.

use bytes::{BufMut, Bytes, BytesMut};

/// All of `bytes` as one gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Bytes {
    let mut gzip = Gzip::default();
    let mut out = BytesMut::from(&gzip.block(bytes)[..]);
    out.extend_from_slice(&gzip.finish());
    out.freeze()
}

/// A gzip member in the making.
#[derive(Debug, Default)]
pub(crate) struct Gzip {
    begun: bool,
    crc: u32,
    length: u32,
}

impl Gzip {
    /// The compressed form of the next bytes, complete in itself so that they can be read at once.
    pub(crate) fn block(&mut self, bytes: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(bytes.len() + 32);
        self.begin(&mut out);
        for part in bytes.chunks(0xffff) {
            stored(&mut out, 0, part);
        }
        self.crc = crc(self.crc, bytes);
        self.length = self.length.wrapping_add(bytes.len() as u32);
        out.freeze()
    }

    /// The end: an empty last block, the checksum and the length.
    pub(crate) fn finish(mut self) -> Bytes {
        let mut out = BytesMut::with_capacity(24);
        self.begin(&mut out);
        stored(&mut out, 1, &[]);
        out.put_u32_le(self.crc);
        out.put_u32_le(self.length);
        out.freeze()
    }

    fn begin(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        }
    }
}

fn stored(out: &mut BytesMut, last: u8, part: &[u8]) {
    let length = part.len() as u16;
    out.put_u8(last);
    out.put_u16_le(length);
    out.put_u16_le(!length);
    out.extend_from_slice(part);
}

fn crc(before: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!before, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standard_one() {
        assert_eq!(crc(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc(crc(0, b"1234"), b"56789"), 0xcbf4_3926);
    }

    #[test]
    fn a_member_has_head_blocks_and_trailer() {
        let out = gzip(b"hello");
        assert_eq!(out[..3], [0x1f, 0x8b, 8]);
        assert_eq!(out[10..15], [0, 5, 0, 0xfa, 0xff]);
        assert_eq!(&out[15..20], b"hello");
        assert_eq!(out[20..25], [1, 0, 0, 0xff, 0xff]);
        assert_eq!(out[25..29], crc(0, b"hello").to_le_bytes());
        assert_eq!(out[29..], 5u32.to_le_bytes());
    }
}
