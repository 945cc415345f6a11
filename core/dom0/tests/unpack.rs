//! Unpacking: every format, and damage of every kind.

mod common;

use common::*;
use dom0::{Error, Format, Payload};
use proptest::prelude::*;

fn unpack(module: &[u8]) -> Result<Vec<u8>, Error> {
    let payload = Payload::find(module)?;
    let size = payload.unpacked_size();
    // What the hypervisor does: no more than there is memory.
    if size > 64 << 20 {
        return Err(Error::NoMemory { wanted: size as u64 });
    }
    let mut out = vec![0xaa; size];
    Ok(payload.unpack(&mut out)?.to_vec())
}

type Packer = fn(&[u8]) -> Vec<u8>;

const PACKERS: [(Format, Packer); 4] =
    [(Format::Zstd, zstd), (Format::Gzip, gzip), (Format::Lz4, lz4), (Format::Xz, xz)];

#[test]
fn every_format_gives_the_kernel_back() {
    let data = elf(&linux_notes());
    for (format, pack) in PACKERS {
        let module = bzimage(&pack(&data));
        assert_eq!(Payload::find(&module).unwrap().format(), format);
        assert!(unpack(&module).unwrap() == data, "{format}");
    }
    assert!(unpack(&data).unwrap() == data);
    assert!(Payload::find(&data).unwrap().plain().is_some());
    assert!(unpack(&gzip(&data)).unwrap() == data);
}

#[test]
fn a_copied_part_is_named_as_such() {
    let module = bzimage(&zstd(&elf(&linux_notes())));
    let error = unpack(&module[..1000]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("the module has 1000; copy the file again"), "{text}");
    assert!(matches!(unpack(&module[..0x220]), Err(Error::Truncated { .. })));
    assert!(matches!(unpack(&[]), Err(Error::Truncated { .. })));
}

#[test]
fn what_is_no_kernel_is_refused() {
    let old = &mut bzimage(&[0; 64]);
    old[0x206] = 7;
    assert_eq!(unpack(old).unwrap_err(), Error::OldProtocol { version: 0x207 });
    assert!(matches!(unpack(b"GIF89a....."), Err(Error::UnknownImage { start: [b'G', b'I', b'F', b'8'] })));
    assert!(matches!(unpack(&bzimage(b"BZh91AY&SY....")), Err(Error::UnsupportedCompression { name: "bzip2" })));
    assert!(matches!(unpack(&bzimage(b"\x89LZO.........")), Err(Error::UnsupportedCompression { name: "lzo" })));
    assert!(matches!(unpack(&bzimage(b"")), Err(Error::Truncated { .. })));
}

#[test]
fn wrong_sizes_are_found() {
    let data = elf(&linux_notes());
    for (format, pack) in PACKERS {
        for change in [-1i32, 1] {
            let mut payload = pack(&data);
            let at = payload.len() - 4;
            payload.splice(at.., ((data.len() as i32 + change) as u32).to_le_bytes());
            let error = unpack(&bzimage(&payload)).unwrap_err();
            assert!(matches!(error, Error::WrongSize { .. } | Error::Corrupt { .. }), "{format} {change}: {error}");
        }
    }
    let mut out = [0; 16];
    let module = bzimage(&zstd(&data));
    let error = Payload::find(&module).unwrap().unpack(&mut out).unwrap_err();
    assert_eq!(error, Error::BufferTooSmall { wanted: data.len() as u64, present: 16 });
}

/// Data that exercise all of the decoder: long runs, short repeats at each distance, noise, far matches.
fn mixed() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (any::<u8>(), 1usize..3000).prop_map(|(byte, count)| vec![byte; count]),
        (prop::collection::vec(any::<u8>(), 1..20), 1usize..200).prop_map(|(unit, count)| unit.repeat(count)),
        (1usize..10_000).prop_map(code),
    ];
    (prop::collection::vec(piece, 0..16), 1usize..4).prop_map(|(pieces, count)| pieces.concat().repeat(count))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn zstd_decodes_what_was_encoded(data in mixed(), level in -3i32..=19, log in 10u32..=27, checksum: bool) {
        let frame = zstd_frame(&data, level, log, checksum);
        let mut payload = frame;
        // Frames may follow one another, also ones to be skipped.
        payload.extend([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        payload.extend(zstd_frame(b"the end", 3, 10, true));
        payload.extend((data.len() as u32 + 7).to_le_bytes());
        let expected = [&data[..], b"the end"].concat();
        prop_assert!(unpack(&bzimage(&payload)).unwrap() == expected);
    }

    #[test]
    fn damage_never_panics(
        which in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        shorten: bool,
    ) {
        let data = code(20_000);
        let mut module = bzimage(&PACKERS[which].1(&data));
        if shorten {
            module.truncate(cut.index(module.len()));
        }
        let length = module.len();
        // The setup sectors hold little that matters, so most changes are to hit the payload.
        for (at, byte) in changes {
            if length > 0 {
                let at = at.index(length);
                module[at] = byte;
            }
        }
        let _ = unpack(&module);
    }

    #[test]
    fn damage_inside_a_zstd_frame_is_found_or_harmless(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
    ) {
        let data = code(20_000);
        let mut payload = zstd(&data);
        let body = payload.len() - 4;
        for (at, flip) in changes {
            payload[4..body][at.index(body - 4)] ^= flip;
        }
        // The checksum makes it all but impossible that wrong data pass.
        if let Ok(out) = unpack(&bzimage(&payload)) {
            prop_assert!(out == data);
        }
    }
}
