//! Error numbers of the interface (public/errno.h). They equal Linux's.

use core::fmt;

/// Result of an operation that answers with an error number.
pub type Result<T> = core::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        /// Why an operation was refused. A hypercall returns it negated.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(i32)]
        pub enum Errno {
            $(#[doc = $text] $name = $value,)*
        }

        impl Errno {
            /// What the number means, in a few words.
            pub const fn text(self) -> &'static str {
                match self { $(Errno::$name => $text,)* }
            }
        }
    };
}

errnos! {
    PERM = 1, "operation not permitted";
    NOENT = 2, "no such entry";
    SRCH = 3, "no such domain";
    INTR = 4, "interrupted";
    IO = 5, "input or output error";
    NXIO = 6, "no such device or address";
    TOOBIG = 7, "argument list too long";
    NOEXEC = 8, "bad executable format";
    BADF = 9, "bad descriptor";
    CHILD = 10, "no child";
    AGAIN = 11, "try again";
    NOMEM = 12, "out of memory";
    ACCES = 13, "access denied";
    FAULT = 14, "bad address";
    BUSY = 16, "busy";
    EXIST = 17, "already exists";
    XDEV = 18, "cross-device";
    NODEV = 19, "no such device";
    NOTDIR = 20, "not a directory";
    ISDIR = 21, "is a directory";
    INVAL = 22, "invalid argument";
    NFILE = 23, "too many files";
    MFILE = 24, "too many open files";
    NOSPC = 28, "no space left";
    ROFS = 30, "read-only";
    MLINK = 31, "too many links";
    DOM = 33, "argument out of domain";
    RANGE = 34, "result not representable";
    DEADLK = 35, "deadlock";
    NAMETOOLONG = 36, "name too long";
    NOLCK = 37, "no lock";
    NOSYS = 38, "not implemented";
    NOTEMPTY = 39, "not empty";
    NODATA = 61, "no data";
    TIME = 62, "timed out";
    BADMSG = 74, "bad message";
    OVERFLOW = 75, "value too large";
    ILSEQ = 84, "illegal sequence";
    RESTART = 85, "to be restarted";
    NOTSOCK = 88, "not a socket";
    MSGSIZE = 90, "message too long";
    OPNOTSUPP = 95, "not supported";
    ADDRINUSE = 98, "address in use";
    ADDRNOTAVAIL = 99, "address not available";
    NOBUFS = 105, "buffer too small";
    ISCONN = 106, "connected";
    NOTCONN = 107, "not connected";
    TIMEDOUT = 110, "timed out";
    CONNREFUSED = 111, "connection refused";
}

impl Errno {
    /// The value a hypercall returns for this error.
    pub const fn as_return(self) -> i64 {
        -(self as i32 as i64)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), *self as i32)
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_returns_the_number_negated() {
        assert_eq!(Errno::NOSYS as i32, 38);
        assert_eq!(Errno::NOSYS.as_return(), -38);
    }
}
