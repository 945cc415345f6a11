//! One line in the log for each toolstack call that is refused.

/// Logs why a toolstack call was refused and gives its error: `refuse!(caller, INVAL, "createdomain: max_vcpus {} is 0", n)`.
#[macro_export]
macro_rules! refuse {
    ($caller:expr, $errno:ident, $($text:tt)+) => {{
        $caller.hypervisor.log_refusal($caller.domain.id, types::Errno::$errno, format_args!($($text)+));
        types::Errno::$errno
    }};
}
