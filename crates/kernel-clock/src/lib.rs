//! The kernel's time of day with the kernel's own bound of its error.
//!
//! A daemon that disciplines the clock (chronyd, ntpd, a PTP client) tells the kernel how far off it may be; the kernel
//! widens that bound by its drift tolerance once a second until the daemon speaks again, and calls the clock
//! unsynchronised when it has not done so for too long. `adjtimex` answers both at once.
//!
//! Invariant: absolute time lies within `error_max` of `time`, provided the daemon's own bound holds. A clock that
//! nobody disciplines has no bound, and so no reading.
//!
//! This crate is the named exception to the workspace's ban on unsafe code: the call fills a structure of the kernel's,
//! and the libraries that the workspace uses wrap neither.

use std::io;

use meridian_types::{Duration, Timestamp};

/// A reading of the kernel's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The time of day.
    pub time: Timestamp,
    /// How far off it may be, either way.
    pub error_max: Duration,
}

/// Why there is no reading.
#[derive(Debug, thiserror::Error)]
pub enum KernelClockError {
    /// Nothing disciplines the clock, or nothing has for too long.
    #[error("the kernel's clock is not synchronised: let chronyd, ntpd or a PTP client discipline it")]
    Unsynchronised,
    /// The call was refused.
    #[error("adjtimex: {0}")]
    Refused(io::Error),
}

/// Reads the clock.
///
/// # Errors
/// The clock has no bound, or can't be read.
pub fn read() -> Result<Reading, KernelClockError> {
    // SAFETY: `timex` is a C structure of integers and arrays of integers, for which all zeroes is a value.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure of the kernel's layout that outlives the call; `modes` is zero, so that the
    // call only reads the clock.
    let code = unsafe { libc::adjtimex(&raw mut state) };
    if code < 0 {
        return Err(KernelClockError::Refused(io::Error::last_os_error()));
    }
    interpret(code, &state)
}

/// What the kernel's answer means.
fn interpret(code: libc::c_int, state: &libc::timex) -> Result<Reading, KernelClockError> {
    if code == libc::TIME_ERROR || state.status & (libc::STA_UNSYNC | libc::STA_CLOCKERR) != 0 {
        return Err(KernelClockError::Unsynchronised);
    }
    let whole = |n: i64| u64::try_from(n).unwrap_or_default();
    let fraction = whole(state.time.tv_usec);
    let fraction = if state.status & libc::STA_NANO != 0 { fraction } else { fraction * 1_000 };
    let time = Timestamp::from_nanos(whole(state.time.tv_sec) * 1_000_000_000 + fraction);
    // The bound grows in steps of a second: up to one step is still to come. The tolerance is in 2^-16 ppm.
    let tolerance_ppm = whole(state.tolerance).div_ceil(1 << 16);
    let step = Duration::from_nanos(tolerance_ppm * 1_000);
    let error_max = Duration::from_micros(whole(state.maxerror)) + step;
    Ok(Reading { time, error_max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: libc::c_int) -> libc::timex {
        // SAFETY: as in `read`.
        let mut state: libc::timex = unsafe { std::mem::zeroed() };
        state.status = status;
        state.time.tv_sec = 1_800_000_000;
        state.time.tv_usec = 250_000;
        state.maxerror = 1_500;
        state.tolerance = 500 << 16;
        state
    }

    #[test]
    fn the_bound_holds_until_the_kernel_raises_it() {
        let reading = interpret(libc::TIME_OK, &state(libc::STA_PLL)).expect("it is synchronised");
        assert_eq!(reading.time, Timestamp::from_nanos(1_800_000_000_250_000_000));
        assert_eq!(reading.error_max, Duration::from_micros(2_000));
    }

    #[test]
    fn nanoseconds_are_told_by_the_status() {
        let reading = interpret(libc::TIME_OK, &state(libc::STA_NANO)).expect("it is synchronised");
        assert_eq!(reading.time, Timestamp::from_nanos(1_800_000_000_000_250_000));
    }

    #[test]
    fn a_clock_that_nobody_disciplines_has_no_bound() {
        let unsynchronised = |r: Result<Reading, _>| matches!(r, Err(KernelClockError::Unsynchronised));
        assert!(unsynchronised(interpret(libc::TIME_ERROR, &state(libc::STA_PLL))));
        assert!(unsynchronised(interpret(libc::TIME_OK, &state(libc::STA_UNSYNC))));
        assert!(unsynchronised(interpret(libc::TIME_OK, &state(libc::STA_CLOCKERR))));
    }

    #[test]
    fn the_call_reads_this_machine() {
        match read() {
            Ok(reading) => assert!(reading.time > Timestamp::from_nanos(1_700_000_000_000_000_000)),
            Err(error) => assert!(matches!(error, KernelClockError::Unsynchronised), "{error}"),
        }
    }
}
