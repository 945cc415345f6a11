//! The plan: what lies where, and what stands in the tables.

mod common;

use common::*;
use dom0::{Config, Error, Kernel, Plan, StartParameters};
use proptest::prelude::*;
use std::collections::HashMap;
use x86_defs::pte::PteFlags;
use xen_abi::xen::{Dom0VgaConsoleInfo, StartInfo};
use zerocopy::{FromBytes, FromZeros};

const CONFIG: Config = Config { pages: 1 << 18, initrd_length: 5_000_001 };

fn plan(notes: &[Note], config: &Config) -> Result<Plan, Error> {
    Plan::new(&Kernel::parse(&elf(notes))?, config)
}

/// Translates every page that the tables map, as a CPU would; checks that no entry is written twice.
fn walk_all(plan: &Plan) -> HashMap<u64, (u64, PteFlags)> {
    let mut tables: HashMap<u64, Vec<(usize, u64, PteFlags)>> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for entry in plan.page_table_entries() {
        assert!(seen.insert((entry.table, entry.index)));
        tables.entry(entry.table).or_default().push((entry.index, entry.target, entry.flags));
    }
    let mut level = vec![(0u64, plan.page_tables.start)];
    for shift in [39, 30, 21] {
        level = level
            .iter()
            .flat_map(|&(base, table)| {
                tables[&table].iter().map(move |&(index, target, _)| (base | (index as u64) << shift, target))
            })
            .collect();
    }
    let leaf = |(base, table): (u64, u64)| {
        tables[&table]
            .iter()
            .map(move |&(index, target, flags)| (base | (index as u64) << 12, (target, flags)))
            .collect::<Vec<_>>()
    };
    level.into_iter().flat_map(leaf).collect()
}

fn check(plan: &Plan) {
    // Frames: the ranges follow one another and end at the domain's size.
    let mut next = 0;
    let outside = |range: &std::ops::Range<u64>| range.start >= plan.initial.end;
    let parts = [&plan.initial, &plan.initrd, &plan.p2m, &plan.p2m_tables, &plan.rest];
    for (index, range) in parts.into_iter().enumerate() {
        if index == 0 || outside(range) {
            assert_eq!(range.start, next);
            next = range.end;
        }
    }
    assert_eq!(next, plan.pages);
    let pages = walk_all(plan);
    let low = |address: u64| address & 0xffff_ffff_ffff;
    for page in plan.initial.clone() {
        let (frame, flags) = pages[&low(plan.layout.mapped.start + (page << 12))];
        assert_eq!(frame, page);
        assert_eq!(flags.contains(PteFlags::WRITABLE), !plan.page_tables.contains(&page));
        assert!(flags.contains(PteFlags::PRESENT | PteFlags::USER));
    }
    let mut mapped = plan.initial.end;
    if !plan.p2m_tables.is_empty() {
        for page in 0..plan.p2m.end - plan.p2m.start {
            assert_eq!(pages[&low(plan.layout.p2m.start + (page << 12))].0, plan.p2m.start + page);
        }
        mapped += plan.p2m.end - plan.p2m.start;
    }
    assert_eq!(pages.len() as u64, mapped);
    let layout = &plan.layout;
    assert!(layout.mapped.end - layout.stack.end >= 512 << 10);
    assert_eq!(layout.mapped.end % (4 << 20), 0);
    let (frame, index) = plan.p2m_slot(plan.pages - 1);
    assert!(plan.p2m.contains(&frame) && index < 512);
}

#[test]
fn linux_layout() {
    let plan = plan(&linux_notes(), &CONFIG).unwrap();
    check(&plan);
    let layout = &plan.layout;
    assert_eq!(layout.kernel, VIRT_BASE + 0x100_0000..VIRT_BASE + 0x1a0_0000);
    assert_eq!(layout.start_info.start, VIRT_BASE + 0x1a0_0000);
    assert_eq!(layout.page_tables.start, VIRT_BASE + 0x1a0_1000);
    // One table each of levels 4, 3 and 2, and one of level 1 for each 2 MiB.
    assert_eq!(layout.mapped.end, VIRT_BASE + 0x1c0_0000);
    assert_eq!(plan.page_tables, 0x1a01..0x1a01 + 3 + 14);
    assert_eq!(layout.stack, layout.page_tables.end..layout.page_tables.end + 4096);
    assert_eq!(plan.initial, 0..0x1c00);
    assert_eq!(plan.initrd, 0x1c00..0x1c00 + 1221);
    assert_eq!(plan.p2m, plan.initrd.end..plan.initrd.end + 512);
    assert_eq!(plan.p2m_tables, plan.p2m.end..plan.p2m.end + 3);
    assert_eq!(plan.rest, plan.p2m_tables.end..1 << 18);
    assert_eq!(plan.p2m_slot(513), (plan.p2m.start + 1, 1));
    let entry = plan.entry_state();
    assert_eq!((entry.rip, entry.rsp, entry.rsi), (ENTRY, layout.stack.end, layout.start_info.start));
    assert_eq!((entry.rflags, entry.cs, entry.ss), (0x200, 0xe033, 0xe02b));
}

