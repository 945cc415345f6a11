//! Control registers, RFLAGS and exceptions.
