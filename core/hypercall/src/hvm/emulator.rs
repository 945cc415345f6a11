//! dm_op (hvm/dm_op.h): what a device emulator asks for.

use super::translated;
use crate::{Args, Caller, Outcome};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::mem::{offset_of, size_of};
use domain::{Arch, BoardSignal, Domain, GivenEvent, ServerHost, ShutdownCode};
use ioreq::Servers;
use p2m::Type;
use types::{Errno, Gfn, Progress, Result, VcpuId};
use xen_abi::GuestHandle;
use xen_abi::dm_op::*;
use xen_abi::hvm_op::*;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Buffers that a request may have.
const MAX_BUFFERS: usize = 2;
/// PCI devices, wires of each, links to ISA interrupts, and these.
const PCI_DEVICES: u8 = 32;
const PCI_WIRES: u8 = 4;
const PCI_LINKS: u8 = 4;
const ISA_IRQS: u8 = 16;
/// Guest frames that are done before somebody else may want the CPU.
const CHUNK: u64 = 256;

/// Frames of video memory that can be tracked: 1 GiB.
const MOST_VRAM: u32 = 1 << 18;

type Buffers = ArrayVec<DmOpBuf, MAX_BUFFERS>;

/// What came of a request: whether its structure is to be copied back.
type Done = Result<bool>;

/// A request, and who makes it for whom.
struct Call<'a, 'b, A: Arch> {
    caller: &'a Caller<'b, A>,
    domain: &'a Arc<Domain<A>>,
    servers: Servers<'a, ServerHost<'a, A>>,
    /// The buffer beside the request's structure.
    data: Option<&'a DmOpBuf>,
}

/// HYPERVISOR_dm_op: domain, number of buffers, address of their list.
pub fn dm_op<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    match buffers(caller, args).and_then(|buffers| request(caller, args[0] as u16, &buffers)) {
        Ok(()) => Outcome::Done(0),
        Err(Errno::RESTART) => Outcome::Again(args),
        Err(errno) => errno.into(),
    }
}

fn buffers<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Result<Buffers> {
    let (count, list) = (args[1] as u32, GuestHandle::<DmOpBuf>::new(args[2]));
    let mut buffers = Buffers::new();
    for index in 0..count {
        if buffers.is_full() {
            return Err(Errno::TOOBIG);
        }
        buffers.push(caller.read(list.offset(index.into()))?);
    }
    if buffers.is_empty() { Err(Errno::NODATA) } else { Ok(buffers) }
}

/// Bytes of a request's structure; `None` for one that there is not.
fn size(op: u32) -> Option<usize> {
    Some(match op {
        XEN_DMOP_CREATE_IOREQ_SERVER => size_of::<CreateIoreqServer>(),
        XEN_DMOP_GET_IOREQ_SERVER_INFO => size_of::<GetIoreqServerInfo>(),
        XEN_DMOP_MAP_IO_RANGE_TO_IOREQ_SERVER | XEN_DMOP_UNMAP_IO_RANGE_FROM_IOREQ_SERVER => {
            size_of::<IoreqServerRange>()
        }
        XEN_DMOP_SET_IOREQ_SERVER_STATE => size_of::<SetIoreqServerState>(),
        XEN_DMOP_DESTROY_IOREQ_SERVER => size_of::<DestroyIoreqServer>(),
        XEN_DMOP_TRACK_DIRTY_VRAM => size_of::<TrackDirtyVram>(),
        XEN_DMOP_RELOCATE_MEMORY => size_of::<RelocateMemory>(),
        XEN_DMOP_PIN_MEMORY_CACHEATTR => size_of::<PinMemoryCacheattr>(),
        XEN_DMOP_SET_PCI_INTX_LEVEL => size_of::<SetPciIntxLevel>(),
        XEN_DMOP_SET_ISA_IRQ_LEVEL => size_of::<SetIsaIrqLevel>(),
        XEN_DMOP_SET_PCI_LINK_ROUTE => size_of::<SetPciLinkRoute>(),
        XEN_DMOP_INJECT_EVENT => size_of::<InjectEvent>(),
        XEN_DMOP_INJECT_MSI => size_of::<InjectMsi>(),
        XEN_DMOP_MODIFIED_MEMORY => size_of::<ModifiedMemory>(),
        XEN_DMOP_SET_MEM_TYPE => size_of::<SetMemType>(),
        XEN_DMOP_MAP_MEM_TYPE_TO_IOREQ_SERVER => size_of::<MapMemTypeToIoreqServer>(),
        XEN_DMOP_REMOTE_SHUTDOWN => size_of::<RemoteShutdown>(),
        XEN_DMOP_NR_VCPUS => size_of::<NrVcpus>(),
        _ => return None,
    })
}

