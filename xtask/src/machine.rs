//! The emulated machine: QEMU's command line.

use crate::cli::{Accel, Hypervisor, RunOptions};
use crate::grub::GrubDisk;
use crate::image::Dom0;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// QEMU's program.
pub const QEMU: &str = "qemu-system-x86_64";

/// Leaves QEMU when followed by `x`: Ctrl-\, since Ctrl-a is the hypervisor's and Ctrl-] the guest console's.
const ESCAPE: &str = "0x1c";

/// Gives what is typed after it to QEMU's monitor instead of the machine's console.
pub const MONITOR: &str = "\x1cc";

/// CPU model: one that has SVM, less what TCG does not emulate right.
const CPU: &str = "EPYC,+svm,+npt,-monitor,-rdtscp";

/// Where the serial console goes.
pub enum Console<'a> {
    /// The terminal, with a copy in a file.
    Terminal { log: &'a Path },
    /// Standard input and output of QEMU, with a copy in a file; the machine ends where it would reset.
    Pipe { log: &'a Path },
}

/// What the machine boots.
pub struct Payload<'a> {
    /// The hypervisor; `None` boots the kernel alone.
    pub image: Option<&'a Path>,
    /// dom0's files.
    pub dom0: &'a Dom0,
    /// GRUB with these files; `None` where QEMU loads them.
    pub grub: Option<&'a GrubDisk>,
}

/// The channels of a script: files in this folder.
pub struct Channels<'a> {
    /// The folder; `out`, `err` and `status` are made in it.
    pub folder: &'a Path,
    /// A disk with the job, for a dom0 that does not get it in its initial RAM file system.
    pub disk: Option<&'a Path>,
}

/// The hypervisor's command line.
pub fn hypervisor_arguments(options: &RunOptions) -> String {
    let mib = options.dom0_mem;
    let mut line = match options.hypervisor {
        Hypervisor::None => return String::new(),
        Hypervisor::Xenolith | Hypervisor::Xen => {
            format!("console=com1 com1=115200,8n1 dom0_mem={mib}M,max:{mib}M loglvl=all guest_loglvl=all")
        }
    };
    if options.hypervisor == Hypervisor::Xen {
        // TCG's MWAIT faults on what Debian's Xen does with it; with FPU state switched lazily, dom0's programs lose
        // register contents when a guest runs beside it.
        line.push_str(" cpuidle=0 spec-ctrl=eager-fpu");
    }
    if let Some(more) = &options.xen_args {
        write!(line, " {more}").expect("a string takes everything");
    }
    line
}

/// dom0's command line.
pub fn dom0_arguments(options: &RunOptions, dom0: &Dom0) -> String {
    let console = if options.hypervisor == Hypervisor::None { "ttyS0" } else { "hvc0" };
    let mut line = format!("console={console} xenolith.store={}", options.store.name());
    if dom0.root.is_some() {
        line.push_str(" root=/dev/vda ro");
    }
    if let Some(more) = &options.dom0_args {
        write!(line, " {more}").expect("a string takes everything");
    }
    line
}

/// The command that runs the machine.
pub fn command(options: &RunOptions, payload: &Payload, console: &Console, channels: Option<&Channels>) -> Command {
    // setpriv ends QEMU with this process, however that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU, "-nodefaults", "-M", "q35", "-display", "none"]);
    command.arg("-cpu").arg(options.cpu.as_deref().unwrap_or(CPU));
    match options.accel {
        Accel::Tcg if options.icount || options.profile => {
            command.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"])
        }
        Accel::Tcg => command.args(["-accel", "tcg,thread=multi"]),
        Accel::Kvm => command.args(["-accel", "kvm"]),
    };
    command.arg("-smp").arg(options.smp.to_string()).arg("-m").arg(options.mem.to_string());
    let (Console::Terminal { log } | Console::Pipe { log }) = console;
    let chardev = format!("stdio,id=console,mux=on,signal=off,logfile={}", escape(log));
    command.args(["-echr", ESCAPE, "-chardev", &chardev, "-mon", "chardev=console", "-serial", "chardev:console"]);
    if matches!(console, Console::Pipe { .. }) {
        command.arg("-no-reboot");
    }
    match payload.grub {
        Some(grub) => grub.attach(&mut command),
        None => load(&mut command, options, payload),
    }
    devices(&mut command, payload.dom0, channels);
    if options.gdb {
        command.args(["-gdb", "tcp:127.0.0.1:1234", "-S"]);
    }
    command.args(&options.qemu_args);
    command
}

/// Kernel, modules and their command lines, as QEMU's own loader takes them.
fn load(command: &mut Command, options: &RunOptions, payload: &Payload) {
    let dom0 = payload.dom0;
    let arguments = dom0_arguments(options, dom0);
    let Some(image) = payload.image else {
        command.arg("-kernel").arg(&dom0.kernel).arg("-initrd").arg(&dom0.initrd).args(["-append", &arguments]);
        return;
    };
    command.arg("-kernel").arg(image).arg("-append").arg(hypervisor_arguments(options));
    if !options.no_modules {
        // A module is `path arguments`; a comma begins the next one.
        let kernel = format!("{} {}", dom0.kernel.display(), arguments);
        command.arg("-initrd").arg(format!("{},{}", kernel.replace(',', ",,"), escape(&dom0.initrd)));
    }
}

fn devices(command: &mut Command, dom0: &Dom0, channels: Option<&Channels>) {
    command.args(["-nic", "user,model=virtio-net-pci"]);
    let mut drive = |path: &Path, device: &str, mode: &str| {
        command.arg("-drive").arg(format!("file={},format=raw,if=none,id={device},{mode}", escape(path)));
        command.arg("-device").arg(format!("virtio-blk-pci,drive={device},serial={device}"));
    };
    if let Some(disk) = &dom0.root {
        drive(disk, "dom0-root", "snapshot=on");
    }
    for (name, disk) in &dom0.disks {
        drive(disk, name, "snapshot=on");
    }
    let Some(channels) = channels else {
        return;
    };
    if let Some(disk) = channels.disk {
        drive(disk, "xenolith-job", "readonly=on");
    }
    command.args(["-device", "virtio-serial-pci,max_ports=4"]);
    for name in ["out", "err", "status"] {
        command.arg("-chardev").arg(format!("file,id={name},path={}", escape(&channels.folder.join(name))));
        command.arg("-device").arg(format!("virtserialport,chardev={name},name=xenolith.{name}"));
    }
}

/// A path inside one of QEMU's option lists.
pub fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