#[test]
fn start_page_of_linux() {
    let plan = plan(&linux_notes(), &CONFIG).unwrap();
    let mut page = [0xff; 4096];
    let mut console = Dom0VgaConsoleInfo::new_zeroed();
    console.video_type = 3;
    let parameters = StartParameters {
        shared_info: 0x1234_5000,
        command_line: &[b'x'; 2000],
        power_management: 0xf07,
        console: Some(&console),
    };
    assert_eq!(plan.write_start_page(&parameters, &mut page), 0x1a00);
    let (info, rest) = StartInfo::read_from_prefix(&page).unwrap();
    assert_eq!(&info.magic[..16], b"xen-3.0-x86_64p\0");
    assert_eq!((info.nr_pages, info.shared_info), (1 << 18, 0x1234_5000));
    assert_eq!(info.flags, 1 | 2 | 8 | 0x700);
    assert_eq!((info.pt_base, info.nr_pt_frames), (plan.layout.page_tables.start, 17));
    assert_eq!(info.mfn_list, 0x80_0000_0000);
    assert_eq!((info.mod_start, info.mod_len), (0x1c00, 5_000_001));
    assert_eq!((info.first_p2m_pfn, info.nr_p2m_frames), (plan.p2m.start, 515));
    assert_eq!((info.cmd_line[1022], info.cmd_line[1023]), (b'x', 0));
    assert_eq!(info.console.read::<[u32; 2]>(), [1168, 24.max(size_of::<Dom0VgaConsoleInfo>() as u32)]);
    assert_eq!(rest[0], 3);
    plan.write_start_page(&StartParameters::default(), &mut page);
    let (info, rest) = StartInfo::read_from_prefix(&page).unwrap();
    assert_eq!((info.flags, info.cmd_line[0], info.console.0), (1 | 2 | 8, 0, [0; 2]));
    assert!(rest.iter().all(|&byte| byte == 0));
}

#[test]
fn kernels_without_init_p2m_and_mod_start_pfn_get_a_row() {
    let notes: Vec<Note> = linux_notes().into_iter().filter(|note| !matches!(note.kind, 15 | 0x10)).collect();
    let plan = plan(&notes, &CONFIG).unwrap();
    check(&plan);
    assert_eq!(plan.initrd, 0x1a00..0x1a00 + 1221);
    assert_eq!(plan.p2m, plan.initrd.end..plan.initrd.end + 512);
    assert_eq!(plan.layout.start_info.start, plan.layout.p2m.end);
    assert!(plan.p2m_tables.is_empty());
    let mut page = [0; 4096];
    plan.write_start_page(&StartParameters::default(), &mut page);
    let (info, _) = StartInfo::read_from_prefix(&page).unwrap();
    assert_eq!((info.flags, info.mod_start), (3, plan.layout.initrd.start));
    assert_eq!((info.mfn_list, info.nr_p2m_frames), (plan.layout.p2m.start, 0));
}

#[test]
fn segments_say_what_to_copy() {
    let elf = elf(&linux_notes());
    let kernel = Kernel::parse(&elf).unwrap();
    let [first, second] = kernel.segments() else { panic!() };
    assert_eq!((first.offset, first.data.len(), first.zeros), (0x100_0000, 70_000, 0));
    assert_eq!((second.offset, second.zeros), (0x180_0000, 0x20_0000 - 300));
    assert!(first.data == code(70_000));
}

