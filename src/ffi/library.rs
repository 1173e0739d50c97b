//! Library: its version, the codes of failures and their texts.

use std::ffi::{c_char, c_int};
use std::fmt::{self, Write as _};

use crate::error::{Code, Error};
use crate::ffi::plain::Plain;

/// Major version of this header.
pub const SHMSLOT_VERSION_MAJOR: u32 = 0;
/// Minor version of this header.
pub const SHMSLOT_VERSION_MINOR: u32 = 2;
/// Patch version of this header.
pub const SHMSLOT_VERSION_PATCH: u32 = 0;
/// Version of this header, as shmslot_version() returns that of the library: major * 65536 + minor
/// * 256 + patch.
pub const SHMSLOT_VERSION: u32 = 512;
/// Success. Every other success is positive.
pub const SHMSLOT_OK: i32 = 0;

const fn number(digits: &str) -> u32 {
    let (bytes, mut value, mut i) = (digits.as_bytes(), 0, 0);
    #[allow(clippy::indexing_slicing)] // at compile time
    while i < bytes.len() {
        value = value * 10 + (bytes[i] - b'0') as u32;
        i += 1;
    }
    value
}

/// What a failed call can tell beside its code. Owned by the caller; written on failure only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_error {
    /// The code that the call returned.
    pub code: i32,
    /// The kernel's error number (errno), or 0.
    pub os_errno: i32,
    /// Those in the text, in their order, or 0; docs/guide.md says which they are for each code.
    pub numbers: [u64; 3],
    /// What it was about and what to do; ends in a NUL.
    pub text: [c_char; 512],
}

/// Bytes of a text, with its NUL.
const TEXT: usize = 512;

impl From<&Error> for shmslot_error {
    fn from(error: &Error) -> shmslot_error {
        let mut text = Text { bytes: [0; TEXT], len: 0 };
        // It fails where the text is full: what came before that stays.
        let _ = write!(text, "{error}");
        shmslot_error {
            code: error.code().number(),
            os_errno: error.os_errno(),
            numbers: error.numbers(),
            text: text.bytes,
        }
    }
}

/// A text for C. What is too long is cut between two characters.
struct Text {
    bytes: [c_char; TEXT],
    len: usize,
}

impl fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = TEXT - 1 - self.len;
        let border = (0..=room.min(part.len())).rev().find(|end| part.is_char_boundary(*end));
        let fits = part.get(..border.unwrap_or(0)).unwrap_or_default();
        for (target, byte) in self.bytes.iter_mut().skip(self.len).zip(fits.bytes()) {
            *target = byte as c_char;
        }
        self.len += fits.len();
        if fits.len() == part.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

// SAFETY: integers only.
unsafe impl Plain for shmslot_error {}

/// The version of the library that is running: major * 65536 + minor * 256 + patch. Compare it with
/// SHMSLOT_VERSION, which is the version of the header. Threads: any. Since 0.2.
#[unsafe(no_mangle)]
pub extern "C" fn shmslot_version() -> u32 {
    // The header generator needs the numbers spelled out.
    const {
        assert!(SHMSLOT_VERSION_MAJOR == number(env!("CARGO_PKG_VERSION_MAJOR")));
        assert!(SHMSLOT_VERSION_MINOR == number(env!("CARGO_PKG_VERSION_MINOR")));
        assert!(SHMSLOT_VERSION_PATCH == number(env!("CARGO_PKG_VERSION_PATCH")));
        assert!(
            SHMSLOT_VERSION
                == SHMSLOT_VERSION_MAJOR << 16 | SHMSLOT_VERSION_MINOR << 8 | SHMSLOT_VERSION_PATCH
        );
    }
    SHMSLOT_VERSION
}

/// What a code means and what to do, in one line; static, and never NULL, whatever the number.
/// Threads: any. Since 0.2.
#[unsafe(no_mangle)]
pub extern "C" fn shmslot_strerror(code: c_int) -> *const c_char {
    match Code::from_number(code) {
        Some(code) => code.c_text().as_ptr(),
        None if code >= SHMSLOT_OK => c"success".as_ptr(),
        None => c"a code of a newer version of shmslot; see its header".as_ptr(),
    }
}
