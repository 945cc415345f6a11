//! What came of a case, and how it is printed.

use core::fmt;

/// What a hypervisor answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A hypercall returned this; negative values are errnos.
    Code(i64),
    /// A trap with this vector and error code.
    Fault(u32, u32),
    /// A register or word has this value.
    Hex(u64),
    /// Something else.
    Text(&'static str),
}

/// `Text("yes")` or `Text("no")`.
pub fn yes(condition: bool) -> Outcome {
    Outcome::Text(if condition { "yes" } else { "no" })
}

/// `positive` for values above zero that differ from run to run.
pub fn sign(code: i64) -> Outcome {
    if code > 0 { Outcome::Text("positive") } else { Outcome::Code(code) }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Outcome::Code(code) => match errno(code) {
                Some(name) => f.write_str(name),
                None => write!(f, "{code}"),
            },
            Outcome::Fault(vector, error) => match (fault(vector), error) {
                (Some(name), 0) => f.write_str(name),
                (Some(name), error) => write!(f, "{name}({error:#x})"),
                (None, error) => write!(f, "trap {vector:#x}({error:#x})"),
            },
            Outcome::Hex(value) => write!(f, "{value:#x}"),
            Outcome::Text(text) => f.write_str(text),
        }
    }
}

/// Names of exceptions.
fn fault(vector: u32) -> Option<&'static str> {
    const NAMES: [&str; 20] = [
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "#9", "#TS", "#NP", "#SS", "#GP", "#PF", "#15",
        "#MF", "#AC", "#MC", "#XM",
    ];
    NAMES.get(vector as usize).copied()
}

/// Names of errnos (errno.h), for what a hypercall returned.
fn errno(code: i64) -> Option<&'static str> {
    const NAMES: &[(i64, &str)] = &[
        (1, "EPERM"),
        (2, "ENOENT"),
        (3, "ESRCH"),
        (4, "EINTR"),
        (5, "EIO"),
        (6, "ENXIO"),
        (7, "E2BIG"),
        (8, "ENOEXEC"),
        (9, "EBADF"),
        (10, "ECHILD"),
        (11, "EAGAIN"),
        (12, "ENOMEM"),
        (13, "EACCES"),
        (14, "EFAULT"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (18, "EXDEV"),
        (19, "ENODEV"),
        (22, "EINVAL"),
        (23, "ENFILE"),
        (24, "EMFILE"),
        (28, "ENOSPC"),
        (30, "EROFS"),
        (33, "EDOM"),
        (34, "ERANGE"),
        (35, "EDEADLK"),
        (36, "ENAMETOOLONG"),
        (38, "ENOSYS"),
        (61, "ENODATA"),
        (62, "ETIME"),
        (75, "EOVERFLOW"),
        (84, "EILSEQ"),
        (85, "ERESTART"),
        (95, "EOPNOTSUPP"),
        (98, "EADDRINUSE"),
        (99, "EADDRNOTAVAIL"),
        (105, "ENOBUFS"),
        (106, "EISCONN"),
        (107, "ENOTCONN"),
        (110, "ETIMEDOUT"),
    ];
    NAMES.iter().find(|(n, _)| *n == code.wrapping_neg()).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_names() {
        let shown = |o: Outcome| format!("{o}");
        assert_eq!(shown(Outcome::Code(-22)), "EINVAL");
        assert_eq!(shown(Outcome::Code(0)), "0");
        assert_eq!(shown(Outcome::Code(22)), "22");
        assert_eq!(shown(Outcome::Code(-1000)), "-1000");
        assert_eq!(shown(Outcome::Fault(13, 0)), "#GP");
        assert_eq!(shown(Outcome::Fault(14, 7)), "#PF(0x7)");
        assert_eq!(shown(Outcome::Fault(0x80, 0)), "trap 0x80(0x0)");
        assert_eq!(shown(sign(7)), "positive");
        assert_eq!(shown(sign(-14)), "EFAULT");
    }
}
