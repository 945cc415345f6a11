//! version.h: `HYPERVISOR_xen_version`.

abi_constants! {
    "version.h";
    XENVER_VERSION: u32 = 0 => "XENVER_version";
    XENVER_EXTRAVERSION: u32 = 1 => "XENVER_extraversion";

    XEN_EXTRAVERSION_LEN: u64 = 16;

    XENVER_COMPILE_INFO: u32 = 2 => "XENVER_compile_info";
    XENVER_CAPABILITIES: u32 = 3 => "XENVER_capabilities";

    XEN_CAPABILITIES_INFO_LEN: u64 = 1024;

    XENVER_CHANGESET: u32 = 4 => "XENVER_changeset";

    XEN_CHANGESET_INFO_LEN: u64 = 64;

    XENVER_PLATFORM_PARAMETERS: u32 = 5 => "XENVER_platform_parameters";
    XENVER_GET_FEATURES: u32 = 6 => "XENVER_get_features";
    XENVER_PAGESIZE: u32 = 7 => "XENVER_pagesize";
    XENVER_GUEST_HANDLE: u32 = 8 => "XENVER_guest_handle";
    XENVER_COMMANDLINE: u32 = 9 => "XENVER_commandline";
    XENVER_BUILD_ID: u32 = 10 => "XENVER_build_id";
    XENVER_EXTRAVERSION2: u32 = 11 => "XENVER_extraversion2";
    XENVER_CAPABILITIES2: u32 = 12 => "XENVER_capabilities2";
    XENVER_CHANGESET2: u32 = 13 => "XENVER_changeset2";
    XENVER_COMMANDLINE2: u32 = 14 => "XENVER_commandline2";
}

abi_structs! {
    "version.h";
    /// Who built the hypervisor, when and how; NUL-terminated strings.
    CompileInfo = "struct xen_compile_info" {
        compiler: [u8; 64],
        compile_by: [u8; 16],
        compile_domain: [u8; 32],
        compile_date: [u8; 32],
    }

    /// The start of the hypervisor's address range.
    PlatformParameters = "struct xen_platform_parameters" {
        virt_start: u64,
    }

    /// One word of feature bits.
    FeatureInfo = "struct xen_feature_info" {
        /// IN: which word.
        submap_idx: u32,
        /// OUT: bits 32n to 32n+31 of the features.
        submap: u32,
    }

    /// Head of a build-identity buffer; the bytes follow.
    BuildId = "struct xen_build_id" {
        len: u32,
    }

    /// Head of a buffer for a string of any length; the bytes follow.
    Varbuf = "struct xen_varbuf" {
        len: u32,
    }
}

/// Major version of the interface that this crate describes.
pub const XEN_MAJOR: u32 = 4;
/// Minor version of the interface that this crate describes.
pub const XEN_MINOR: u32 = 20;
/// What `XENVER_version` returns.
pub const XEN_VERSION_WORD: u32 = (XEN_MAJOR << 16) | XEN_MINOR;
/// Size of the command line that `XENVER_commandline` returns, in bytes with the NUL.
pub const XEN_COMMANDLINE_LEN: u32 = 1024;
