//! The stock kernel that the environment variable XENOLITH_TEST_KERNEL names.

use dom0::{Config, Kernel, Payload, Plan};

#[test]
fn stock_kernel_is_planned() {
    let Ok(path) = std::env::var("XENOLITH_TEST_KERNEL") else {
        eprintln!("skipped: set XENOLITH_TEST_KERNEL to the path of a distribution's kernel to run this test");
        return;
    };
    let module = std::fs::read(&path).unwrap();
    let payload = Payload::find(&module).unwrap();
    let mut buffer = vec![0; payload.unpacked_size()];
    let kernel = Kernel::parse(payload.unpack(&mut buffer).unwrap()).unwrap();
    let notes = kernel.notes();
    assert_eq!(kernel.virt_base, 0xffff_ffff_8000_0000);
    assert_eq!(notes.init_p2m, Some(0x80_0000_0000));
    assert_eq!(notes.hypercall_page, None);
    assert!(notes.mod_start_pfn && notes.pae && notes.xen_version);
    assert_eq!(kernel.start, 0xffff_ffff_8100_0000);
    let plan = Plan::new(&kernel, &Config { pages: 1 << 18, initrd_length: 37_344_502 }).unwrap();
    let layout = &plan.layout;
    assert_eq!(layout.start_info.start, kernel.end.next_multiple_of(4096));
    assert_eq!(layout.page_tables.start, layout.start_info.start + 4096);
    let level1 = (layout.mapped.end - layout.mapped.start) >> 21;
    assert_eq!(plan.page_tables.end - plan.page_tables.start, 3 + level1);
    // What Xen 4.20 prints for Debian's 6.12.107.
    if path.ends_with("6.12.107+deb13-amd64") {
        assert_eq!(kernel.entry, 0xffff_ffff_8336_4760);
        assert_eq!(kernel.end, 0xffff_ffff_8420_0000);
        assert_eq!(plan.page_tables.end - plan.page_tables.start, 37);
        assert_eq!(layout.mapped.end, 0xffff_ffff_8440_0000);
    }
}
