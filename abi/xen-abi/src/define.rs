//! The macros that define the interface and, from the same text, the tables that the check against the C headers walks.

/// Defines structures with the C layout, plain-bytes traits, and a `LAYOUT` table of their sizes and member offsets.
macro_rules! abi_structs {
    ($header:literal; $(
        $(#[$meta:meta])*
        $name:ident = $c:literal { $( $(#[$field_meta:meta])* $field:ident: $type:ty, )* }
    )*) => {
        $(
            $(#[$meta])*
            ///
            #[doc = concat!("C: `", $c, "` in ", $header, ".")]
            #[derive(
                Clone,
                Copy,
                Debug,
                PartialEq,
                Eq,
                zerocopy::FromBytes,
                zerocopy::IntoBytes,
                zerocopy::Immutable,
                zerocopy::KnownLayout,
            )]
            #[repr(C)]
            pub struct $name {
                $(
                    $(#[$field_meta])*
                    #[doc = concat!("Member `", stringify!($field), "`.")]
                    pub $field: $type,
                )*
            }
        )*

        /// Sizes and member offsets, for the check against the C headers.
        pub(crate) const LAYOUT: &[$crate::layout::StructLayout] = &[$(
            $crate::layout::StructLayout {
                c_name: $c,
                rust_name: stringify!($name),
                size: core::mem::size_of::<$name>(),
                align: core::mem::align_of::<$name>(),
                members: &[$((
                    stringify!($field),
                    core::mem::offset_of!($name, $field),
                    core::mem::size_of::<$type>(),
                ),)*],
            },
        )*];
    };
}

/// Defines numbers and a `CONSTANTS` table of their values under their C names.
macro_rules! abi_constants {
    ($header:literal; $( $(#[$meta:meta])* $name:ident: $type:ty = $value:expr $(=> $c:literal)?; )*) => {
        $(
            $(#[$meta])*
            #[doc = concat!("(C: `", abi_constants!(@c $name $($c)?), "` in ", $header, ")")]
            pub const $name: $type = $value;
        )*

        /// Values under their C names, for the check against the C headers.
        pub(crate) const CONSTANTS: &[$crate::layout::Constant] = &[$(
            $crate::layout::Constant { c_name: abi_constants!(@c $name $($c)?), value: $name as i128 },
        )*];
    };
    (@c $name:ident) => { stringify!($name) };
    (@c $name:ident $c:literal) => { $c };
}
