//! callback.h: `HYPERVISOR_callback_op`.

abi_constants! {
    "callback.h";
    CALLBACKTYPE_EVENT: u16 = 0 => "CALLBACKTYPE_event";
    CALLBACKTYPE_FAILSAFE: u16 = 1 => "CALLBACKTYPE_failsafe";
    CALLBACKTYPE_SYSCALL: u16 = 2 => "CALLBACKTYPE_syscall";
    CALLBACKTYPE_SYSENTER_DEPRECATED: u16 = 3 => "CALLBACKTYPE_sysenter_deprecated";
    CALLBACKTYPE_NMI: u16 = 4 => "CALLBACKTYPE_nmi";
    CALLBACKTYPE_SYSENTER: u16 = 5 => "CALLBACKTYPE_sysenter";
    CALLBACKTYPE_SYSCALL32: u16 = 7 => "CALLBACKTYPE_syscall32";

    CALLBACKF_MASK_EVENTS: u16 = 1 => "CALLBACKF_mask_events";

    CALLBACKOP_REGISTER: u32 = 0 => "CALLBACKOP_register";
    CALLBACKOP_UNREGISTER: u32 = 1 => "CALLBACKOP_unregister";
}

abi_structs! {
    "callback.h";
    /// A callback to register.
    Register = "struct callback_register" {
        /// `CALLBACKTYPE_*`.
        r#type: u16,
        /// `CALLBACKF_*`.
        flags: u16,
        _gap0: [u8; 4],
        address: u64,
    }

    /// A callback to remove.
    Unregister = "struct callback_unregister" {
        /// `CALLBACKTYPE_*`.
        r#type: u16,
        _unused: u16,
    }
}