fn request<A: Arch>(caller: &Caller<'_, A>, raw: u16, buffers: &Buffers) -> Result<()> {
    let domain = caller.other_domain(raw)?;
    translated(&domain)?;
    caller.require_privilege()?;
    let servers = caller.hypervisor.servers(&domain).ok_or(Errno::INVAL)?;
    let header = offset_of!(DmOp, u);
    let (at, room) = (buffers[0].h.address(), buffers[0].size);
    let mut op = DmOp::new_zeroed();
    if room < header as u64 {
        return Err(Errno::FAULT);
    }
    caller.machine().copy_in(at, &mut op.as_mut_bytes()[..header])?;
    let Some(size) = size(op.op) else {
        let id = domain.id;
        caller.hypervisor.log_refusal(caller.domain.id, Errno::OPNOTSUPP, format_args!("dm_op {} on {id}", op.op));
        return Err(Errno::OPNOTSUPP);
    };
    let whole = header + size;
    if room < whole as u64 {
        return Err(Errno::FAULT);
    }
    caller.machine().copy_in(at.wrapping_add(header as u64), &mut op.as_mut_bytes()[header..whole])?;
    if op.pad != 0 {
        return Err(Errno::INVAL);
    }
    let done = Call { caller, domain: &domain, servers, data: buffers.get(1) }.carry_out(&mut op);
    if matches!(done, Ok(true) | Err(Errno::RESTART)) {
        caller.machine().copy_out(at, &op.as_bytes()[..whole])?;
    }
    done.map(|_| ())
}

/// Lets a request work on its own structure.
fn with<T: FromBytes + IntoBytes + Immutable>(op: &mut DmOp, act: impl FnOnce(&mut T) -> Done) -> Done {
    let mut value = op.u.read::<T>();
    let done = act(&mut value);
    op.u.write(&value);
    done
}

/// Refuses what has to be zero and is not.
fn zero(pad: u64) -> Result<()> {
    if pad == 0 { Ok(()) } else { Err(Errno::INVAL) }
}

/// XEN_DMOP_pin_memory_cacheattr. All memory is cached, as no guest has a device that could see the difference.
fn pin_caching(op: &mut PinMemoryCacheattr) -> Done {
    zero(op.pad.into())?;
    let is_known = matches!(
        op.r#type,
        XEN_DMOP_MEM_CACHEATTR_UC
            | XEN_DMOP_MEM_CACHEATTR_WC
            | XEN_DMOP_MEM_CACHEATTR_WT
            | XEN_DMOP_MEM_CACHEATTR_WP
            | XEN_DMOP_MEM_CACHEATTR_WB
            | XEN_DMOP_MEM_CACHEATTR_UCM
            | XEN_DMOP_DELETE_MEM_CACHEATTR
    );
    if is_known && op.start <= op.end { Ok(false) } else { Err(Errno::INVAL) }
}

/// Refuses a number that there is not.
fn below(number: u8, count: u8) -> Result<u8> {
    if number < count { Ok(number) } else { Err(Errno::INVAL) }
}