#[test]
fn too_little_memory_is_said_in_figures() {
    let error = plan(&linux_notes(), &Config { pages: 8000, ..CONFIG }).unwrap_err();
    let needed = 0x1c00 + 1221 + 16 + 3;
    assert_eq!(error, Error::MemoryTooSmall { given: 8000, needed });
    assert!(error.to_string().contains("dom0 has 31 MiB and needs 33 MiB at least"), "{error}");
    assert!(error.to_string().contains("dom0_mem"));
    assert!(plan(&linux_notes(), &Config { pages: 0, initrd_length: 0 }).is_err());
    let exact = Config { pages: needed + 1, ..CONFIG };
    check(&plan(&linux_notes(), &exact).unwrap());
}

/// The notes of Linux with one replaced or, without a value, left out.
fn changed(kind: u32, value: Option<&[u8]>) -> Vec<Note> {
    let mut notes: Vec<Note> = linux_notes().into_iter().filter(|note| note.kind != kind).collect();
    notes.extend(value.map(|value| note(kind, value)));
    notes
}

#[test]
fn kernels_that_cannot_be_dom0_are_refused() {
    let refused = |kind: u32, value: Option<&[u8]>| plan(&changed(kind, value), &CONFIG).unwrap_err();
    assert_eq!(refused(17, Some(&1u32.to_le_bytes())), Error::NotDom0Capable);
    let error = refused(10, Some(b"pae_pgdir_above_4gb|!supervisor_mode_kernel\0"));
    assert!(error.to_string().contains("the feature supervisor_mode_kernel,"), "{error}");
    assert!(matches!(refused(10, Some(b"!flying_pages")), Error::UnmetFeature { .. }));
    assert!(matches!(refused(5, None), Error::BadNote { note: "XEN_VERSION", .. }));
    assert!(matches!(refused(5, Some(b"xen-4.0\0")), Error::BadNote { note: "XEN_VERSION", .. }));
    assert!(matches!(refused(8, Some(b"special\0")), Error::BadNote { note: "LOADER", .. }));
    assert!(matches!(refused(3, None), Error::BadNote { note: "VIRT_BASE", .. }));
    assert!(matches!(refused(1, None), Error::BadNote { note: "ENTRY", .. }));
    assert!(matches!(refused(1, Some(&[1, 2, 3])), Error::BadNote { note: "ENTRY", .. }));
    assert!(matches!(refused(1, Some(&VIRT_BASE.to_le_bytes())), Error::BadNote { note: "ENTRY", .. }));
    assert!(matches!(refused(2, Some(&VIRT_BASE.to_le_bytes())), Error::BadNote { note: "HYPERCALL_PAGE", .. }));
    assert!(matches!(refused(15, Some(&0xffff_8000_0000_0000u64.to_le_bytes())), Error::Overlap(_)));
    assert!(matches!(refused(15, Some(&VIRT_BASE.to_le_bytes())), Error::Overlap(_)));
    assert!(matches!(refused(4, Some(&0x200_0000u32.to_le_bytes())), Error::BadElf(_)));
    assert_eq!(Kernel::parse(&elf(&linux_notes()[..1])).unwrap_err(), Error::NoXenNote);
    let with_page = plan(&changed(2, Some(&(VIRT_BASE + 0x100_2000).to_le_bytes())), &CONFIG).unwrap();
    assert_eq!(with_page.hypercall_page, Some(0x1002));
    let mut image = elf(&linux_notes());
    image[18] = 183;
    assert_eq!(Kernel::parse(&image).unwrap_err(), Error::NotX86_64 { class: 2, machine: 183 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_plan_is_sound(pages in 8000u64..200_000, initrd_length in 0u64..30_000_000, p2m: bool, unmapped: bool) {
        let keep = |note: &Note| (p2m || note.kind != 15) && (unmapped || note.kind != 0x10);
        let notes: Vec<Note> = linux_notes().into_iter().filter(keep).collect();
        match plan(&notes, &Config { pages, initrd_length }) {
            Ok(plan) => check(&plan),
            Err(Error::MemoryTooSmall { given, needed }) => prop_assert!(given == pages && needed > pages),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn damaged_elf_never_panics(
        changes in prop::collection::vec((0usize..900, any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        shorten: bool,
        pages: u64,
        initrd_length: u64,
    ) {
        let mut image = elf(&linux_notes());
        for (at, byte) in changes {
            image[at] = byte;
        }
        if shorten {
            image.truncate(cut.index(image.len()));
        }
        if let Ok(kernel) = Kernel::parse(&image) {
            let _ = Plan::new(&kernel, &Config { pages, initrd_length });
        }
    }
}
