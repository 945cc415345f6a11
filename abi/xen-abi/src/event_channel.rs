//! event_channel.h: `HYPERVISOR_event_channel_op`, the two-level and the FIFO layout of event state.

use crate::Union;

abi_constants! {
    "event_channel.h";
    EVTCHNOP_BIND_INTERDOMAIN: u32 = 0 => "EVTCHNOP_bind_interdomain";
    EVTCHNOP_BIND_VIRQ: u32 = 1 => "EVTCHNOP_bind_virq";
    EVTCHNOP_BIND_PIRQ: u32 = 2 => "EVTCHNOP_bind_pirq";
    EVTCHNOP_CLOSE: u32 = 3 => "EVTCHNOP_close";
    EVTCHNOP_SEND: u32 = 4 => "EVTCHNOP_send";
    EVTCHNOP_STATUS: u32 = 5 => "EVTCHNOP_status";
    EVTCHNOP_ALLOC_UNBOUND: u32 = 6 => "EVTCHNOP_alloc_unbound";
    EVTCHNOP_BIND_IPI: u32 = 7 => "EVTCHNOP_bind_ipi";
    EVTCHNOP_BIND_VCPU: u32 = 8 => "EVTCHNOP_bind_vcpu";
    EVTCHNOP_UNMASK: u32 = 9 => "EVTCHNOP_unmask";
    EVTCHNOP_RESET: u32 = 10 => "EVTCHNOP_reset";
    EVTCHNOP_INIT_CONTROL: u32 = 11 => "EVTCHNOP_init_control";
    EVTCHNOP_EXPAND_ARRAY: u32 = 12 => "EVTCHNOP_expand_array";
    EVTCHNOP_SET_PRIORITY: u32 = 13 => "EVTCHNOP_set_priority";

    BIND_PIRQ__WILL_SHARE: u32 = 1;

    EVTCHNSTAT_CLOSED: u32 = 0 => "EVTCHNSTAT_closed";
    EVTCHNSTAT_UNBOUND: u32 = 1 => "EVTCHNSTAT_unbound";
    EVTCHNSTAT_INTERDOMAIN: u32 = 2 => "EVTCHNSTAT_interdomain";
    EVTCHNSTAT_PIRQ: u32 = 3 => "EVTCHNSTAT_pirq";
    EVTCHNSTAT_VIRQ: u32 = 4 => "EVTCHNSTAT_virq";
    EVTCHNSTAT_IPI: u32 = 5 => "EVTCHNSTAT_ipi";

    EVTCHN_2L_NR_CHANNELS: u64 = 4096;
    EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
    EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
    EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
    EVTCHN_FIFO_MAX_QUEUES: u32 = 16;
    /// Bit of an event word: an event waits.
    EVTCHN_FIFO_PENDING: u32 = 31;
    /// Bit of an event word: the guest wants no notification.
    EVTCHN_FIFO_MASKED: u32 = 30;
    /// Bit of an event word: the port is in a queue.
    EVTCHN_FIFO_LINKED: u32 = 29;
    /// Bit of an event word: the hypervisor is unlinking the port.
    EVTCHN_FIFO_BUSY: u32 = 28;
    EVTCHN_FIFO_LINK_BITS: u32 = 17;
    /// Bits of an event word with the next port in the queue.
    EVTCHN_FIFO_LINK_MASK: u32 = 0x1_ffff;
    EVTCHN_FIFO_NR_CHANNELS: u32 = 0x2_0000;
}

abi_structs! {
    "event_channel.h";
    /// Allocates a port for a remote domain to bind to.
    AllocUnbound = "struct evtchn_alloc_unbound" {
        /// IN: domain that gets the port.
        dom: u16,
        /// IN: domain that may bind to it.
        remote_dom: u16,
        /// OUT.
        port: u32,
    }

    /// Binds a local port to a remote domain's unbound port.
    BindInterdomain = "struct evtchn_bind_interdomain" {
        remote_dom: u16,
        _gap0: [u8; 2],
        remote_port: u32,
        /// OUT.
        local_port: u32,
    }

    /// Binds a virtual interrupt to a port.
    BindVirq = "struct evtchn_bind_virq" {
        /// `VIRQ_*`.
        virq: u32,
        vcpu: u32,
        /// OUT.
        port: u32,
    }

    /// Binds a physical interrupt to a port.
    BindPirq = "struct evtchn_bind_pirq" {
        pirq: u32,
        /// `BIND_PIRQ__WILL_SHARE`.
        flags: u32,
        /// OUT.
        port: u32,
    }

    /// Allocates a port for interprocessor notification.
    BindIpi = "struct evtchn_bind_ipi" {
        vcpu: u32,
        /// OUT.
        port: u32,
    }

    /// Closes a port.
    Close = "struct evtchn_close" {
        port: u32,
    }

    /// Sends an event.
    Send = "struct evtchn_send" {
        port: u32,
    }

    /// An unbound port waits for this domain.
    StatusUnbound = "__typeof__(((struct evtchn_status *)0)->u.unbound)" {
        dom: u16,
    }

    /// The other end of an interdomain port.
    StatusInterdomain = "__typeof__(((struct evtchn_status *)0)->u.interdomain)" {
        dom: u16,
        _gap0: [u8; 2],
        port: u32,
    }

    /// Tells what a port is bound to.
    Status = "struct evtchn_status" {
        dom: u16,
        _gap0: [u8; 2],
        port: u32,
        /// OUT: `EVTCHNSTAT_*`.
        status: u32,
        /// OUT: vCPU that the port notifies.
        vcpu: u32,
        /// `StatusUnbound`, `StatusInterdomain`, or the number of the PIRQ or VIRQ (`u32`).
        u: Union<u32, 2>,
    }

    /// Chooses the vCPU that a port notifies.
    BindVcpu = "struct evtchn_bind_vcpu" {
        port: u32,
        vcpu: u32,
    }

    /// Unmasks a port and delivers what is pending.
    Unmask = "struct evtchn_unmask" {
        port: u32,
    }

    /// Closes all ports of a domain.
    Reset = "struct evtchn_reset" {
        dom: u16,
    }

    /// Sets up a vCPU's control block and switches the domain to the FIFO layout.
    InitControl = "struct evtchn_init_control" {
        /// Frame of the control block.
        control_gfn: u64,
        /// Offset of the control block in its frame, in bytes.
        offset: u32,
        vcpu: u32,
        /// OUT: `EVTCHN_FIFO_LINK_BITS`.
        link_bits: u8,
        _pad: [u8; 7],
    }

    /// Adds a page of event words.
    ExpandArray = "struct evtchn_expand_array" {
        array_gfn: u64,
    }

    /// Chooses a port's queue.
    SetPriority = "struct evtchn_set_priority" {
        port: u32,
        priority: u32,
    }

    /// Envelope of the old `HYPERVISOR_event_channel_op_compat`.
    EvtchnOp = "struct evtchn_op" {
        cmd: u32,
        u: Union<u32, 6>,
    }

    /// Heads of a vCPU's event queues, shared with the guest.
    FifoControlBlock = "struct evtchn_fifo_control_block" {
        /// Bit n: queue n has events.
        ready: u32,
        _rsvd: u32,
        /// Port at the head of each queue.
        head: [u32; 16],
    }
}
