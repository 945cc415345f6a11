//! arch-x86/hvm/save.h: records of the interval timer, the real-time clock, the HPET and the ACPI timer.

abi_constants! {
    "arch-x86/hvm/save.h";
    /// Registers of the real-time clock; the bytes behind them are the device model's.
    RTC_CMOS_SIZE: usize = 14;
    /// Timers of the HPET.
    HPET_TIMER_NUM: usize = 3;

    /// Record type of [`HvmHwPit`].
    HVM_SAVE_CODE_PIT: u16 = 10 => "HVM_SAVE_CODE(PIT)";
    /// Record type of [`HvmHwRtc`].
    HVM_SAVE_CODE_RTC: u16 = 11 => "HVM_SAVE_CODE(RTC)";
    /// Record type of [`HvmHwHpet`].
    HVM_SAVE_CODE_HPET: u16 = 12 => "HVM_SAVE_CODE(HPET)";
    /// Record type of [`HvmHwPmtimer`].
    HVM_SAVE_CODE_PMTIMER: u16 = 13 => "HVM_SAVE_CODE(PMTIMER)";
}

abi_structs! {
    "arch-x86/hvm/save.h";
    /// One counter of the interval timer.
    HvmHwPitChannel = "struct hvm_hw_pit_channel" {
        /// Ticks that were loaded, up to 65536.
        count: u32,
        latched_count: u16,
        /// Which bytes of the latched count are still to be read, as `rw_mode`; 0 when none is latched.
        count_latched: u8,
        status_latched: u8,
        status: u8,
        /// 1 low byte, 2 high byte, 3 and 4 first and second byte of a word.
        read_state: u8,
        write_state: u8,
        write_latch: u8,
        /// 1 low byte, 2 high byte, 3 both.
        rw_mode: u8,
        mode: u8,
        bcd: u8,
        gate: u8,
    }

    /// The interval timer (8254).
    HvmHwPit = "struct hvm_hw_pit" {
        channels: [HvmHwPitChannel; 3],
        speaker_data_on: u32,
        pad0: u32,
    }

    /// The real-time clock (MC146818).
    HvmHwRtc = "struct hvm_hw_rtc" {
        cmos_data: [u8; RTC_CMOS_SIZE],
        /// Register that port 0x71 reads and writes.
        cmos_index: u8,
        pad0: u8,
        rtc_offset: i64,
    }

    /// One timer of the HPET.
    HvmHwHpetTimer = "__typeof__(((struct hvm_hw_hpet *)0)->timers[0])" {
        config: u64,
        /// The comparator, 64 bits of it even where the timer has 32.
        cmp: u64,
        fsb: u64,
        res4: u64,
    }

    /// The high precision event timer.
    HvmHwHpet = "struct hvm_hw_hpet" {
        capability: u64,
        res0: u64,
        config: u64,
        res1: u64,
        isr: u64,
        res2: [u64; 25],
        /// Main counter.
        mc64: u64,
        res3: u64,
        timers: [HvmHwHpetTimer; HPET_TIMER_NUM],
        res5: [u64; 4 * (24 - HPET_TIMER_NUM)],
        /// Ticks between two interrupts of each periodic timer.
        period: [u64; HPET_TIMER_NUM],
    }

    /// The ACPI timer and the event registers.
    HvmHwPmtimer = "struct hvm_hw_pmtimer" {
        tmr_val: u32,
        pm1a_sts: u16,
        pm1a_en: u16,
    }
}