/// Whether a wire goes up.
fn level(level: u8) -> Result<bool> {
    below(level, 2).map(|level| level != 0)
}

impl<A: Arch> Call<'_, '_, A> {
    fn carry_out(&self, op: &mut DmOp) -> Done {
        match op.op {
            XEN_DMOP_CREATE_IOREQ_SERVER => with(op, |op| self.create(op)),
            XEN_DMOP_GET_IOREQ_SERVER_INFO => with(op, |op| self.info(op)),
            XEN_DMOP_MAP_IO_RANGE_TO_IOREQ_SERVER => with(op, |op: &mut IoreqServerRange| {
                zero(op.pad.into())?;
                self.servers.map_range(op.id, self.emulator(), op.r#type, op.start, op.end)?;
                Ok(false)
            }),
            XEN_DMOP_UNMAP_IO_RANGE_FROM_IOREQ_SERVER => with(op, |op: &mut IoreqServerRange| {
                zero(op.pad.into())?;
                self.servers.unmap_range(op.id, self.emulator(), op.r#type, op.start, op.end)?;
                Ok(false)
            }),
            XEN_DMOP_SET_IOREQ_SERVER_STATE => with(op, |op: &mut SetIoreqServerState| {
                zero(op.pad.into())?;
                self.while_paused(|| self.servers.set_enabled(op.id, self.emulator(), op.enabled != 0))?;
                Ok(false)
            }),
            XEN_DMOP_DESTROY_IOREQ_SERVER => with(op, |op: &mut DestroyIoreqServer| {
                zero(op.pad.into())?;
                self.while_paused(|| self.servers.destroy(op.id, self.emulator()))?;
                Ok(false)
            }),
            XEN_DMOP_TRACK_DIRTY_VRAM => with(op, |op| self.written_vram(op)),
            XEN_DMOP_RELOCATE_MEMORY => with(op, |op| self.relocate(op)),
            XEN_DMOP_PIN_MEMORY_CACHEATTR => with(op, pin_caching),
            XEN_DMOP_SET_PCI_INTX_LEVEL => with(op, |op| self.set_pci(op)),
            XEN_DMOP_SET_ISA_IRQ_LEVEL => with(op, |op: &mut SetIsaIrqLevel| {
                let (irq, up) = (below(op.isa_irq, ISA_IRQS)?, level(op.level)?);
                self.signal(BoardSignal::IsaIrq { irq, up })
            }),
            XEN_DMOP_SET_PCI_LINK_ROUTE => with(op, |op: &mut SetPciLinkRoute| {
                let (link, irq) = (below(op.link, PCI_LINKS)?, below(op.isa_irq, ISA_IRQS)?);
                self.signal(BoardSignal::LinkRoute { link, irq })
            }),
            XEN_DMOP_INJECT_MSI => with(op, |op: &mut InjectMsi| {
                zero(op.pad.into())?;
                self.signal(BoardSignal::Msi { address: op.addr, data: op.data })
            }),
            XEN_DMOP_INJECT_EVENT => with(op, |op| self.give_event(op)),
            // Nobody keeps account of what was written.
            XEN_DMOP_MODIFIED_MEMORY => Ok(false),
            XEN_DMOP_SET_MEM_TYPE => with(op, |op| self.set_type(op)),
            XEN_DMOP_MAP_MEM_TYPE_TO_IOREQ_SERVER => with(op, |op| self.claim_type(op)),
            XEN_DMOP_REMOTE_SHUTDOWN => with(op, |op: &mut RemoteShutdown| {
                self.caller.hypervisor.shut_down(self.domain, ShutdownCode(op.reason as u8));
                Ok(false)
            }),
            _ => with(op, |op: &mut NrVcpus| {
                op.vcpus = self.domain.creation.max_vcpus;
                Ok(true)
            }),
        }
    }

    fn signal(&self, signal: BoardSignal) -> Done {
        self.caller.machine().signal_board(self.caller.hypervisor, self.domain, signal)?;
        Ok(false)
    }

    /// XEN_DMOP_set_pci_intx_level: there is one bus.
    fn set_pci(&self, op: &mut SetPciIntxLevel) -> Done {
        if op.domain != 0 || op.bus != 0 {
            return Err(Errno::INVAL);
        }
        let (device, intx) = (below(op.device, PCI_DEVICES)?, below(op.intx, PCI_WIRES)?);
        self.signal(BoardSignal::PciIntx { device, intx, up: level(op.level)? })
    }

    /// XEN_DMOP_inject_event.
    fn give_event(&self, op: &mut InjectEvent) -> Done {
        zero(u64::from(op.pad0) | u64::from(op.pad1))?;
        let vcpu = self.domain.vcpu(VcpuId(op.vcpuid)).ok_or(Errno::INVAL)?;
        let event = GivenEvent {
            vector: op.vector,
            kind: op.r#type,
            length: op.insn_len,
            error_code: op.error_code,
            cr2: op.cr2,
        };
        self.caller.machine().give_event(self.caller.hypervisor, vcpu, event)?;
        Ok(false)
    }

    /// Who asks: a server is his who made it.
    fn emulator(&self) -> types::DomId {
        self.caller.domain.id
    }

    /// Acts while no vCPU of the domain runs.
    fn while_paused<T>(&self, act: impl FnOnce() -> T) -> T {
        self.caller.hypervisor.pause_domain(self.domain);
        let value = act();
        self.caller.hypervisor.unpause_domain(self.domain);
        value
    }

    fn create(&self, op: &mut CreateIoreqServer) -> Done {
        zero(op.pad.iter().map(|&byte| u64::from(byte)).sum())?;
        let vcpus = self.domain.vcpus().iter().map(|vcpu| vcpu.id);
        op.id = self.while_paused(|| self.servers.create(self.emulator(), op.handle_bufioreq, vcpus))?;
        Ok(true)
    }

    fn info(&self, op: &mut GetIoreqServerInfo) -> Done {
        zero((op.flags & !XEN_DMOP_NO_GFNS).into())?;
        let frames = op.flags & XEN_DMOP_NO_GFNS == 0;
        let info = self.servers.info(op.id, self.emulator(), frames)?;
        if let Some(gfn) = info.requests {
            op.ioreq_gfn = gfn.0;
        }
        if let Some(gfn) = info.ring {
            op.bufioreq_gfn = gfn.0;
        }
        op.bufioreq_port = info.ring_port.unwrap_or(op.bufioreq_port);
        Ok(true)
    }

    /// XEN_DMOP_track_dirty_vram: which frames of a range were written since it was last asked, a bit each.
    fn written_vram(&self, op: &mut TrackDirtyVram) -> Done {
        zero(op.pad.into())?;
        if op.nr > MOST_VRAM {
            return Err(Errno::INVAL);
        }
        let bitmap = self.data.ok_or(Errno::INVAL)?;
        if bitmap.size < u64::from(op.nr.div_ceil(8)) {
            return Err(Errno::TOOBIG);
        }
        let at = bitmap.h.address();
        self.caller.hypervisor.written_vram(self.domain, Gfn(op.first_pfn), op.nr, |first, bits| {
            self.caller.machine().copy_out(at.wrapping_add(u64::from(first / 8)), bits)
        })?;
        Ok(false)
    }

    /// XEN_DMOP_relocate_memory: frames get other places, one by one. The structure says how far it came.
    fn relocate(&self, op: &mut RelocateMemory) -> Done {
        zero(op.pad.into())?;
        let p2m = self.domain.p2m().ok_or(Errno::INVAL)?;
        let mut result = Ok(true);
        let mut done = 0;
        while done < op.size && result.is_ok() {
            let (from, to) = (op.src_gfn.wrapping_add(done.into()), op.dst_gfn.wrapping_add(done.into()));
            result = crate::memory::physmap::relocate(self.caller, self.domain, from, to).map(|()| true);
            done += u32::from(result.is_ok());
            if done < op.size && u64::from(done) % CHUNK == 0 && self.caller.machine().should_yield() {
                result = Err(Errno::RESTART);
            }
        }
        let _rest = p2m.flush(self.caller.machine());
        op.size -= done;
        op.src_gfn = op.src_gfn.wrapping_add(done.into());
        op.dst_gfn = op.dst_gfn.wrapping_add(done.into());
        result
    }

    /// XEN_DMOP_set_mem_type: what frames are, one by one. The structure says how far it came.
    fn set_type(&self, op: &mut SetMemType) -> Done {
        zero(op.pad.into())?;
        let p2m = self.domain.p2m().ok_or(Errno::INVAL)?;
        let last = op.first_pfn.checked_add(u64::from(op.nr)).and_then(|end| end.checked_sub(1));
        let last = last.filter(|&last| op.first_pfn <= last && last <= p2m.max_mapped_gfn().0);
        last.ok_or(Errno::INVAL)?;
        let to = match op.mem_type {
            HVMMEM_RAM_RW => Type::RamRw,
            HVMMEM_RAM_RO => Type::RamRo,
            HVMMEM_MMIO_DM => Type::MmioDm,
            HVMMEM_IOREQ_SERVER if self.servers.claim().is_some() => Type::IoreqServer,
            _ => return Err(Errno::INVAL),
        };
        let mut result = Ok(true);
        let mut done = 0;
        while done < u64::from(op.nr) && result.is_ok() {
            result = self.retype(Gfn(op.first_pfn + done), to).map(|()| true);
            done += u64::from(result.is_ok());
            if done < u64::from(op.nr) && done % CHUNK == 0 && self.caller.machine().should_yield() {
                result = Err(Errno::RESTART);
            }
        }
        let _rest = p2m.flush(self.caller.machine());
        op.first_pfn += done;
        op.nr -= done as u32;
        result
    }

    fn retype(&self, gfn: Gfn, to: Type) -> Result<()> {
        let p2m = self.domain.p2m().ok_or(Errno::INVAL)?;
        let from = p2m.get(gfn).ty;
        let allowed = match (from, to) {
            (_, Type::IoreqServer) => from == Type::RamRw,
            (Type::IoreqServer, _) => to == Type::RamRw,
            (_, Type::MmioDm) => from.is_ram() || from.is_hole(),
            _ => from.is_ram(),
        };
        if !allowed {
            return Err(Errno::INVAL);
        }
        if to != Type::MmioDm {
            return p2m.change_type(gfn, from, to).map(|_flushed_later| ());
        }
        // What was there stays the domain's, without a place.
        crate::memory::placement::displaced(self.caller.machine(), p2m.clear(gfn, 0)?.before);
        Ok(())
    }

    /// XEN_DMOP_map_mem_type_to_ioreq_server. At its end what is left of the type becomes ordinary memory.
    fn claim_type(&self, op: &mut MapMemTypeToIoreqServer) -> Done {
        let p2m = self.domain.p2m().ok_or(Errno::INVAL)?;
        if op.opaque == 0 {
            let entries = p2m.claimed_entries();
            self.servers.claim_memory(op.id, self.emulator(), op.r#type, op.flags, entries)?;
        }
        if op.flags != 0 {
            return Ok(true);
        }
        let (first, end) = (Gfn(op.opaque), Gfn(u64::MAX));
        let progress = p2m.change_type_range(first, end, Type::IoreqServer, Type::RamRw, self.caller.machine())?;
        let _rest = p2m.flush(self.caller.machine());
        match progress {
            Progress::Done(()) => Ok(true),
            Progress::Again(cursor) => {
                op.opaque = cursor.0;
                Err(Errno::RESTART)
            }
        }
    }
}
